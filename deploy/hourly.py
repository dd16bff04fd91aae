"""Work that is due at every full hour of the clock, so that what ends with a day ends when the day does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred

HOUR_S = 3600
_AFTER_S = 1.0
"""Seconds after the hour: a timer that is early by a fraction must not find the old day."""


class Hourly:
    """Calls ``work`` at :meth:`start` and a second after each full hour (UTC), never twice at a time.

    ``reactor`` tells the time in seconds since the epoch. ``work`` handles its own failures.
    """

    def __init__(self, reactor: Any, work: Callable[[], Deferred[Any]]) -> None:
        self._reactor = reactor
        self._work = work
        self._next: Any = None
        self._stopped = False

    def start(self) -> None:
        """Work now, and from now on."""
        self._next = None
        self._work().addBoth(self._wait)

    def stop(self) -> None:
        """Do not begin again; what has begun goes on."""
        self._stopped = True
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def _wait(self, _result: object) -> None:
        if not self._stopped:
            # From the clock each time: it may have been set, and the machine may have slept.
            rest_s = HOUR_S - self._reactor.seconds() % HOUR_S
            self._next = self._reactor.callLater(rest_s + _AFTER_S, self.start)
