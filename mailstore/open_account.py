"""One account that is open in this process: its database lanes, its key, its filing, its watchers.

Sessions share it. It opens with the first session and closes a grace period after the last one.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, ParamSpec, Protocol, TypeVar

from twisted.internet.defer import CancelledError, Deferred

from mailstore.account import AccountPaths
from mailstore.account_database import checkpoint, close_databases, close_kept
from mailstore.changes import Watcher
from mailstore.clock import Clock, DelayedCall
from mailstore.connections import Connections
from mailstore.engine import BRIEF_PATIENCE_S, WRITE_LOCK, Database, Txn
from mailstore.errors import AccountClosed, AuthenticationFailed, Busy, HeaderTampered, StoreError
from mailstore.eviction import asked_to_leave
from mailstore.executor import Executor, Lane
from mailstore.filing import Batch, Filer
from mailstore.inbox import InboxFiling
from mailstore.kept import Kept
from mailstore.limits import StoreLimits
from mailstore.mime import MimeLimits
from mailstore.model import Delta, MailboxId, ModSeq
from mailstore.ops import mailboxes
from mailstore.prepared import PreparedMessage, prepare
from mailstore.search import Key, reads_text
from mailstore.searching import Searching
from mailstore.unlock import Unlocked

log = logging.getLogger("sealbox.store")

P = ParamSpec("P")
T = TypeVar("T")

RECHECK_RETRY_S = 1.0
"""Seconds until sessions are checked again whose keyslot could not be read."""

EXPIRY_MARGIN_S = 1.0
"""Seconds to wait beyond a keyslot's expiry, which is inclusive."""

EXPIRY_LOOK_S = 3600.0
"""Seconds after which a keyslot's expiry is compared with the clock again."""

UNCLOSED_RETRY_S = 60.0
"""Seconds until databases are closed that had to stay open because the account's lock was held."""


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


class Session(Protocol):
    """What an open account needs of a session."""

    @property
    def unlocked(self) -> Unlocked:
        """The session's own hold on the account, through the keyslot it logged in with."""

    def closed_by_store(self) -> None:
        """The account closes under the session: key revoked, account deleted, shutdown."""


class Worker(Protocol):
    """What one worker process shares among its accounts."""

    clock: Clock
    executor: Executor
    watcher: Watcher
    limits: StoreLimits
    mime_limits: MimeLimits

    async def recheck(self, unlocked: Unlocked) -> None:
        """Whether a session may go on; see ``Unlocker.recheck``."""

    def forget(self, opened: OpenAccount) -> None:
        """The account has closed."""


