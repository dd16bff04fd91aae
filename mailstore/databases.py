"""The open databases of an account and all that is at work in them: what a sleeping account does without."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from typing import Any

from mailstore.account import AccountPaths
from mailstore.account_database import checkpoint, close_databases, close_kept
from mailstore.clock import Clock, DelayedCall
from mailstore.connections import Connections
from mailstore.engine import Database, Txn
from mailstore.errors import StoreError
from mailstore.executor import Executor, Lane
from mailstore.limits import StoreLimits
from mailstore.model import MailboxId
from mailstore.ops import mailboxes
from mailstore.searching import Searching
from mailstore.unlock import Unlocked

log = logging.getLogger("sealbox.store")

UNCLOSED_RETRY_S = 60.0
"""Seconds until databases are closed that had to stay open because the account's lock was held."""


@dataclass(frozen=True, slots=True)
class State:
    """What tells one state of a database from another, as far as sessions know it."""

    modseqs: dict[MailboxId, int]
    restored: int | None
    """Which restore this database came from, None if from none."""

    def can_follow(self, earlier: State) -> bool:
        """False where this is a state of another database: the account was restored, or its files put back.

        A mailbox's modification sequences only grow, and its id is never given to another one.
        """
        if self.restored != earlier.restored:
            return False
        return all(self.modseqs.get(one, known) >= known for one, known in earlier.modseqs.items())


def state(txn: Txn) -> State:
    """The state that a transaction sees."""
    return State(mailboxes.modseqs(txn), mailboxes.restored(txn))


class Databases:
    """From one opening to the next closing. All methods run on the reactor's thread."""

    def __init__(
        self,
        executor: Executor,
        clock: Clock,
        limits: StoreLimits,
        paths: AccountPaths,
        hold: Unlocked,
        start: Callable[[Callable[[], Coroutine[Any, Any, None]], str], object],
    ) -> None:
        """``start`` begins background work, and is told what it is."""
        self.connections = Connections(paths, hold, limits.cache_kib)
        another = self.connections.another
        self.writer: Lane[Database] = Lane(executor, 1, self.connections.first)
        self.readers: Lane[Database] = Lane(executor, limits.reader_connections, another)
        self.searching = Searching(
            *(executor, clock, paths, limits, another, self.connections.search_key),
            lambda: self.writer.is_busy,
            lambda work: start(work, "indexing"),
        )
        self._executor = executor
        self._clock = clock
        self._limits = limits
        self._paths = paths
        self._start = start
        self._checkpoint_call: DelayedCall | None = None
        self._is_closed = False

    async def state(self) -> State:
        """The state now; the first call opens the database, and brings it to today's schema.

        Raises:
            TooNew: the database belongs to a newer program.
            StorageFailed, StorageFull. Busy: also while the account is being restored.
        """
        return await self.writer.run(lambda one: one.read(int(time.time()), state))

    @property
    def is_at_work(self) -> bool:
        """Whether somebody waits for something, or something is due that needs them open."""
        lanes = self.writer.is_busy or self.readers.is_busy
        return lanes or self.searching.is_at_work or self._checkpoint_call is not None

    def changed(self) -> None:
        """Something was written: it is to be indexed, and copied back soon."""
        self.searching.changed()
        if self._checkpoint_call is None and not self._is_closed:
            self._checkpoint_call = self._clock.callLater(
                self._limits.checkpoint_delay_s, self._start, self._checkpoint, "checkpoint"
            )

    async def _checkpoint(self) -> None:
        self._checkpoint_call = None
        # While a snapshot is being copied the checkpoint waits, writers do not.
        if not await self.writer.run(partial(checkpoint, self._paths)):
            self.changed()

    async def close(self, wait_s: float) -> None:
        """Let running work finish, checkpoint, close; never raises StoreError.

        Where the account's lock is held for longer than ``wait_s`` the databases are closed later.
        """
        self._is_closed = True
        if self._checkpoint_call is not None and self._checkpoint_call.active():
            self._checkpoint_call.cancel()
        databases = [
            *await self.searching.close(),
            *await self.readers.close(),
            *await self.writer.close(),
            *self.connections.useless,
        ]
        try:
            close = partial(close_databases, self._paths, databases, wait_s=wait_s)
            closed = await self._executor.call(close)
        except StoreError as exc:
            name = self._paths.folder.name
            log.error("account %s: closing the database failed: %s", name, type(exc).__name__)
            closed = False
        if not closed:
            self._close_kept_later()

    def _close_kept_later(self) -> None:
        self._clock.callLater(UNCLOSED_RETRY_S, self._start, self._close_kept, "closing a database")

    async def _close_kept(self) -> None:
        # A first snapshot of a large mailbox takes a while.
        if not await self._executor.call(close_kept):
            self._close_kept_later()
