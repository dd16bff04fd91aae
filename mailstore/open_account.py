"""One account that is open in this process: its key, its filing, its watchers, and who listens to it.

Sessions share it. It opens with the first session and closes a grace period after the last one. Its databases
are open only while somebody needs them (``mailstore.hibernation``).
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, ParamSpec, Protocol, TypeVar

from twisted.internet.defer import CancelledError, Deferred

from mailstore.account import AccountPaths
from mailstore.changes import Watcher
from mailstore.clock import Clock, DelayedCall
from mailstore.databases import Databases
from mailstore.engine import BRIEF_PATIENCE_S, WRITE_LOCK, Database, Txn
from mailstore.errors import AccountClosed, Busy, DatabaseDamaged, StorageFailed, StorageFull
from mailstore.eviction import asked_to_leave
from mailstore.executor import Executor
from mailstore.filing import Batch, Filer
from mailstore.freed_memory import FreedMemory
from mailstore.hibernation import Hibernation
from mailstore.inbox import InboxFiling
from mailstore.kept import Kept
from mailstore.keys import AccountId
from mailstore.keyslot_watch import KeyslotWatch, Session
from mailstore.lease_watch import LeaseWatch
from mailstore.limits import StoreLimits
from mailstore.mime import MimeLimits
from mailstore.model import Delta, MailboxId, ModSeq
from mailstore.ops import mailboxes
from mailstore.prepared import PreparedMessage, prepare
from mailstore.search import Key, reads_text
from mailstore.unlock import Unlocked

log = logging.getLogger("sealbox.store")

P = ParamSpec("P")
T = TypeVar("T")

POLL_RETRY_S = 30.0
"""Seconds until it is looked again for changes, of which sessions wait to hear, after that failed."""


@dataclass(frozen=True, slots=True)
class _Filed:
    """A batch that is filed, and the account afterwards; None when there was nothing to file."""

    batch: Batch
    modseqs: dict[MailboxId, int] | None
    looked_s: float
    """When ``modseqs`` were read, by the monotonic clock."""
    fresh: dict[MailboxId, Delta] = field(default_factory=dict)
    """What the batch changed in mailboxes that sessions listen to."""


@dataclass(frozen=True, slots=True)
class _Read(Generic[T]):
    """The result of a read, to tell it from None, which means that nothing was read."""

    value: T


class Worker(Protocol):
    """What one worker process shares among its accounts."""

    clock: Clock
    executor: Executor
    watcher: Watcher
    limits: StoreLimits
    mime_limits: MimeLimits
    freed_memory: FreedMemory
    filed_messages: int
    lease: LeaseWatch

    def require_here(self, account_id: AccountId) -> None:
        """In a thread: whether the account is still this server's. Raises OnAnotherNode, NoSuchAccount."""

    async def recheck(self, unlocked: Unlocked) -> None:
        """Whether a session may go on; see ``Unlocker.recheck``."""

    def forget(self, opened: OpenAccount) -> None:
        """The account has closed."""


