"""The supervisor: binds the sockets, keeps one worker per core, the snapshot job and the HTTPS door alive,
and passes signals on.

It opens no database and holds no key. A worker that dies is replaced: at once when it had served for a while,
after a growing pause when it died young, and within a second in any case when no other is left. Connections
that wait in the shared sockets stay there. When the supervisor itself dies, the workers notice at their
control pipe and end as they would on SIGTERM.
"""

from __future__ import annotations

import logging
import signal
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred

from deploy import door, snapshots, worker
from deploy.config import Config, ConfigError, load
from deploy.forking import Child, Parent, Run
from deploy.metrics import process as metrics
from deploy.metrics.folder import folder_for, forget, slot_name
from deploy.notify import notify
from deploy.reloading import reloaded
from deploy.sockets import DOOR, Listener

log = logging.getLogger("sealbox.supervisor")

Start = Callable[[str, Run, Sequence[int], Parent], Child]
"""As :func:`deploy.forking.start`, on the supervisor's reactor."""

RESTART_PAUSE_FIRST_S = 0.5
RESTART_PAUSE_MAX_S = 30.0
YOUNG_S = 2.0
"""A process that dies before it is ready, or within this many seconds after that, has died young."""

LONGEST_WITHOUT_WORKER_S = 1.0
"""When no worker is left, the next one is started within this many seconds."""

KILL_MARGIN_S = 15.0
"""Seconds beyond the drain time after which a worker that does not end is killed."""


@dataclass(slots=True)
class _Slot:
    """The slot of one worker, the snapshot job, the HTTPS door or the metrics, whichever process is in it."""

    name: str
    number: int | None = None
    """Of a worker; None for the others."""
    deaths: int = 0
    pause_s: float = RESTART_PAUSE_FIRST_S
    process: _Process | None = None
    restart: Any = None
    """The delayed call that fills the slot again."""

    @property
    def serves(self) -> bool:
        """Whether connections are accepted in it."""
        return self.number is not None


class _Process:
    """What is in a slot, from its start to its end."""

    def __init__(self, supervisor: Supervisor, slot: _Slot) -> None:
        self._supervisor = supervisor
        self.slot = slot
        self.child: Child | None = None
        self.ready_s: float | None = None
        """When it was ready, on the reactor's clock."""

    def ready(self) -> None:
        """It does what it was started for."""
        self._supervisor.worker_ready(self)

    def ended(self, code: int) -> None:
        """It is gone, see :class:`deploy.forking.Parent`."""
        self._supervisor.worker_ended(self, code)

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        if self.child is not None:
            self.child.send(number)


