"""One worker process: a copy of the supervisor (see ``deploy.forking``) that serves the inherited sockets."""

from __future__ import annotations

import gc
import logging
import signal
import socket
from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from deploy.config import Config, ConfigError, load
from deploy.forking import ControlPipe, Inherited
from deploy.logs import setup
from deploy.metrics.folder import begin, folder_for, slot_name
from deploy.metrics.meters import Meters
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
        self._reactor.addReader(ControlPipe(self._inherited.control_fd, self.end))
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


def _nothing() -> None:
    """Ctrl-C reaches the whole process group; the supervisor decides what it means."""


def _meters(config: Config, number: int, *, again: bool) -> Meters | None:
    """What this worker counts with; None where nobody wants to know, or where there is no room for it."""
    if not config.metrics.listen:
        return None
    try:
        begin(folder_for(config.data), slot_name(number))
    except OSError as error:
        log.error("this worker counts nothing for the metrics (errno %s)", error.errno)
        return None
    meters = Meters()
    if again:
        meters.restarts.inc()
    return meters


def run(config: Config, number: int, again: bool, sockets: Sockets, inherited: Inherited) -> int:
    """Run one worker; the process's exit code. ``again``: it takes the place of one that has died."""

    def make(reactor: Any) -> Serving:
        return Service(reactor, config, number, _meters(config, number, again=again))

    return serve(config, f"worker-{number}", make, sockets, inherited)


def serve(config: Config, name: str, make: MakeService, sockets: Sockets, inherited: Inherited) -> int:
    """Run one process that serves; its exit code. ``name`` is for the log."""
    setup(config.log_settings, name, in_thread=True)
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
