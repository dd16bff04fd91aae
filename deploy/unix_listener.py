"""Accept connections on a Unix socket that belongs to the supervisor and is shared by the workers.

Twisted's own port would open the socket's file mode to everybody when it starts, and remove its name
when it stops; here the name and the mode are the supervisor's.
"""
# ruff: noqa: N802 - Twisted's own method names

from __future__ import annotations

import logging
import socket
from typing import Any

from twisted.python.failure import Failure

log = logging.getLogger("sealbox.unix")

ACCEPTS_AT_ONCE = 16
"""Connections accepted before other work gets its turn."""

PAUSE_S = 1.0
"""Pause in seconds after the system has refused another descriptor."""


class UnixListener:
    """An IReadDescriptor over an inherited listening socket; ``factory`` may be exchanged."""

    def __init__(self, reactor: Any, listening: socket.socket, factory: Any) -> None:
        self.factory = factory
        self._reactor = reactor
        self._listening = listening
        self._stopped = False
        reactor.addReader(self)

    def fileno(self) -> int:
        """The listening socket."""
        return self._listening.fileno()

    def doRead(self) -> None:
        """Accept waiting connections; another worker may have been faster."""
        for _ in range(ACCEPTS_AT_ONCE):
            try:
                accepted, _peer = self._listening.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as exc:
                log.error("cannot accept a connection (errno %s)", exc.errno)
                self._reactor.removeReader(self)
                self._reactor.callLater(PAUSE_S, self._go_on)
                return
            with accepted:
                accepted.setblocking(False)
                self._reactor.adoptStreamConnection(accepted.fileno(), socket.AF_UNIX, self.factory)

    def _go_on(self) -> None:
        if not self._stopped:
            self._reactor.addReader(self)

    def stopListening(self) -> None:
        """Stop accepting; the socket itself stays open for the other workers."""
        self._stopped = True
        self._reactor.removeReader(self)
        self._listening.close()

    def connectionLost(self, _reason: Failure) -> None:
        """The reactor has let go of the descriptor."""

    def logPrefix(self) -> str:
        """For Twisted's log."""
        return "unix"