class Supervisor:
    """See the module's docstring."""

    def __init__(
        self,
        reactor: Any,
        config: Config,
        listeners: list[Listener],
        on_ready: Callable[[], None],
        start: Start,
        for_metrics: Sequence[socket.socket] = (),
    ) -> None:
        """``for_metrics`` are the bound sockets at which the metrics are served."""
        self._reactor = reactor
        self._config = config
        self._checked = config
        """What new processes get; what is in the file by now may be a mistake."""
        self._start_child = start
        self._listeners = listeners
        self._for_metrics = list(for_metrics)
        self._on_ready = on_ready
        self._announced = False
        self.failed = False
        """Whether the server could not be started."""
        self._slots = [_Slot(f"worker {number}", number) for number in range(config.workers)]
        if config.backup.store:
            self._slots.append(_Slot("snapshots"))
        if config.listen.https:
            self._slots.append(_Slot("door"))
        if self._for_metrics:
            self._slots.append(_Slot("metrics"))
        self._stopping: Deferred[None] | None = None

    def start(self) -> None:
        """Start all workers and take over SIGTERM, SIGINT and SIGHUP."""
        for number, handler in (
            (signal.SIGTERM, self._stop_signal),
            (signal.SIGINT, self._stop_signal),
            (signal.SIGHUP, self._reload_signal),
        ):
            signal.signal(number, handler)
        for slot in self._slots:
            self._spawn(slot)

    def _stop_signal(self, _number: int, _frame: object) -> None:
        self._reactor.callFromThread(self._stop_and_exit)

    def _reload_signal(self, _number: int, _frame: object) -> None:
        self._reactor.callFromThread(self.reload)

    def _stop_and_exit(self) -> None:
        if self._stopping is None:  # the second Ctrl-C asks for the same
            self.stop().addBoth(lambda _result: self._reactor.stop())

    def _give_up(self) -> None:
        self.failed = True
        self._stop_and_exit()

    def _spawn(self, slot: _Slot) -> None:
        if self._stopping is not None:
            return
        process = _Process(self, slot)
        run, sockets = self._task(slot)
        try:
            process.child = self._start_child(slot.name, run, [one.fileno() for one in sockets], process)
        except OSError as exc:
            if not self._announced and slot.serves:
                log.error("%s could not be started (errno %s)", slot.name, exc.errno)
                self._give_up()
                return
            # The machine is out of processes or descriptors; that may pass.
            self._start_again(slot, f"could not be started (errno {exc.errno})", young=True)
        else:
            slot.process = process

    def _task(self, slot: _Slot) -> tuple[Run, list[socket.socket]]:
        """What the process in a slot does, and the sockets that it needs for that."""
        if slot.number is not None:
            again = slot.deaths > 0
            listeners, run = self._of(door=False), partial(worker.run, self._checked, slot.number, again)
        elif slot.name == "door":
            listeners, run = self._of(door=True), partial(door.run, self._checked)
        elif slot.name == "metrics":
            return partial(metrics.run, self._checked, self._for_metrics), self._for_metrics
        else:
            return partial(snapshots.run, self._checked), []
        bound = [(one.service, one.socket) for one in listeners]
        return partial(run, bound), [one.socket for one in listeners]

    def _of(self, *, door: bool) -> list[Listener]:
        """The sockets of the door, or those of the workers."""
        return [one for one in self._listeners if (one.service == DOOR) is door]

    def worker_ready(self, process: _Process) -> None:
        """A worker accepts connections; the first time all do, say so."""
        process.ready_s = self._reactor.seconds()
        # A snapshot job that cannot start (a full disk, a wrong key) must not keep the server down.
        serving = [slot for slot in self._slots if slot.serves]
        if not self._announced and all(slot.process and slot.process.ready_s is not None for slot in serving):
            self._announced = True
            self._on_ready()
        self._tell_status()

    @property
    def is_serving(self) -> bool:
        """Whether a worker accepts connections."""
        return self._serving() > 0

    def _serving(self) -> int:
        """How many workers accept connections."""
        return sum(
            slot.serves and slot.process is not None and slot.process.ready_s is not None
            for slot in self._slots
        )

    def _tell_status(self) -> None:
        if self._announced:
            notify(f"STATUS={self._serving()} of {self._config.workers} workers serve")

    def worker_ended(self, process: _Process, code: int) -> None:
        """A worker is gone: finish the stop, or replace it."""
        slot = process.slot
        slot.process = None
        slot.deaths += 1
        self._forget_numbers(slot)
        self._tell_status()
        if self._stopping is not None:
            if not any(one.process for one in self._slots) and not self._stopping.called:
                self._stopping.callback(None)
            return
        if not self._announced and process.ready_s is None and slot.serves and code >= 0:
            # It gave up by itself: another try would end the same way, and a loop would hide the reason.
            log.error("a worker could not start; its message above says why")
            self._give_up()
            return
        young = process.ready_s is None or self._reactor.seconds() - process.ready_s < YOUNG_S
        self._start_again(slot, _how(code), young=young)

    def _forget_numbers(self, slot: _Slot) -> None:
        if self._for_metrics and slot.number is not None:
            try:
                forget(folder_for(self._config.data), slot_name(slot.number))
            except OSError as exc:
                log.error("the numbers of %s could not be taken back (errno %s)", slot.name, exc.errno)

    def _start_again(self, slot: _Slot, why: str, *, young: bool) -> None:
        """Fill a slot again: at once, or after a pause that grows with each early death."""
        pause_s = slot.pause_s if young else 0.0
        slot.pause_s = min(slot.pause_s * 2, RESTART_PAUSE_MAX_S) if young else RESTART_PAUSE_FIRST_S
        log.error("%s %s; starting another in %.1f s", slot.name, why, pause_s)
        slot.restart = self._reactor.callLater(pause_s, self._spawn, slot)
        serving = [one for one in self._slots if one.serves]
        if any(one.process for one in serving):
            return
        first = min(serving, key=lambda one: float(one.restart.getTime()))
        if first.restart.getTime() - self._reactor.seconds() > LONGEST_WITHOUT_WORKER_S:
            log.error("no worker is left; starting %s in %.1f s", first.name, LONGEST_WITHOUT_WORKER_S)
            first.restart.reset(LONGEST_WITHOUT_WORKER_S)

    def reload(self) -> None:
        """Check the configuration and tell the workers to read it; a wrong one changes nothing."""
        try:
            fresh = load(self._config.path)
        except ConfigError as exc:
            for mistake in exc.mistakes:
                log.error("configuration not reloaded: %s", mistake)
            return
        self._checked = reloaded(self._config, fresh)
        if self._checked != fresh:
            log.warning(
                "a changed data root, changed addresses, worker counts or [metrics] take effect at a restart,"
                " not at a reload"
            )
        for slot in self._slots:
            if slot.process is not None:
                slot.process.send(signal.SIGHUP)

    def stop(self) -> Deferred[None]:
        """Let the workers say goodbye to their clients and stop; kill those that do not."""
        if self._stopping is None:
            self._stopping = Deferred()
            notify("STOPPING=1")
            running = [slot.process for slot in self._slots if slot.process is not None]
            for process in running:
                process.send(signal.SIGTERM)
            if not running:
                self._stopping.callback(None)
            patience = self._reactor.callLater(self._config.drain_timeout_s + KILL_MARGIN_S, self._kill)
            self._stopping.addBoth(lambda result: (patience.active() and patience.cancel(), result)[1])
        waiter: Deferred[None] = Deferred()
        self._stopping.addBoth(_tell, waiter)
        return waiter

    def _kill(self) -> None:
        for slot in self._slots:
            if slot.process is not None:
                log.error("%s is not stopping; killing it", slot.name)
                slot.process.send(signal.SIGKILL)


def _tell(result: None, waiter: Deferred[None]) -> None:
    waiter.callback(None)
    return result


def lock_path(data: Path) -> Path:
    """The file whose flock says that a server runs on this data root."""
    return data / "serve.lock"


def _how(code: int) -> str:
    """How a process ended, for the log."""
    if code < 0:
        return f"was killed by signal {-code}"
    return f"died (status {code})" if code else "ended"
