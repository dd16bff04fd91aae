"""Accounts that move between nodes, in the snapshot process: what comes has a thread, what goes the job's."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from threading import Event, Thread

from backup.job import Job
from backup.move_source import Giver
from backup.move_target import Taker
from deploy.config import Config
from deploy.object_store import open_store_of
from mailstore.account import open_directory
from mailstore.directory import Moves, Seen, moves_of
from mailstore.errors import DirectoryNotShared, StoreError

log = logging.getLogger("sealbox.moves")

IDLE_S = 1.0
"""Seconds between two looks for moves."""

BUSY_S = 0.1
"""The same while an account of this node moves."""

_END_S = 10.0


class Moving:
    """The moves that concern this node."""

    def __init__(self, moves: Moves, giver: Giver, taker: Taker) -> None:
        self._moves = moves
        self._giver = giver
        self._taker = taker
        self._seen: list[Seen] = []
        self._ending = Event()
        self._is_told = False
        self._thread = Thread(target=self._run, name="sealbox-moves", daemon=True)

    def start(self) -> None:
        """Begin to look, and to take what comes."""
        self._thread.start()

    def stop(self) -> None:
        """End; what was begun goes on with the next process."""
        self._ending.set()
        self._taker.stop()
        self._thread.join(_END_S)

    @property
    def pause_s(self) -> float:
        """How long the job's thread may do nothing before it calls :meth:`give` again."""
        return BUSY_S if self._giver.concerns(self._seen) else IDLE_S

    def give(self) -> None:
        """Do what is due for accounts that go from here. For the thread of the job."""
        try:
            self._giver.turn(self._seen)
        except StoreError as error:
            log.error("accounts that move: %s", type(error).__name__)  # the next look tries again

    def _run(self) -> None:
        while not self._ending.is_set():
            try:
                self._seen = self._moves.all()
                self._taker.turn(self._seen)
                self._is_told = False
            except StoreError as error:
                if not self._is_told:
                    log.warning("moves cannot be looked at: %s", type(error).__name__)
                self._is_told = True
            except Exception as error:  # noqa: BLE001 - if this thread ended, nothing would arrive any more
                log.error("a look at moves has failed: %s", type(error).__name__)
            is_busy = self._taker.concerns(self._seen) or self._giver.concerns(self._seen)
            self._ending.wait(BUSY_S if is_busy else IDLE_S)


@contextmanager
def moving(config: Config, job: Job) -> Iterator[Moving | None]:
    """What moves, for as long as the context lasts; None where this server is no node of a directory.

    Raises StoreError.
    """
    me = config.node.name
    directory = open_directory(config.data)
    try:
        try:
            moves = moves_of(directory)
        except DirectoryNotShared:
            yield None
            return
        if not me:
            yield None
            return
        limits, open_one = config.node.move_limits(), partial(open_store_of, config.backup, config.snapshots)
        found = Moving(
            moves,
            Giver(config.data, me, job, moves, config.backup.store, limits),
            Taker(config.data, me, moves, open_one, limits, config.snapshots),
        )
        found.start()
        try:
            yield found
        finally:
            found.stop()
    finally:
        directory.close()
