"""The snapshot process, a copy of the supervisor (see ``deploy.forking``).

It opens no account's database and has no key of an account. No reactor: it sleeps, scans, copies.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import time
from contextlib import ExitStack

from backup.catalogue import ServerFacts
from backup.errors import BackupError
from backup.job import Job, Places
from backup.keypair import read_public_key
from backup.run_request import RunRequest
from backup.state import State
from deploy.config import Config
from deploy.forking import Inherited
from deploy.logs import setup
from deploy.moving import BUSY_S, Moving, moving
from deploy.object_store import open_store
from deploy.snapshot_metrics import write_metrics
from mailstore.account import key_in_use, open_directory
from mailstore.errors import Busy, LeaseOver, StoreError
from mailstore.keys import process_hardening
from mailstore.locks import locked
from mailstore.server_key import read_notes

log = logging.getLogger("sealbox.backup")

METRICS_S = 60.0
"""Seconds between two writings of the metrics."""

LOCK_PATIENCE_S = 60.0
_LOOK_S = 1.0


def open_job(config: Config, stack: ExitStack, *, patience_s: float) -> tuple[Job, State]:
    """A job over the configured store, alone on its data root; ``stack`` closes everything.

    Raises:
        NotInitialised: there are no server's data. Busy: another job runs.
        BackupError, StoreError.
    """
    server_key = stack.enter_context(key_in_use(config.data))
    places = Places(config.data)
    places.make()
    stack.enter_context(locked(places.lock, exclusive=True, timeout_s=patience_s))
    assert config.backup.public_key is not None, "the configuration was checked"
    state = State(places.folder, server_key)
    stack.callback(state.close)
    directory = open_directory(config.data)
    stack.callback(directory.close)
    facts = ServerFacts(directory, server_key, config.text, read_notes(config.data, server_key))
    job = Job(
        places,
        state,
        open_store(config.backup, config.snapshots),
        read_public_key(config.backup.public_key),
        lambda: facts,
        config.snapshots,
    )
    stack.callback(job.stop)
    return job, state


class Process:
    """Runs the job until SIGTERM, or until the supervisor is gone."""

    def __init__(self, config: Config, inherited: Inherited) -> None:
        self._config = config
        self._inherited = inherited
        self._request = RunRequest(Places(config.data).folder)
        self._ending = False
        self._moves: Moving | None = None
        # select() continues after a signal (PEP 475), so the signal handler writes to a pipe.
        self._woken, self._waker = os.pipe()

    def run(self) -> int:
        """The process's exit code."""
        signal.signal(signal.SIGTERM, self._end)
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        try:
            with ExitStack() as stack:
                try:
                    job, state = open_job(self._config, stack, patience_s=LOCK_PATIENCE_S)
                except Busy:
                    log.error("another process takes snapshots of this data root")
                    return 1
                moves = stack.enter_context(moving(self._config, job))
                if moves is not None:
                    job.between, self._moves = self._give, moves
                self._serve(job, state)
        except (BackupError, StoreError) as error:
            log.error("no snapshots: %s %s", type(error).__name__, error)
            return 1
        return 0

    def _serve(self, job: Job, state: State) -> None:
        self._inherited.tell_ready()
        next_metrics_s = 0.0
        while not self._ending:
            self._turn(job)
            self._give()
            if time.monotonic() >= next_metrics_s:
                next_metrics_s = time.monotonic() + METRICS_S
                self._tell(job, state)
            self._pause(job)

    def _turn(self, job: Job) -> None:
        try:
            with self._request.served() as asked:
                if not self._turned(job, everything=asked) and asked:
                    self._request.ask()  # it is not served yet, so whoever has asked goes on waiting
        except (BackupError, StoreError) as error:
            log.error("snapshots: %s %s", type(error).__name__, error)

    def _turned(self, job: Job, *, everything: bool) -> bool:
        """Whether this node has a lease, so that a turn was done; the log has been told otherwise."""
        try:
            job.turn(everything=everything)
        except LeaseOver:
            self._wait(_LOOK_S)
            return False
        return True

    def _give(self) -> None:
        """Give away what moves. Nothing else is done as long as an account is closed and waits for that."""
        while self._moves is not None and self._moves.give() and not self._ending:
            self._wait(BUSY_S)

    def _wait(self, timeout_s: float) -> None:
        """Wake up early for the end of the process."""
        control_fd = self._inherited.control_fd
        readable, _, _ = select.select([control_fd, self._woken], [], [], timeout_s)
        if control_fd in readable and not os.read(control_fd, 64):
            self._ending = True

    def _tell(self, job: Job, state: State) -> None:
        try:
            write_metrics(Places(self._config.data).folder, job, state)
        except (OSError, StoreError) as error:
            log.error("metrics not written: %s", type(error).__name__)

    def _pause(self, job: Job) -> None:
        """Sleep until the next scan; wake up for a request, a finished upload or the end of the process."""
        left_s = self._config.snapshots.scan_interval_s
        while left_s > 0 and not self._ending and not self._request.is_waiting():
            look_s = _LOOK_S if self._moves is None else self._moves.pause_s
            self._wait(min(look_s, left_s))
            left_s -= look_s
            self._give()
            try:
                job.collect()
            except StoreError as error:
                # The next turn tries again.
                log.error("snapshots: %s %s", type(error).__name__, error)
                return

    def _end(self, _number: int, _frame: object) -> None:
        self._ending = True
        os.write(self._waker, b"x")


def run(config: Config, inherited: Inherited) -> int:
    """Run the snapshot process; its exit code."""
    setup(config.log_settings, "snapshots")
    process_hardening()
    return Process(config, inherited).run()
