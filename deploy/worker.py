"""One worker process: a copy of the supervisor (see ``deploy.forking``) that serves the inherited sockets."""

from __future__ import annotations

import gc
import logging
import os
import signal
import socket
from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from deploy.config import Config, ConfigError, load
from deploy.forking import Inherited
from deploy.logs import setup
from deploy.service import Service
from deploy.sockets import ServiceName
from mailstore.errors import StoreError
from mailstore.keys import process_hardening

log = logging.getLogger("sealbox.worker")

GC_THRESHOLD = 10_000
"""New objects after which the interpreter looks for garbage in circles; its own 700 suit small programs."""


Sockets = list[tuple[ServiceName, socket.socket]]
"""What a worker listens on."""


class Serving(Protocol):
    """What is inside a process that serves."""

    async def start(self, listening: Sockets) -> None:
        """Accept connections."""

    def reload(self, config: Config) -> None:
        """Use another configuration from now on; one that cannot be used changes nothing."""

    async def stop(self) -> None:
        """Stop accepting, and end everything in order."""


MakeService = Callable[[Any], Serving]
"""Makes what is inside, on a reactor. May raise StoreError, OSError."""


class Worker:
    """The process around what serves: signals, control pipe, orderly shutdown."""

    def __init__(
        self, reactor: Any, config: Config, make: MakeService, sockets: Sockets, inherited: Inherited
    ) -> None:
        self._reactor = reactor
        self._config = config
        self._sockets = sockets
        self._inherited = inherited
        self._service = make(reactor)
        self._ending: Deferred[None] | None = None
        self.exit_code = 0

    def start(self) -> None:
        """Adopt the sockets and report that the worker is ready."""
        for number, action in (
            (signal.SIGTERM, self.end),
            (signal.SIGINT, _nothing),
            (signal.SIGHUP, self._reload),
        ):
            signal.signal(number, self._handler(action))
        self._reactor.addReader(_ControlPipe(self._inherited.control_fd, self.end))
        Deferred.fromCoroutine(self._serve()).addCallbacks(self._ready, self._cannot_start)

    async def _serve(self) -> None:
        await self._service.start(self._sockets)

    def _handler(self, action: Callable[[], object]) -> Callable[[int, object], None]:
        # Twisted wakes up for signals; the work itself belongs on the reactor, not in the handler.
        return lambda _number, _frame: self._reactor.callFromThread(action)

    def _ready(self, _result: None) -> None:
        self._inherited.tell_ready()

    def _cannot_start(self, failure: Failure) -> None:
        log.error("cannot start: %s", failure.type.__name__ if failure.type else "unknown")
        self.exit_code = 1
        self.end()

    def _reload(self) -> None:
        try:
            self._service.reload(load(self._config.path))
        except ConfigError as exc:
            for mistake in exc.mistakes:
                log.error("configuration not reloaded: %s", mistake)

    def end(self) -> None:
        """Stop accepting, say goodbye to clients, finish running work, close every database."""
        if self._ending is None:
            self._ending = Deferred.fromCoroutine(self._service.stop())
            self._ending.addErrback(self._stop_failed)
            self._ending.addBoth(lambda _result: self._reactor.stop())

    def _stop_failed(self, failure: Failure) -> None:
        log.error("stopping failed: %s", failure.type.__name__ if failure.type else "unknown")
        self.exit_code = 1


class _ControlPipe:
    """Becomes readable (end of file) when the supervisor is gone."""

    def __init__(self, descriptor: int, gone: Callable[[], None]) -> None:
        self._descriptor = descriptor
        self._gone = gone

    def fileno(self) -> int:
        """The inherited descriptor."""
        return self._descriptor

    def doRead(self) -> Failure | None:  # noqa: N802  # Twisted's name (IReadDescriptor)
        """End of file; nobody writes into the pipe."""
        return None if os.read(self._descriptor, 64) else Failure(EOFError())

    def connectionLost(self, _reason: Failure) -> None:  # noqa: N802  # Twisted's name
        """End of file: epoll reports it as a hang-up, without asking ``doRead`` first."""
        self._gone()

    def logPrefix(self) -> str:  # noqa: N802  # Twisted's name
        """For Twisted's log."""
        return "control"


def _nothing() -> None:
    """Ctrl-C reaches the whole process group; the supervisor decides what it means."""


def run(config: Config, number: int, sockets: Sockets, inherited: Inherited) -> int:
    """Run one worker; the process's exit code."""
    return serve(
        config, f"worker-{number}", lambda reactor: Service(reactor, config, number), sockets, inherited
    )


def serve(config: Config, name: str, make: MakeService, sockets: Sockets, inherited: Inherited) -> int:
    """Run one process that serves; its exit code. ``name`` is for the log."""
    setup(config.log_level, name)
    process_hardening()
    # Imported late: this makes the reactor, and the supervisor's is another one.
    from twisted.internet import reactor as installed

    reactor: Any = installed
    try:
        worker = Worker(reactor, config, make, sockets, inherited)
    except (StoreError, OSError) as error:
        # No traceback: the operator has to act, and its text may contain what must not be logged.
        errno = f" (errno {error.errno})" if isinstance(error, OSError) else ""
        log.error("cannot serve %s: %s%s", config.data, type(error).__name__, errno)
        return 1
    reactor.callWhenRunning(worker.start)
    # What is there now stays: looking through it again and again for garbage is a twentieth of the work.
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD)
    reactor.run(installSignalHandlers=True)
    return worker.exit_code
