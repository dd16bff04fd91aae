"""The process that serves the metrics, a copy of the supervisor (see ``deploy.forking``).

It has a reactor, no database and no key. Whatever happens to it, mail goes on: it only reads the files that
the workers write to.
"""

from __future__ import annotations

import logging
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure

from deploy.config import Config, ConfigError, load
from deploy.forking import ControlPipe, Inherited
from deploy.logs import setup
from deploy.metrics.facts import Facts, Known
from deploy.metrics.folder import folder_for
from deploy.metrics.http import MetricsFactory, MetricsLimits
from deploy.reloading import reloaded
from mailstore.backlog import Backlog, sealed_everywhere
from mailstore.keys import process_hardening

log = logging.getLogger("sealbox.metrics")

FRESH_S = 0.5
"""Seconds for which an answer is given again: whoever asks all the time costs next to nothing."""


class Exposition:
    """The metrics as text. ``now_s`` is a clock that never goes back."""

    def __init__(self, folder: Path, known: Known, now_s: Callable[[], float] = time.monotonic) -> None:
        self._registry = CollectorRegistry()
        if folder.is_dir():  # there may have been no room for it
            MultiProcessCollector(self._registry, str(folder))  # type: ignore[no-untyped-call]  # it has no types
        self._registry.register(Facts(known))
        self._now_s = now_s
        self._made_s = -FRESH_S
        self._text = b""

    def render(self) -> bytes:
        """All of them. Raises whatever a damaged file makes the library raise."""
        now_s = self._now_s()
        if now_s - self._made_s >= FRESH_S:
            self._text = generate_latest(self._registry)
            self._made_s = now_s
        return self._text


class Process:
    """Serves until SIGTERM, or until the supervisor is gone."""

    def __init__(self, reactor: Any, config: Config, inherited: Inherited) -> None:
        self._reactor = reactor
        self._known = Known(config, time.time())
        self._inherited = inherited
        self._exposition = Exposition(folder_for(config.data), self._known)

    def start(self, sockets: list[socket.socket]) -> None:
        """Accept connections and say that this is ready."""
        config = self._known.config
        for number, action in ((signal.SIGTERM, self.end), (signal.SIGHUP, self._reload)):
            signal.signal(number, self._handler(action))
        self._reactor.addReader(ControlPipe(self._inherited.control_fd, self.end))
        limits = MetricsLimits(
            config.metrics.connections_max, config.metrics.request_max_bytes, config.metrics.timeout_s
        )
        factory = MetricsFactory(self._render, self._reactor, limits)
        for bound in sockets:
            self._reactor.adoptStreamPort(bound.fileno(), bound.family, factory)
            bound.close()
        self._count_sealed()
        self._inherited.tell_ready()

    def end(self) -> None:
        """Stop at once: whoever asks, asks again."""
        if self._reactor.running:
            self._reactor.stop()

    def _handler(self, action: Callable[[], object]) -> Callable[[int, object], None]:
        return lambda _number, _frame: self._reactor.callFromThread(action)

    def _reload(self) -> None:
        try:
            self._known.config = reloaded(self._known.config, load(self._known.config.path))
        except ConfigError:
            return  # the workers say what is wrong with it

    def _render(self) -> bytes:
        try:
            return self._exposition.render()
        except Exception as error:
            log.error("metrics could not be gathered: %s", type(error).__name__)
            raise

    def _count_sealed(self) -> None:
        """Count sealed messages, in a thread: there may be very many accounts."""
        pool = self._reactor.getThreadPool()
        counted = deferToThreadPool(self._reactor, pool, sealed_everywhere, self._known.config.data)
        counted.addCallbacks(self._counted, self._not_counted)
        counted.addBoth(lambda _: self._reactor.callLater(self._pause_s(), self._count_sealed))

    def _pause_s(self) -> float:
        return self._known.config.metrics.sealed_interval_s

    def _counted(self, backlog: Backlog) -> None:
        self._known.backlog = backlog

    def _not_counted(self, failure: Failure) -> None:
        self._known.backlog = None
        log.error("sealed mail could not be counted: %s", failure.type.__name__ if failure.type else "")


def run(config: Config, sockets: list[socket.socket], inherited: Inherited) -> int:
    """Serve the metrics; the process's exit code."""
    setup(config.log_settings, "metrics")
    process_hardening()
    # Imported late: this makes the reactor, and the supervisor's is another one.
    from twisted.internet import reactor as installed

    reactor: Any = installed
    process = Process(reactor, config, inherited)
    reactor.callWhenRunning(process.start, sockets)
    reactor.run(installSignalHandlers=True)
    return 0
