"""Import: what a source has and the account has not, in transactions of bounded size.

A message is there already when the mailbox has one with the same bytes and the same internal date; twice in
the source, it has to be there twice. So an import that was interrupted is simply run again, and an import
that is repeated adds nothing, whatever the user has done to flags meanwhile.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from mailstore.durable import storage_errors
from mailstore.engine import Txn
from mailstore.errors import (
    MailboxNameInvalid,
    OverQuota,
    SpecialUseTaken,
)
from mailstore.locks import locked
from mailstore.model import MailboxId, MailboxName, QuotaLimits, SpecialUse
from mailstore.ops import mailboxes
from mailstore.ops.rows import require_mailbox
from mailstore.ops.transfer import add_imported
from mailstore.prepared import ReadyMessage, prepare
from mailstore.room import require_margin
from mailstore.transfer.folders import destination, special_use
from mailstore.transfer.known import KnownMessages
from mailstore.transfer.opened import OpenedAccount, Wanted, opened_account
from mailstore.transfer.source import Found, Incoming, Passed, Reason, Source, SourceMailbox, Unusable

BATCH_BYTES = 4 * 1024 * 1024
"""Messages are written in one transaction once they make so many bytes."""

BATCH_MESSAGES = 200
"""Most messages that are written in one transaction."""

MOST_NAMED = 1_000
"""At most this many things that could not be imported are remembered by name; all are counted."""

IMPORT_LOCK = "import.lock"
"""flock in an account's folder: one import at a time, so that none adds what another one is adding."""

LATEST_DATE = 253_402_300_799
"""The last second of the year 9999, which is the last that IMAP can write (RFC 3501 section 9, date-time)."""

T = TypeVar("T")
Within = Callable[[], AbstractContextManager[None]]
"""Makes a context in which the source may be read; it is the account's owner who writes."""


class Progress(Protocol):
    """Who wants to know how far it has come, in bytes."""

    def expect(self, size_bytes: int) -> None:
        """There is so much more to do."""

    def advance(self, size_bytes: int) -> None:
        """So much more has been done."""


@dataclass(slots=True)
class Imported:
    """What an import has done. ``unusable`` are the first of those ``unusable_count``."""

    mailboxes: int = 0
    messages: int = 0
    size_bytes: int = 0
    already_there: int = 0
    deleted_in_source: int = 0
    keywords_left_out: int = 0
    unusable_count: int = 0
    unusable: list[Unusable] = field(default_factory=list, repr=False)

    def note(self, found: Unusable) -> None:
        """Count what could not be imported, and remember the first."""
        self.unusable_count += 1
        if len(self.unusable) < MOST_NAMED:
            self.unusable.append(found)


def import_mail(wanted: Wanted, source: Source, progress: Progress, within: Within, done: Imported) -> None:
    """Import all that ``source`` has into the account; ``done`` says at any moment how far it has come.

    Raises:
        SourceUnusable: there is nothing of that format.
        OverQuota, LimitExceeded: what was imported before stays; so with every other error.
        AuthenticationFailed and what else :func:`opened_account` raises.
    """
    with opened_account(wanted, writes=True) as account, _alone(account):
        with within():
            found = source.mailboxes()
            progress.expect(source.size_bytes(found))
        importing = _Importing(account, progress, done)
        for mailbox in found:
            importing.take_mailbox(mailbox, source, within)


def _alone(account: OpenedAccount) -> AbstractContextManager[object]:
    return locked(account.paths.folder / IMPORT_LOCK, exclusive=True, timeout_s=0.0)


