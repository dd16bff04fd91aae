"""When waiting mail is filed: in the background as it comes, and before anybody looks at a mailbox.

Filing goes in passes. A pass lists the inbox once and files all of it in batches; whoever wants what is there
now to be filed waits for the end of a pass that begins later. If another process is filing, a pass that
somebody waits for continues until that process has filed what this one has seen.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred

from mailstore.clock import Clock, DelayedCall
from mailstore.errors import StoreError
from mailstore.executor import Executor
from mailstore.filing import Filer
from mailstore.sealed import SealedId, being_delivered

FILING_RETRY_S = 30.0
"""Seconds until filing is tried again after it failed."""

LOCKED_RETRY_S = 5.0
"""Seconds until filing is retried that was left to another process: it may have died meanwhile."""

LOCK_POLL_FIRST_S, LOCK_POLL_MAX_S = 0.001, 0.02
"""Seconds between looks at an inbox that another process is filing; the pause doubles."""


class InboxFiling:
    """The filing of one open account. All methods run on the reactor's thread."""

    def __init__(
        self,
        executor: Executor,
        clock: Clock,
        filer: Filer,
        file_few: Callable[[], Awaitable[bool | None]],
        file_batch: Callable[[], Awaitable[bool | None]],
        start: Callable[[Callable[[], Coroutine[Any, Any, None]]], object],
    ) -> None:
        """``file_few`` and ``file_batch`` file what the filer has listed, in one transaction, and unlink it.

        They return whether there is more, None while another process is filing. ``start`` begins background
        work.
        """
        self._executor = executor
        self._clock = clock
        self._filer = filer
        self._file_few = file_few
        self._file_batch = file_batch
        self._start = start
        self._again = False
        self._running: Deferred[None] | None = None
        self._waiting: list[Deferred[None]] = []
        self._retry_call: DelayedCall | None = None
        self._locked_call: DelayedCall | None = None
        self._is_long = False
        self._is_shut_out = False
        self._stopped = False
        self._foreseeing: Deferred[None] | None = None

    @property
    def is_at_work(self) -> bool:
        """Whether mail is being filed, or prepared for that."""
        return self._running is not None or self._foreseeing is not None

    def foresee(self, name: str) -> None:
        """Something was written to a file of the inbox: a delivery, which still has to wait for the disk.

        If filing is idle, it can open and prepare the message now.
        """
        if self._stopped or self._running is not None or self._foreseeing is not None:
            return
        sealed_id = being_delivered(name)
        if sealed_id is not None:
            self._start(partial(self._foresee, sealed_id))

    async def _foresee(self, sealed_id: SealedId) -> None:
        finished = self._foreseeing = Deferred()
        try:
            await self._executor.call(self._filer.foresee, sealed_id)
        finally:
            self._foreseeing = None
            finished.callback(None)

    def file_soon(self, _arrived: object = None) -> None:
        """File what waits, in the background; calls coalesce."""
        if self._stopped:
            return
        self._again = True
        if self._running is None:
            self._start(self._passes)

    async def filed(self, patience_s: float) -> None:
        """Wait until what lies in the inbox now is filed, but no longer than ``patience_s``.

        Returns at once if filing has failed and will be retried (a full disk, most likely), if a pass is
        running that somebody has already waited for in vain, or if another process holds the inbox and files
        nothing: each of these costs at most one wait.
        """
        if self._waits_for_nobody():
            return
        if self._is_shut_out and not await self._executor.call(self._filer.is_free):
            self.file_soon()
            return
        if self._waits_for_nobody():
            return  # this may have changed while we asked whether the inbox is free
        turn: Deferred[None] = Deferred()
        self._waiting.append(turn)
        patience = self._clock.callLater(patience_s, self._ran_out, turn)
        self.file_soon()
        try:
            await turn
        finally:
            if patience.active():
                patience.cancel()

    def _waits_for_nobody(self) -> bool:
        """Whether waiting is pointless, because nothing is going to be filed soon."""
        return self._stopped or self._retry_call is not None or self._is_long

    def _ran_out(self, turn: Deferred[None]) -> None:
        self._is_long = self._running is not None
        turn.callback(None)

    def _cancel_retry(self) -> None:
        calls = self._retry_call, self._locked_call
        self._retry_call = self._locked_call = None
        for call in calls:
            if call is not None and call.active():
                call.cancel()

    async def stop(self) -> None:
        """Start no more batches, and wait for the current one."""
        self._stopped = True
        self._cancel_retry()
        if self._foreseeing is not None:
            await self._foreseeing
        if self._running is not None:
            await self._running
        self._filer.forget()
        self._answer(self._waiting)

    async def _passes(self) -> None:
        finished = self._running = Deferred()
        self._cancel_retry()
        left_to_others = False
        try:
            while self._again and not self._stopped:
                self._again = False
                asking, self._waiting = self._waiting, []
                try:
                    left_to_others = await self._pass(asking)
                finally:
                    self._is_long = False
                    self._answer(asking)
            if left_to_others and not self._stopped:
                # The process that is filing has seen the same event, and may die before it has filed.
                self._locked_call = self._clock.callLater(LOCKED_RETRY_S, self._retry)
        except StoreError:
            # The mail stays in the inbox and is retried later.
            if not self._stopped:
                self._retry_call = self._clock.callLater(FILING_RETRY_S, self._retry)
            raise
        finally:
            self._running = None
            waiting, self._waiting = self._waiting, []
            self._answer(waiting)
            finished.callback(None)

    def _retry(self) -> None:
        self._cancel_retry()
        self.file_soon()

    @staticmethod
    def _answer(asking: list[Deferred[None]]) -> None:
        for turn in asking:
            if not turn.called:
                turn.callback(None)

    async def _pass(self, asking: list[Deferred[None]]) -> bool:
        """File what is in the inbox now; True if that was left to another process."""
        self._filer.relist()
        file: Callable[[], Awaitable[bool | None]] = self._file_few
        while not self._stopped:
            more = await file()
            if more is not None:
                self._is_shut_out = False
            elif asking:
                more = await self._others_at_work(asking)
            if not more:
                return more is None or self._is_shut_out
            file = self._file_batch
        return False

    async def _others_at_work(self, asking: list[Deferred[None]]) -> bool:
        """Wait until another process has filed what waits now or lets us; True when it is our turn."""
        pause_s = LOCK_POLL_FIRST_S
        seen = await self._executor.call(self._filer.waiting)
        while seen and not self._stopped and not all(turn.called for turn in asking):
            pause: Deferred[None] = Deferred()
            self._clock.callLater(pause_s, pause.callback, None)
            await pause
            pause_s = min(2 * pause_s, LOCK_POLL_MAX_S)
            if await self._executor.call(self._filer.is_free):
                return True
            # The oldest is filed first. Only when the newest is gone is all of it worth a look: a delivery
            # may have been overtaken by a later one, and missed by the process that files.
            if not await self._executor.call(self._filer.is_there, max(seen)):
                seen &= await self._executor.call(self._filer.waiting)
        self._is_shut_out = bool(seen) and not self._stopped
        return False
