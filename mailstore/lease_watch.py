"""Closes what a worker has open when the lease of its node is over, whatever renewing it waits for."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from mailstore.clock import Clock, DelayedCall
from mailstore.errors import LeaseOver
from mailstore.lease import LOOK_S, lease_of

log = logging.getLogger("sealbox.nodes")


class LeaseWatch:
    """All methods run on the reactor's thread."""

    def __init__(self, clock: Clock, root: Path, close: Callable[[], Deferred[Any]]) -> None:
        """``close`` is called while there is no lease. Raises as :func:`lease_of`."""
        self._clock = clock
        self._close = close
        self._lease = lease_of(root)
        self._call: DelayedCall | None = None
        if self._lease is not None:
            self._lease.start()
            self._look()

    @property
    def may_serve(self) -> bool:
        """Whether accounts may be open now."""
        return self._lease is None or self._lease.is_held

    def require(self) -> None:
        """Raises LeaseOver: no account may be open now."""
        if not self.may_serve:
            raise LeaseOver("this node's lease is over")

    @property
    def left_s(self) -> float:
        """Seconds until they close, if the lease is not renewed; infinite where there is none."""
        return math.inf if self._lease is None else self._lease.left_s

    def _look(self) -> None:
        assert self._lease is not None, "it is started with one"
        left_s = self._lease.left_s
        if not left_s:
            self._close().addErrback(_failed)
        self._call = self._clock.callLater(max(left_s, LOOK_S), self._look)

    def stop(self) -> None:
        """Look no more."""
        if self._call is not None and self._call.active():
            self._call.cancel()


def _failed(failure: Failure) -> None:
    """The next look closes again what is still open."""
    log.error("closing accounts at the end of the lease failed: %s", type(failure.value).__name__)
