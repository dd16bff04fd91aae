"""Searches of text in one open account, and the index that is filled for them in the background."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from mailstore.account import AccountPaths
from mailstore.clock import Clock, DelayedCall
from mailstore.engine import Database, DatabaseKey
from mailstore.errors import StoreError
from mailstore.executor import Executor, Lane
from mailstore.limits import StoreLimits
from mailstore.search import Key
from mailstore.search_index import BUSY_RETRY_S, FAILED_RETRY_S, SearchIndex

T = TypeVar("T")

MOST_YIELDS = 20
"""Pauses in a row for the sake of somebody who writes or searches; without an index searches take long."""


@dataclass(frozen=True, slots=True)
class _Searcher:
    """What a search or a batch of indexing works with: a connection to the mail, and the index."""

    mail: Database
    index: SearchIndex


class Searching:
    """All methods run on the reactor's thread."""

    def __init__(
        self,
        executor: Executor,
        clock: Clock,
        paths: AccountPaths,
        limits: StoreLimits,
        another: Callable[[], Database],
        key: Callable[[], DatabaseKey],
        writer_is_busy: Callable[[], bool],
        start: Callable[[Callable[[], Coroutine[Any, Any, None]]], object],
    ) -> None:
        """``another`` opens a connection to mail.db, ``key`` is that of search.db, ``start`` begins work."""

        def searcher() -> _Searcher:
            return _Searcher(another(), SearchIndex(paths, key, limits))

        self._executor = executor
        self._clock = clock
        self._limits = limits
        self._searchers: Lane[_Searcher] = Lane(executor, limits.search_connections, searcher)
        self._indexer: Lane[_Searcher] = Lane(executor, 1, searcher)
        self._writer_is_busy = writer_is_busy
        self._start = start
        self._yielded = 0
        self._call: DelayedCall | None = None
        self._running = False
        self._again = False
        self._is_held_up = False
        """Another process is filling the index, or it failed."""
        self._stopped = False
        self.is_complete = True
        """Whether all of what ``changed`` told is in the index."""

    @property
    def is_at_work(self) -> bool:
        """Whether somebody searches, or the index is being filled."""
        indexes = self._running or (self._call is not None and not self._is_held_up)
        return indexes or self._searchers.is_busy

    async def search(self, key: Key, fn: Callable[..., T], *args: Any) -> T:
        """Run ``fn(txn, *args, candidates)`` in a read transaction, with what the index says of ``key``."""

        def work(searcher: _Searcher) -> T:
            """Ask the index before the transaction begins; see ``SearchIndex.candidates``."""
            candidates = searcher.index.candidates(searcher.mail, key)
            return searcher.mail.read(int(time.time()), fn, *args, candidates)

        result: T = await self._searchers.run(work)
        return result

    def changed(self) -> None:
        """There may be mail to index, or to take out of the index: soon, in the background."""
        self._again = True
        self.is_complete = False
        if not self._running and self._call is None:
            self._later(self._limits.index_delay_s)

    def _later(self, seconds: float) -> None:
        if not self._stopped:
            self._call = self._clock.callLater(seconds, self._start, self._batch)

    async def _batch(self) -> None:
        self._call = None
        if self._yielded < MOST_YIELDS and (self._searchers.is_busy or self._writer_is_busy()):
            self._yielded += 1
            self._later(self._limits.index_pause_s)
            return
        self._yielded = 0
        self._running, self._again = True, False
        wait_s: float | None = FAILED_RETRY_S
        try:
            # One account at a time: what a batch takes in memory and threads must not come from all at once.
            wait_s = await self._executor.background.run(
                self._indexer.run, lambda indexer: indexer.index.work(indexer.mail)
            )
        finally:
            self._running = False
            self._is_held_up = wait_s is not None and wait_s >= BUSY_RETRY_S
            self.is_complete = wait_s is None and not self._again
            if wait_s is None and self._again:
                wait_s = self._limits.index_delay_s
            if wait_s is not None:
                # Between two batches the interpreter is everybody else's.
                self._later(max(wait_s, self._limits.index_pause_s))

    async def close(self) -> list[Database]:
        """Let running work finish and close the index; the connections to mail.db, for closing."""
        self._stopped = True
        has_more = self._running or self._again
        if self._call is not None and self._call.active():
            has_more = True
            self._call.cancel()
        if has_more:
            with suppress(StoreError):  # a failing disk is told of when mail.db is closed
                await self._indexer.run(lambda indexer: indexer.index.leave(indexer.mail))
        searchers = [*await self._searchers.close(), *await self._indexer.close()]
        await self._executor.call(_close, [searcher.index for searcher in searchers])
        return [searcher.mail for searcher in searchers]


def _close(indexes: list[SearchIndex]) -> None:
    for index in indexes:
        index.close()
