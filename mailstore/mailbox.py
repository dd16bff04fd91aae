"""A selected mailbox of one session: every command is one transaction, and brings what changed."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial

from mailstore import search as criteria
from mailstore import threads
from mailstore.engine import Database, Txn
from mailstore.errors import Busy, ReadOnly, StorageFailed, StorageFull, StoreError
from mailstore.kept import Threaded
from mailstore.model import (
    AppendResult,
    ContentRow,
    CopyResult,
    Delta,
    FetchPlan,
    FetchResult,
    Flags,
    MailboxId,
    MailboxName,
    MaildropId,
    MaildropListing,
    MessageId,
    ModSeq,
    NewMessage,
    Opened,
    Progress,
    QuotaLimits,
    SearchResult,
    SectionRead,
    SortBy,
    StoreMode,
    StoreResult,
    ThreadAlgorithm,
    ThreadRow,
    Uid,
)
from mailstore.open_account import OpenAccount
from mailstore.ops import content, mailboxes, maildrop, messages, search, sorting
from mailstore.ops.quota import check_quota
from mailstore.ops.rows import delta, require_mailbox
from mailstore.prepared import ReadyMessage
from mailstore.thread_index import Threading, arrange
from mailstore.uidset import UidSet


class Mailbox:
    """See the module's docstring. ``since`` is always the modseq up to which the caller knows everything."""

    def __init__(
        self,
        account: OpenAccount,
        opened: Opened,
        limits: Callable[[], Awaitable[QuotaLimits]],
        account_writable: Callable[[], None],
    ) -> None:
        """``account_writable`` raises ReadOnly if the session may not change anything."""
        self.opened = opened
        self._account = account
        self._limits = limits
        self._account_writable = account_writable
        self._listener: Callable[[], None] | None = None
        self._claimed_below = opened.status.uid_next

    def close(self) -> None:
        """The session has left the mailbox."""
        self.on_change(None)

    def on_change(self, callback: Callable[[], None] | None) -> None:
        """Call ``callback`` soon after anybody changed the mailbox; None ends that."""
        if self._listener is not None:
            self._account.ignore(self._listener)
        self._listener = callback
        if callback is not None:
            self._account.listen(callback, self.opened.mailbox_id)

    def _writable(self) -> None:
        if self.opened.read_only:
            raise ReadOnly("the mailbox is open for reading only")

    async def sync(self, since: ModSeq) -> Delta:
        """What changed after ``since``."""
        return await self._claimed(await self._account.read_filed(delta, self.opened.mailbox_id, since))

    async def news(self, since: ModSeq) -> Delta:
        """What changed after ``since``, for a caller that was told of a change: no filing first."""
        return await self._claimed(await self._account.read_and_note(self._news, since))

    def _news(self, database: Database, since: ModSeq) -> tuple[Delta, bool]:
        """In a thread: one hop instead of two, unless somebody is writing."""
        now, mailbox_id = int(time.time()), self.opened.mailbox_id
        found, claimed_up_to = database.read(now, _delta_and_claimed, mailbox_id, since)
        return self._noted(database, found, claimed_up_to)

    def fresh(self, since: ModSeq) -> Delta | None:
        """What changed after ``since``, without a look and without its ``\\Recent``, which ``claim`` gives.

        None where a look is needed: for whom ``on_change`` calls, at that moment, when mail has come.
        """
        return self._account.fresh(self.opened.mailbox_id, since)

    async def claim(self, found: Delta) -> UidSet:
        """Which new messages of ``found``, given by ``fresh``, are ``\\Recent`` in this session."""
        if not self._unclaimed(found):
            return UidSet()
        return (await self._account.read_and_note(self._claim, found)).recent

    def _claim(self, database: Database, found: Delta) -> tuple[Delta, bool]:
        """In a thread."""
        now, mailbox_id = int(time.time()), self.opened.mailbox_id
        return self._noted(database, found, database.read(now, mailboxes.recent_claimed_up_to, mailbox_id))

    def _noted(self, database: Database, found: Delta, claimed_up_to: Uid) -> tuple[Delta, bool]:
        """In a thread: ``found`` with its ``\\Recent``, and whether that was written."""
        now, mailbox_id = int(time.time()), self.opened.mailbox_id
        new = self._unclaimed(found)
        if not new:
            return found, False
        if claimed_up_to >= new[-1]:
            return self._with_recent(found, new, claimed_up_to), False
        try:
            before = database.note(now, mailboxes.claim_recent_up_to, mailbox_id, found.uid_next)
        except StoreError:
            return found, False
        return self._with_recent(found, new, before), True

    def _unclaimed(self, found: Delta) -> list[Uid]:
        if self.opened.read_only or found.uid_next <= self._claimed_below:
            return []
        return [one.uid for one in found.changed if one.uid >= self._claimed_below]

    def _with_recent(self, found: Delta, new: list[Uid], before: Uid) -> Delta:
        self._claimed_below = found.uid_next
        return replace(found, recent=UidSet.of(uid for uid in new if uid > before))

    async def _claimed(self, found: Delta) -> Delta:
        """``found``, with the new messages that are ``\\Recent`` in this session and so in no other.

        That is decided by one transaction, however many sessions of whichever workers hear of them at once.
        """
        new = self._unclaimed(found)
        if not new:
            return found
        try:
            before = await self._account.write_on_the_way(
                mailboxes.claim_recent_up_to, self.opened.mailbox_id, found.uid_next
            )
        except StoreError:
            # The command itself has succeeded, and matters more; \Recent stays for another session.
            return found
        return self._with_recent(found, new, before)

    async def fetch(self, uids: Sequence[Uid], plan: FetchPlan, since: ModSeq) -> FetchResult:
        """Stored answers for a bounded batch of messages; sets ``\\Seen`` when the plan says so."""
        mailbox_id = self.opened.mailbox_id
        if plan.set_seen and not self.opened.read_only:
            try:
                done = await self._account.write_on_the_way(content.fetch, mailbox_id, uids, plan, since)
            except (Busy, StorageFull, StorageFailed):
                pass  # reading works even if nothing can be written; the flag is set another time
            else:
                return replace(done, delta=await self._claimed(done.delta))
        plan = replace(plan, set_seen=False)
        done = await self._account.read(content.fetch, mailbox_id, uids, plan, since)
        return replace(done, delta=await self._claimed(done.delta))

    async def content(
        self, uids: Sequence[Uid], sections: Sequence[SectionRead], max_bytes: int
    ) -> tuple[ContentRow, ...]:
        """Sections of as many messages, in order, as fit; see ``ops.content.content``."""
        return await self._account.read(content.content, self.opened.mailbox_id, uids, sections, max_bytes)

    async def read_span(self, message_id: MessageId, offset: int, length: int) -> bytes:
        """Bytes of one message. Raises NoSuchMessage when it was expunged meanwhile."""
        return await self._account.read(content.read_span, message_id, offset, length)

    async def store_flags(
        self, uids: UidSet, mode: StoreMode, flags: Flags, unchanged_since: ModSeq | None, since: ModSeq
    ) -> StoreResult:
        """Change flags. Raises ReadOnly, LimitExceeded."""
        self._writable()
        done = await self._account.write(
            messages.store_flags, self.opened.mailbox_id, uids, mode, flags, unchanged_since, since
        )
        return replace(done, delta=await self._claimed(done.delta))

    async def copy(self, uids: UidSet, destination: MailboxName, since: ModSeq) -> CopyResult:
        """Copy messages, all or none. Raises NoSuchMailbox, ReadOnly, OverQuota, LimitExceeded."""
        self._account_writable()
        limits = await self._limits()
        done = await self._account.write(_copy, self.opened.mailbox_id, uids, destination, since, limits)
        return replace(done, delta=await self._claimed(done.delta))

    async def move(self, uids: UidSet, destination: MailboxName, since: ModSeq) -> CopyResult:
        """Move messages, all or none. Raises NoSuchMailbox, ReadOnly, LimitExceeded."""
        self._writable()
        done = await self._account.write(_move, self.opened.mailbox_id, uids, destination, since)
        return replace(done, delta=await self._claimed(done.delta))

    async def expunge(self, uids: UidSet | None, since: ModSeq) -> Delta:
        """Remove messages flagged ``\\Deleted``, only those in ``uids`` when given. Raises ReadOnly."""
        self._writable()
        done = await self._account.write(messages.expunge, self.opened.mailbox_id, uids, since)
        return await self._claimed(done)

    async def search(
        self, key: criteria.Key, since: ModSeq, progress: Progress | None = None
    ) -> SearchResult:
        """Messages that match. ``progress`` is kept up to date meanwhile."""
        run = partial(search.run, progress=progress)
        found = await self._account.search(key, run, self.opened.mailbox_id, key, since)
        return replace(found, delta=await self._claimed(found.delta))

    async def sort(
        self, key: criteria.Key, order: Sequence[SortBy], since: ModSeq, progress: Progress | None = None
    ) -> SearchResult:
        """Messages that match, in the order asked for."""
        mailbox_id, kept = self.opened.mailbox_id, self._account.kept
        run = partial(sorting.sort, progress=progress)
        found, arranged = await self._account.search(key, run, mailbox_id, key, order, since, kept.get)
        if arranged is not None:
            kept.keep((mailbox_id, sorting.distinct(order)), arranged)
        return replace(found, delta=await self._claimed(found.delta))

    async def threads(
        self,
        key: criteria.Key,
        algorithm: ThreadAlgorithm,
        since: ModSeq,
        progress: Progress | None = None,
    ) -> tuple[threads.Threads, Delta]:
        """The threads of the messages that match."""
        kept, place = self._account.kept, (self.opened.mailbox_id, algorithm)
        known = kept.threads(place)
        run = partial(sorting.to_thread, progress=progress)
        found = await self._account.search(key, run, self.opened.mailbox_id, key, since, known)
        changed = await self._claimed(found.delta)
        made: Threading | Threaded
        if found.renewal is not None:
            made = await self._account.compute(found.renewal.made)
        elif found.rows is None and known is not None:
            made = known
        elif found.now is not None and criteria.is_everything(key):
            made = await self._account.compute(arrange, found.rows or [], algorithm)
        else:
            return await self._account.compute(_threads, found.rows or [], algorithm), changed
        if found.now is not None:
            kept.keep(place, Threaded(found.now.modseq, found.now.uid_next, made.threads, made.index))
        return made.threads, changed

    async def replace(
        self, uid: Uid, destination: MailboxName, new: NewMessage, since: ModSeq
    ) -> tuple[AppendResult, Delta]:
        """Replace a message by a new one (RFC 8508), both steps or neither.

        Raises:
            NoSuchMessage: the old one is gone. NoSuchMailbox, OverQuota, ReadOnly, LimitExceeded.
        """
        self._writable()
        prepared = await self._account.prepare(new.data)
        date = int(time.time()) if new.internal_date is None else new.internal_date
        filed = ReadyMessage(prepared, new.flags, date)
        limits = await self._limits()
        placed, found = await self._account.write(
            _replace, self.opened.mailbox_id, uid, destination, filed, since, limits
        )
        return placed, await self._claimed(found)

    async def maildrop(self) -> MaildropListing:
        """The messages as POP3 lists them."""
        return await self._account.read(maildrop.listing, self.opened.mailbox_id)

    async def maildrop_ids(self, uids: UidSet) -> tuple[MaildropId, ...]:
        """What identifies messages (POP3's UIDL), those that are still there by ascending UID."""
        return await self._account.read(maildrop.ids, self.opened.mailbox_id, uids)

    async def mark_seen(self, uids: UidSet) -> None:
        """Set ``\\Seen`` on those that are still there. Raises ReadOnly."""
        self._writable()
        await self._account.write(messages.mark_seen, self.opened.mailbox_id, uids)

    async def remove(self, uids: UidSet) -> None:
        """Remove messages whatever their flags (POP3's QUIT), all or none. Raises ReadOnly."""
        self._writable()
        await self._account.write(messages.expunge_unconditionally, self.opened.mailbox_id, uids)

    async def discard(self, uids: UidSet) -> None:
        """Move messages to the mailbox for deleted ones, all or none; see ``ops.maildrop.discard``.

        Raises ReadOnly, LimitExceeded.
        """
        self._writable()
        await self._account.write(
            maildrop.discard, self.opened.mailbox_id, uids, self._account.limits.max_mailboxes
        )