class OpenAccount:
    """An unlocked account; see the module's docstring. All methods run on the reactor's thread."""

    def __init__(self, worker: Worker, paths: AccountPaths, hold: Unlocked) -> None:
        self.account_id = hold.account_id
        self.paths = paths
        self.limits = worker.limits
        self._worker = worker
        self._hold = hold
        limits = worker.limits
        self._connections = Connections(paths, hold, limits.cache_kib)
        executor, another = worker.executor, self._connections.another
        self._writer: Lane[Database] = Lane(executor, 1, self._connections.first)
        self._readers: Lane[Database] = Lane(executor, limits.reader_connections, another)
        self._searching = Searching(
            *(executor, worker.clock, paths, limits, another, self._connections.search_key),
            lambda: self._writer.is_busy,
            lambda work: self._start(work, "indexing"),
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
        self.sessions: set[Session] = set()
        self._listeners: dict[Callable[[], None], MailboxId | None] = {}
        self._modseqs: dict[MailboxId, int] = {}
        self._fresh: dict[MailboxId, Delta] = {}
        self._polling = False
        self._poll_again = False
        self._look_follows = False
        """A filing transaction is running: nobody else commits before it is done and has read the modseqs."""
        self._heard_s: float | None = None
        self._checkpoint_call: DelayedCall | None = None
        self._close_call: DelayedCall | None = None
        self._recheck_call: DelayedCall | None = None
        self.closing: Deferred[None] | None = None

    # -- opening and closing ---------------------------------------------------------------------

    async def open(self) -> None:
        """Open and migrate the database, start watching and filing.

        Raises:
            TooNew: the database belongs to a newer program.
            StorageFailed, StorageFull, Busy.
        """
        self._modseqs = await self._writer.run(lambda one: one.read(int(time.time()), mailboxes.modseqs))
        names = (WRITE_LOCK, self.paths.keys.name, self.paths.leave.name)
        self._worker.watcher.watch(self.paths.folder, names, self._account_folder_changed)
        self._worker.watcher.watch_arrivals(self.paths.inbox, self._inbox.file_soon, self._inbox.foresee)
        # A request to leave may have come between opening the database and watching for it.
        if await self._worker.executor.call(asked_to_leave, self.paths) or self.closing is not None:
            raise Busy("the account is being restored")
        self._searching.changed()
        self._inbox.file_soon()

    def close_after(self, seconds: float) -> None:
        """Close unless a session comes (or goes) before ``seconds`` have passed."""
        if self._close_call is not None:
            self._close_call.cancel()
        self._close_call = self._worker.clock.callLater(seconds, self._close_if_unused)

    def _close_if_unused(self) -> None:
        self._close_call = None
        if not self.sessions:
            self.close()

    def close(self) -> Deferred[None]:
        """End all sessions, let running work finish, checkpoint, close, forget the key.

        Called when the last session has ended; when a restore asks and its process is alive; when the key
        header is gone; and when the worker ends. A login counts as a session from the moment the account is
        open for it, so the end of a grace period never interrupts one. A single session is ended when its
        keyslot no longer opens the account; a key change in progress does not look like that, because the
        directory is read before the header and written after it. Nothing else in here ends a session.
        """
        if self.closing is None:
            self.closing = Deferred.fromCoroutine(self._close())
        return self.closing

    async def _close(self) -> None:
        for session in tuple(self.sessions):
            session.closed_by_store()
        self.sessions.clear()
        self._listeners.clear()
        self._worker.watcher.ignore(self.paths.folder)
        self._worker.watcher.ignore(self.paths.inbox)
        for call in (self._checkpoint_call, self._close_call, self._recheck_call):
            if call is not None and call.active():
                call.cancel()
        await self._inbox.stop()
        self.kept.close()
        databases = [
            *await self._searching.close(),
            *await self._readers.close(),
            *await self._writer.close(),
            *self._connections.useless,
        ]
        try:
            if not await self._worker.executor.call(self._close_databases, databases):
                self._close_kept_later()
        except StoreError as exc:
            log.error("account %s: closing the database failed: %s", self.account_id, type(exc).__name__)
            self._close_kept_later()
        finally:
            self._hold.wipe()
            self._worker.forget(self)

    def _close_databases(self, databases: list[Database]) -> bool:
        return close_databases(self.paths, databases, wait_s=self._worker.limits.checkpoint_lock_wait_s)

    def _close_kept_later(self) -> None:
        self._worker.clock.callLater(UNCLOSED_RETRY_S, self._start, self._close_kept, "closing a database")

    async def _close_kept(self) -> None:
        # A first snapshot of a large mailbox takes a while.
        if not await self._worker.executor.call(close_kept):
            self._close_kept_later()

    # -- work ------------------------------------------------------------------------------------

    async def read(self, fn: Callable[..., T], *args: Any) -> T:
        """Run ``fn(txn, *args)`` in a read transaction in a thread."""
        result: T = await self._readers.run(lambda database: database.read(int(time.time()), fn, *args))
        return result

    async def read_filed(self, fn: Callable[..., T], *args: Any) -> T:
        """As ``read``, after what lies in the inbox now has been filed.

        Whatever LMTP answered 250 for is there, whichever worker received it. A backlog that takes longer
        than ``filing_wait_s`` to file keeps arriving afterwards.
        """
        found: _Read[T] | None = await self._readers.run(self._read_unless_waiting, fn, args)
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
            return await self._searching.search(key, fn, *args)
        return await self.read(fn, *args, None)

    async def write(self, fn: Callable[..., T], *args: Any) -> T:
        """Run ``fn(txn, *args)`` in a write transaction in a thread; changes are on disk afterwards."""
        result: T = await self._writer.run(lambda database: database.write(int(time.time()), fn, *args))
        self._checkpoint_soon()
        return result

    async def write_on_the_way(self, fn: Callable[..., T], *args: Any) -> T:
        """As ``write``, for writes that accompany a read: it does not wait long for another process.

        Raises Busy after ``BRIEF_PATIENCE_S``.
        """
        result: T = await self._writer.run(
            lambda database: database.write(int(time.time()), fn, *args, patience_s=BRIEF_PATIENCE_S)
        )
        self._checkpoint_soon()
        return result

    async def read_and_note(self, fn: Callable[..., tuple[T, bool]], *args: Any) -> T:
        """Run ``fn(database, *args)`` in a thread; it reads, and writes with ``Database.note`` only.

        It returns its result and whether it has written.
        """
        result, wrote = await self._readers.run(fn, *args)
        if wrote:
            self._checkpoint_soon()
        return result

    async def prepare(self, data: bytes) -> PreparedMessage:
        """Scan and compress a message in a thread, before any lock is taken."""
        return await self._worker.executor.call(prepare, data, self._worker.mime_limits)

    async def compute(self, fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a slow pure function in a thread, outside any transaction."""
        return await self._worker.executor.call(fn, *args, **kwargs)

    def _checkpoint_soon(self) -> None:
        self._searching.changed()
        if self._checkpoint_call is None and self.closing is None:
            self._checkpoint_call = self._worker.clock.callLater(
                self._worker.limits.checkpoint_delay_s, self._start, self._checkpoint, "checkpoint"
            )

    async def _checkpoint(self) -> None:
        self._checkpoint_call = None
        # While a snapshot is being copied the checkpoint waits, writers do not.
        if not await self._writer.run(partial(checkpoint, self.paths)):
            self._checkpoint_soon()

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
        filed: _Filed | None = None
        try:
            filed = await self._writer.run(self._file_few_in_thread, frozenset(self._listeners.values()))
        finally:
            self._look_follows = False
            heard_s, self._heard_s = self._heard_s, None
            if heard_s is not None and (filed is None or heard_s >= filed.looked_s):
                self._poll_soon()
        return await self._after_filing(filed)

    def _file_few_in_thread(self, database: Database, listened: frozenset[MailboxId | None]) -> _Filed | None:
        batch = self._filer.load(few=True)
        return None if batch is None else self._file_in_thread(database, batch, self._insert_few, listened)

    def _insert_few(self, txn: Txn, batch: Batch) -> None:
        # Only now: while it waited for the write lock others changed things, and sessions hear of that at
        # once.
        self._look_follows = True
        self._filer.insert(txn, batch)

    async def _file_batch(self) -> bool | None:
        # Opening and preparing many messages takes long, and would keep the writer lane busy.
        batch = await self._worker.executor.call(self._filer.load)
        if batch is None:
            return None
        try:
            filed = await self._writer.run(self._file_in_thread, batch, self._filer.insert)
        except BaseException:
            batch.release()
            raise
        return await self._after_filing(filed)

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

    async def _after_filing(self, filed: _Filed | None) -> bool | None:
        """Notify sessions, then unlink the files: they need not wait for the file system."""
        if filed is None:
            return None
        batch = filed.batch
        try:
            if filed.modseqs is not None:
                self._checkpoint_soon()
                self._fresh = filed.fresh
                try:
                    self._tell(filed.modseqs)
                finally:
                    self._fresh = {}
                await self._worker.executor.call(self._filer.remove, batch)
        finally:
            batch.release()
        return batch.more

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
            self.recheck_soon()
        if self.paths.leave.name in names and self.closing is None:
            self._start(self._leave_if_asked, "leaving")

    def recheck_soon(self) -> None:
        """Ask, in the background, whether the sessions' keyslots still open the account."""
        if self.closing is None:
            self._start(self._check_keyslots, "keyslot check")

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
                self._tell(await self.read(mailboxes.modseqs))
        finally:
            self._polling = False

    def _tell(self, found: dict[MailboxId, int]) -> None:
        """Call the listeners of what has changed."""
        known, self._modseqs = self._modseqs, found
        for callback, mailbox_id in tuple(self._listeners.items()):
            # Names and subscriptions change no modseq, so "anything" means every commit.
            if mailbox_id is None or found.get(mailbox_id) != known.get(mailbox_id):
                callback()

    async def _check_keyslots(self) -> None:
        """End the sessions whose keyslot has been revoked; all of them when the account is gone."""
        unanswered: StoreError | None = None
        for session in tuple(self.sessions):
            try:
                await self._worker.recheck(session.unlocked)
            except AccountClosed:
                continue  # it has ended meanwhile; the others still have to be checked
            except (AuthenticationFailed, HeaderTampered):
                self.sessions.discard(session)
                session.closed_by_store()
            except StoreError as error:
                unanswered = error
        if not self.paths.keys.exists():
            await self.close()
        elif unanswered is not None:
            self._recheck_after(RECHECK_RETRY_S)
            raise unanswered
        else:
            self._recheck_at_expiry()

    def add_session(self, session: Session) -> None:
        """A session has begun; it ends when its keyslot expires, at the latest."""
        self.sessions.add(session)
        self._recheck_at_expiry()

    def _recheck_at_expiry(self) -> None:
        ends = [end for one in self.sessions if (end := one.unlocked.scope.not_after) is not None]
        if ends:
            # The wall clock may be set meanwhile, so check it now and then.
            self._recheck_after(min(max(min(ends) - time.time(), 0.0) + EXPIRY_MARGIN_S, EXPIRY_LOOK_S))

    def _recheck_after(self, seconds: float) -> None:
        if self.closing is not None:
            return
        if self._recheck_call is not None:
            self._recheck_call.cancel()
        self._recheck_call = self._worker.clock.callLater(seconds, self._recheck_now)

    def _recheck_now(self) -> None:
        self._recheck_call = None
        self.recheck_soon()