class OpenAccount:
    """An unlocked account; see the module's docstring. All methods run on the reactor's thread."""

    def __init__(self, worker: Worker, paths: AccountPaths, hold: Unlocked) -> None:
        self.account_id = hold.account_id
        self.paths = paths
        self._goodbyes = frozenset({paths.leave.name, paths.moving.name})
        self.limits = worker.limits
        self._worker = worker
        self._hold = hold
        limits = worker.limits
        still_ours = partial(worker.require_here, hold.account_id)
        self._rest = Hibernation(
            *(worker.executor, worker.clock, limits, paths, self),
            *(self._new_databases, still_ours, lambda: worker.lease.may_serve),
        )
        self._filer = Filer(paths, hold.account_id, hold.private_key, limits, worker.mime_limits)
        self._inbox = InboxFiling(
            worker.executor,
            worker.clock,
            self._filer,
            self._file_few,
            self._file_batch,
            lambda work: self._start(work, "filing"),
        )
        self.kept = Kept(limits.kept_numbers)
        self.keyslots = KeyslotWatch(worker.clock, paths.keys, worker.recheck, self._start, self.close)
        self._listeners: dict[Callable[[], None], MailboxId | None] = {}
        self._modseqs: dict[MailboxId, int] = {}
        self._fresh: dict[MailboxId, Delta] = {}
        self._polling = False
        self._poll_again = False
        self._look_follows = False
        """A filing transaction is running: nobody else commits before it is done and has read the modseqs."""
        self._heard_s: float | None = None
        self._poll_call: DelayedCall | None = None
        self._close_call: DelayedCall | None = None
        self.closing: Deferred[None] | None = None

    # -- opening and closing ---------------------------------------------------------------------

    async def open(self) -> None:
        """Open and migrate the database, start watching and filing.

        Raises:
            TooNew: the database belongs to a newer program.
            StorageFailed, StorageFull, Busy.
        """
        databases = await self._rest.for_command()
        names = (WRITE_LOCK, self.paths.keys.name, *self._goodbyes)
        self._worker.watcher.watch(self.paths.folder, names, self._account_folder_changed)
        self._worker.watcher.watch_arrivals(self.paths.inbox, self._inbox.file_soon, self._foresee)
        # A request to leave may have come between opening the database and watching for it.
        if await self._worker.executor.call(asked_to_leave, self.paths) or self.closing is not None:
            raise Busy("the account is being restored")
        databases.searching.changed()
        self._inbox.file_soon()

    def _new_databases(self) -> Databases:
        worker = self._worker
        return Databases(worker.executor, worker.clock, self.limits, self.paths, self._hold, self._start)

    @property
    def is_awake(self) -> bool:
        """Whether its databases are open."""
        return self._rest.is_awake

    async def wake(self) -> bool:
        """Open its databases, if they are closed; False where it is closing instead. Raises as ``open``."""
        with suppress(AccountClosed):
            await self._rest.for_command()
            return True
        return False

    def may_sleep(self) -> bool:
        """See ``Sleeper``."""
        return not (self._inbox.is_at_work or self._polling)

    def forget(self) -> None:
        """See ``Sleeper``."""
        self.kept.clear()
        self._worker.freed_memory.soon()

    def changed(self, modseqs: dict[MailboxId, int]) -> None:
        """See ``Sleeper``."""
        if modseqs != self._modseqs:
            self._tell(modseqs)

    def replaced(self) -> None:
        """See ``Sleeper``."""
        self.close()

    def add_session(self, session: Session) -> None:
        """A session has begun; it ends when its keyslot expires, at the latest."""
        self.keyslots.add(session)
        self._worker.freed_memory.soon()  # a login takes much more for a moment than a session does

    def close_after(self, seconds: float) -> None:
        """Close unless a session comes (or goes) before ``seconds`` have passed."""
        if self.closing is not None:
            return
        if self._close_call is not None:
            self._close_call.cancel()
        self._close_call = self._worker.clock.callLater(seconds, self._close_if_unused)

    def _close_if_unused(self) -> None:
        self._close_call = None
        if not self.keyslots.sessions:
            self.close()

    def close(self) -> Deferred[None]:
        """End all sessions, let running work finish, checkpoint, close, forget the key.

        Called when the last session has ended; when a restore asks and its process is alive; when the key
        header is gone; when the node's lease is over; and when the worker ends. A login counts as a session
        from the moment the account is open for it, so the end of a grace period never interrupts one. A
        single session is ended when its keyslot no longer opens the account; a key change in progress does
        not look like that, because the directory is read before the header and written after it. Nothing
        else in here ends a session.
        """
        if self.closing is None:
            self.closing = Deferred.fromCoroutine(self._close())
        return self.closing

    async def _close(self) -> None:
        self.keyslots.end()
        self._listeners.clear()
        self._worker.watcher.ignore(self.paths.folder)
        self._worker.watcher.ignore(self.paths.inbox)
        for call in (self._poll_call, self._close_call):
            if call is not None and call.active():
                call.cancel()
        await self._inbox.stop()
        self.kept.close()
        try:
            await self._rest.close(self._worker.limits.checkpoint_lock_wait_s)
        finally:
            self._hold.wipe()
            self._worker.forget(self)

    # -- work ------------------------------------------------------------------------------------

    async def read(self, fn: Callable[..., T], *args: Any) -> T:
        """Run ``fn(txn, *args)`` in a read transaction in a thread."""
        databases = await self._rest.for_command()
        result: T = await databases.readers.run(lambda one: one.read(int(time.time()), fn, *args))
        return result

    async def read_filed(self, fn: Callable[..., T], *args: Any) -> T:
        """As ``read``, after what lies in the inbox now has been filed.

        Whatever LMTP answered 250 for is there, whichever worker received it. A backlog that takes longer
        than ``filing_wait_s`` to file keeps arriving afterwards.
        """
        databases = await self._rest.for_command()
        found: _Read[T] | None = await databases.readers.run(self._read_unless_waiting, fn, args)
        if found is not None:
            return found.value
        await self.filed(self._worker.limits.filing_wait_s)
        return await self.read(fn, *args)

    def _read_unless_waiting(
        self, database: Database, fn: Callable[..., T], args: tuple[Any, ...]
    ) -> _Read[T] | None:
        if self._filer.is_waiting():
            return None
        return _Read(database.read(int(time.time()), fn, *args))

    async def search(self, key: Key, fn: Callable[..., T], *args: Any) -> T:
        """Like ``read`` for a function that searches for ``key``; see ``Searching.search``."""
        if reads_text(key):
            return await (await self._rest.for_command()).searching.search(key, fn, *args)
        return await self.read(fn, *args, None)

    async def write(self, fn: Callable[..., T], *args: Any) -> T:
        """Run ``fn(txn, *args)`` in a write transaction in a thread; changes are on disk afterwards."""
        databases = await self._rest.for_command()
        result: T = await databases.writer.run(lambda one: one.write(int(time.time()), fn, *args))
        self._rest.require_serving()
        databases.changed()
        return result

    async def write_on_the_way(self, fn: Callable[..., T], *args: Any) -> T:
        """As ``write``, for writes that accompany a read: it does not wait long for another process.

        Raises Busy after ``BRIEF_PATIENCE_S``.
        """
        databases = await self._rest.for_command()
        result: T = await databases.writer.run(
            lambda one: one.write(int(time.time()), fn, *args, patience_s=BRIEF_PATIENCE_S)
        )
        self._rest.require_serving()
        databases.changed()
        return result

    async def read_and_note(self, fn: Callable[..., tuple[T, bool]], *args: Any) -> T:
        """Run ``fn(database, *args)`` in a thread; it reads, and writes with ``Database.note`` only.

        It returns its result and whether it has written.
        """
        databases = await self._rest.databases()
        result, wrote = await databases.readers.run(fn, *args)
        if wrote:
            databases.changed()
        return result

    async def prepare(self, data: bytes) -> PreparedMessage:
        """Scan and compress a message in a thread, before any lock is taken."""
        return await self._worker.executor.call(prepare, data, self._worker.mime_limits)

    async def compute(self, fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a slow pure function in a thread, outside any transaction."""
        return await self._worker.executor.call(fn, *args, **kwargs)

    def _start(self, work: Callable[[], Coroutine[Any, Any, None]], what: str) -> Deferred[None]:
        """Run background work; a failure is logged and affects nothing else."""
        done = Deferred.fromCoroutine(work())
        done.addErrback(self._background_failed, what)
        return done

    def _background_failed(self, failure: Any, what: str) -> None:
        if failure.check(AccountClosed, CancelledError) is None:
            log.error("account %s: %s failed: %s", self.account_id, what, failure.type.__name__)

    # -- filing ----------------------------------------------------------------------------------

    async def filed(self, patience_s: float) -> None:
        """Wait until what lies in the inbox now is filed, but no longer than ``patience_s``."""
        await self._inbox.filed(patience_s)

    async def _file_few(self) -> bool | None:
        if self._rest.is_asleep and not await self._worker.executor.call(self._filer.is_waiting):
            return False
        databases = await self._rest.databases()
        filed: _Filed | None = None
        try:
            listened = frozenset(self._listeners.values())
            filed = await databases.writer.run(self._file_few_in_thread, listened)
        finally:
            self._look_follows = False
            heard_s, self._heard_s = self._heard_s, None
            if heard_s is not None and (filed is None or heard_s >= filed.looked_s):
                self._poll_soon()
        return await self._after_filing(databases, filed)

    def _file_few_in_thread(self, database: Database, listened: frozenset[MailboxId | None]) -> _Filed | None:
        batch = self._filer.load(few=True)
        return None if batch is None else self._file_in_thread(database, batch, self._insert_few, listened)

    def _insert_few(self, txn: Txn, batch: Batch) -> None:
        # Only now: while it waited for the write lock others changed things, which sessions hear at once.
        self._look_follows = True
        self._filer.insert(txn, batch)

    async def _file_batch(self) -> bool | None:
        # Opening and preparing many messages takes long, and would keep the writer lane busy.
        batch = await self._worker.executor.call(self._filer.load)
        if batch is None:
            return None
        try:
            databases = await self._rest.databases()
            filed = await databases.writer.run(self._file_in_thread, batch, self._filer.insert)
        except BaseException:
            batch.release()
            raise
        return await self._after_filing(databases, filed)

    def _file_in_thread(
        self,
        database: Database,
        batch: Batch,
        insert: Callable[[Txn, Batch], None],
        listened: frozenset[MailboxId | None] = frozenset(),
    ) -> _Filed:
        try:
            if not batch.messages:
                return _Filed(batch, None, -math.inf)
            now = int(time.time())
            database.write(now, insert, batch)
            looked_s = time.monotonic()
            modseqs, fresh = database.read(now, mailboxes.modseqs_and_last_changes, self._modseqs, listened)
            return _Filed(batch, modseqs, looked_s, fresh)
        except BaseException:
            batch.release()
            raise

    async def _after_filing(self, databases: Databases, filed: _Filed | None) -> bool | None:
        """Notify sessions, then unlink the files: they need not wait for the file system."""
        if filed is None:
            return None
        batch = filed.batch
        try:
            if filed.modseqs is not None:
                databases.changed()
                self._worker.filed_messages += len(batch.messages)
                self._fresh = filed.fresh
                try:
                    self._tell(filed.modseqs)
                finally:
                    self._fresh = {}
                await self._worker.executor.call(self._filer.remove, batch)
        finally:
            batch.release()
        return batch.more

    def _foresee(self, name: str) -> None:
        """A delivery has begun, most likely: what it needs takes as long as its way to the disk."""
        self._rest.wake()
        self._inbox.foresee(name)

    # -- changes ---------------------------------------------------------------------------------

    def listen(self, callback: Callable[[], None], mailbox_id: MailboxId | None) -> None:
        """Call ``callback`` soon after anybody changed the mailbox, or with None anything in the account."""
        self._listeners[callback] = mailbox_id
        self._poll_soon()

    def ignore(self, callback: Callable[[], None]) -> None:
        """Forget a listener."""
        self._listeners.pop(callback, None)

    def fresh(self, mailbox_id: MailboxId, since: ModSeq) -> Delta | None:
        """What filing has changed after ``since``, for a listener to whom that is being told at this moment.

        A listener that has to read it first competes for the interpreter with the threads that clear up
        behind the filing, and with all other listeners. None where it has to read.
        """
        found = self._fresh.get(mailbox_id)
        return found if found is not None and found.since == since else None

    def _account_folder_changed(self, names: frozenset[str]) -> None:
        if WRITE_LOCK in names and self._listeners:
            self._poll_soon()
        if self.paths.keys.name in names:
            self.keyslots.check_soon()
        if self._goodbyes & names and self.closing is None:
            self._start(self._leave_if_asked, "leaving")

    async def _leave_if_asked(self) -> None:
        if await self._worker.executor.call(asked_to_leave, self.paths):
            await self.close()

    def _poll_soon(self) -> None:
        if self._look_follows:
            # Filing reads the modseqs itself when it ends, which most likely is after this.
            self._heard_s = time.monotonic()
            return
        self._poll_again = True
        if not self._polling and self.closing is None:
            self._polling = True
            self._start(self._poll, "change poll")

    async def _poll(self) -> None:
        try:
            while self._poll_again and self.closing is None:
                self._poll_again = False
                if not await self._rest.is_undisturbed():
                    self._tell(await self._look())
        except (Busy, StorageFull, StorageFailed) as error:
            if not isinstance(error, DatabaseDamaged):
                self._poll_after(POLL_RETRY_S)
            raise
        finally:
            self._polling = False

    async def _look(self) -> dict[MailboxId, int]:
        databases = await self._rest.databases()
        return await databases.readers.run(lambda one: one.read(int(time.time()), mailboxes.modseqs))

    def _poll_after(self, seconds: float) -> None:
        if self._poll_call is None and self.closing is None:
            self._poll_call = self._worker.clock.callLater(seconds, self._poll_now)

    def _poll_now(self) -> None:
        self._poll_call = None
        self._poll_soon()

    def _tell(self, found: dict[MailboxId, int]) -> None:
        """Call the listeners of what has changed."""
        known, self._modseqs = self._modseqs, found
        for callback, mailbox_id in tuple(self._listeners.items()):
            # Names and subscriptions change no modseq, so "anything" means every commit.
            if mailbox_id is None or found.get(mailbox_id) != known.get(mailbox_id):
                callback()