def _delta_and_claimed(txn: Txn, mailbox_id: MailboxId, since: ModSeq) -> tuple[Delta, Uid]:
    return delta(txn, mailbox_id, since), mailboxes.recent_claimed_up_to(txn, mailbox_id)


def _copy(
    txn: Txn,
    source: MailboxId,
    uids: UidSet,
    destination: MailboxName,
    since: ModSeq,
    limits: QuotaLimits,
) -> CopyResult:
    target = require_mailbox(txn, destination)
    return messages.copy(txn, source, uids, target, since, limits)


def _threads(rows: Sequence[ThreadRow], algorithm: ThreadAlgorithm) -> threads.Threads:
    return threads.Threads(threads.threads(rows, algorithm))


def _replace(
    txn: Txn,
    source: MailboxId,
    uid: Uid,
    destination: MailboxName,
    new: ReadyMessage,
    since: ModSeq,
    limits: QuotaLimits,
) -> tuple[AppendResult, Delta]:
    target = require_mailbox(txn, destination)
    check_quota(txn, new.prepared.size_bytes, 0, limits)
    validity, placed, changed = messages.replace(txn, source, uid, target, new, since)
    return AppendResult(target, validity, (placed,)), changed


def _move(txn: Txn, source: MailboxId, uids: UidSet, destination: MailboxName, since: ModSeq) -> CopyResult:
    target = require_mailbox(txn, destination)
    return messages.move(txn, source, uids, target, since)
