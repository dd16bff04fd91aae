"""Accounts that move between nodes, in the snapshot process: a thread looks, that of the job takes snapshots.

The one that looks copies in further threads, and never waits for the job: an account that has been closed is
open again in time whatever the job does.
"""

from __future__ import annotations

import logging
import time
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
from mailstore.directory import MoveId, Moves, Phase, is_over, moves_of
from mailstore.errors import DirectoryNotShared, StoreError

log = logging.getLogger("sealbox.moves")

IDLE_S = 1.0
"""Seconds between two looks for moves."""

BUSY_S = 0.1
"""The same while an account that moves is closed, and for ``_SOON_S`` after a step."""

_SOON_S = 3.0
_END_S = 10.0


class Moving:
    """The moves that concern this node."""

    def __init__(self, me: str, moves: Moves, giver: Giver, taker: Taker) -> None:
        self._me = me
        self._moves = moves
        self._giver = giver
        self._taker = taker
        self._steps: set[tuple[MoveId, Phase]] = set()
        self._soon_until_s = 0.0
        self._ending = Event()
        self._is_told = False
        self._thread = Thread(target=self._run, name="sealbox-moves", daemon=True)

    def start(self) -> None:
        """Begin to look, and to take what comes."""
        self._thread.start()

    def stop(self) -> None:
        """End; what was begun goes on with the next process."""
        self._ending.set()
        self._thread.join(_END_S)
        self._taker.stop()

    @property
    def pause_s(self) -> float:
        """How long the job's thread may do nothing before it calls :meth:`give` again."""
        return BUSY_S if self._giver.has_work else IDLE_S

    def give(self) -> bool:
        """Take the snapshots that are due, in the thread of the job; whether an account is closed, and waits
        for the next call."""
        try:
            return self._giver.give()
        except StoreError as error:
            log.error("accounts that move: %s", type(error).__name__)  # the next look tries again
            return False

    def _run(self) -> None:
        while not self._ending.is_set():
            pause_s = IDLE_S
            try:
                pause_s = self._look()
                self._is_told = False
            except StoreError as error:
                if not self._is_told:
                    log.warning("moves cannot be looked at: %s", type(error).__name__)
                self._is_told = True
            except Exception as error:  # noqa: BLE001 - if this thread ended, nothing would arrive any more
                log.error("a look at moves has failed: %s", type(error).__name__)
            self._ending.wait(pause_s)

    def _look(self) -> float:
        """Look once; returns for how long nothing new is expected, in seconds. Raises StoreError."""
        seen = self._moves.all()
        self._giver.look(seen)  # first, for an account may have to be opened again
        self._taker.look(seen)
        mine = [one.move for one in seen if self._me in (one.move.source, one.move.target)]
        steps = {(move.move_id, move.phase) for move in mine}
        now_s = time.monotonic()
        if steps != self._steps:
            self._steps, self._soon_until_s = steps, now_s + _SOON_S
        is_closed = any(move.is_closed and not is_over(move) for move in mine)
        return BUSY_S if is_closed or now_s < self._soon_until_s else IDLE_S


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
            me,
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