class _Importing:
    """One import into one account."""

    def __init__(self, account: OpenedAccount, progress: Progress, done: Imported) -> None:
        self._account = account
        self._progress = progress
        self._done = done
        self._quota = QuotaLimits(account.record.quota_bytes, account.wanted.limits.max_messages)
        self._known: dict[MailboxId, KnownMessages] = {}
        self._batch: list[ReadyMessage] = []
        self._batch_bytes = 0
        self._read_bytes = 0

    def take_mailbox(self, mailbox: SourceMailbox, source: Source, within: Within) -> None:
        """Import one mailbox of the source; one whose name cannot be made is noted."""
        try:
            mailbox_id = self._destination(mailbox)
        except MailboxNameInvalid:
            self._done.note(Unusable(ascii("/".join(mailbox.levels)), Reason.NAME))
            return
        self._done.mailboxes += 1
        known = self._known_in(mailbox_id)
        for found in _each(source.messages(mailbox, known), within):
            self._take(mailbox_id, known, found)
        self._flush(mailbox_id)

    def _take(self, mailbox_id: MailboxId, known: KnownMessages, found: Found) -> None:
        self._read_bytes += found.source_bytes
        match found:
            case Unusable():
                self._done.note(found)
            case Passed():
                self._done.deleted_in_source += found.is_deleted
                self._done.already_there += not found.is_deleted
            case Incoming():
                date = min(max(found.internal_date, 0), LATEST_DATE)
                if known.take(found.data, date):
                    self._done.already_there += 1
                else:
                    self._add(found, date)
        if (
            self._batch_bytes >= BATCH_BYTES
            or len(self._batch) >= BATCH_MESSAGES
            or self._read_bytes >= BATCH_BYTES
        ):
            self._flush(mailbox_id)

    def _add(self, found: Incoming, date: int) -> None:
        ready = ReadyMessage(prepare(found.data, self._account.wanted.mime), found.flags, date)
        self._batch.append(ready)
        self._batch_bytes += len(found.data)

    def _flush(self, mailbox_id: MailboxId) -> None:
        batch, size_bytes, read_bytes = self._batch, self._batch_bytes, self._read_bytes
        self._batch, self._batch_bytes, self._read_bytes = [], 0, 0
        if batch:
            self._account.give_way()
            with storage_errors():
                margin_bytes = self._account.wanted.limits.min_free_bytes
                require_margin(self._account.paths.folder, margin_bytes, size_bytes)
            try:
                self._write(mailbox_id, batch)
            except OverQuota:
                for one in batch:  # as many as fit
                    self._write(mailbox_id, [one])
        self._progress.advance(read_bytes)

    def _write(self, mailbox_id: MailboxId, batch: list[ReadyMessage]) -> None:
        left_out = self._account.database.write(
            int(time.time()), add_imported, mailbox_id, batch, self._quota
        )
        self._done.keywords_left_out += left_out
        self._done.messages += len(batch)
        self._done.size_bytes += sum(one.prepared.size_bytes for one in batch)

    def _known_in(self, mailbox_id: MailboxId) -> KnownMessages:
        # Kept until the end: several mailboxes of the source may become one of the account.
        known = self._known.get(mailbox_id)
        if known is None:
            known = self._known[mailbox_id] = KnownMessages(self._account.database)
            known.add_mailbox(mailbox_id)
        return known

    def _destination(self, mailbox: SourceMailbox) -> MailboxId:
        limits = self._account.wanted.limits
        return self._account.database.write(
            int(time.time()), _mailbox_for, mailbox, limits.max_mailboxes, limits.max_subscriptions
        )


def _mailbox_for(txn: Txn, mailbox: SourceMailbox, max_mailboxes: int, max_subscriptions: int) -> MailboxId:
    """The destination, made and subscribed where that is needed. Raises MailboxNameInvalid, LimitExceeded."""
    listed = mailboxes.list_mailboxes(txn).mailboxes
    uses = {one.special_use: one.name for one in listed if one.special_use is not None}
    use = special_use(mailbox.levels, mailbox.special_use)
    name = destination(mailbox.levels, use, uses)
    is_new = not any(one.name == name for one in listed)
    if is_new:
        _create(txn, name, use, max_mailboxes)
    if mailbox.subscribed or (mailbox.subscribed is None and is_new):
        mailboxes.subscribe(txn, name, max_subscriptions)
    return require_mailbox(txn, name)


def _create(txn: Txn, name: MailboxName, use: SpecialUse | None, max_mailboxes: int) -> None:
    try:
        mailboxes.create(txn, name, use, max_mailboxes)
    except SpecialUseTaken:
        mailboxes.create(txn, name, None, max_mailboxes)


def _each(found: Iterator[T], within: Within) -> Iterator[T]:
    """What an iterator gives, each step of it taken within that context."""
    end = object()
    while True:
        with within():
            one = next(found, end)
        if one is end:
            return
        yield one  # type: ignore[misc]  # it is not ``end``, which is all that mypy cannot see
