"""Import: what a source has and the account has not, in transactions of bounded size.

A message is there already when the mailbox has one with the same bytes and the same internal date; twice in
the source, it has to be there twice. So an import that was interrupted is simply run again, and an import
that is repeated adds nothing, whatever the user has done to flags meanwhile.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import TypeVar

from mailstore.durable import storage_errors
from mailstore.errors import (
    OverQuota,
)
from mailstore.locks import locked
from mailstore.model import (
    HIERARCHY_DELIMITER,
    MailboxId,
    QuotaLimits,
)
from mailstore.opened_account import OpenedAccount, Wanted, opened_account
from mailstore.ops import mailboxes
from mailstore.ops.transfer import add_imported
from mailstore.prepared import ReadyMessage, prepare
from mailstore.progress import Progress
from mailstore.room import require_margin
from mailstore.transfer.destinations import existing_mailboxes, made_mailboxes
from mailstore.transfer.folders import levels_of
from mailstore.transfer.known import KnownMessages
from mailstore.transfer.source import (
    Foreseen,
    Found,
    Incoming,
    Passed,
    Reason,
    Source,
    SourceMailbox,
    Unusable,
)

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


@dataclass(frozen=True, slots=True)
class Choice:
    """What of a source is wanted, and where.

    ``only`` and ``not_these`` are patterns as of a shell for names of the source with ``/`` between levels;
    ``since`` is the earliest internal date (epoch s). ``into`` is a mailbox: a source with one mailbox goes
    there, the mailboxes of others below it. With ``dry_run`` nothing is written.
    """

    only: tuple[str, ...] = ()
    not_these: tuple[str, ...] = ()
    since: int = 0
    into: str = field(default="", repr=False)
    dry_run: bool = False

    def has(self, mailbox: SourceMailbox) -> bool:
        """Whether the mailbox is wanted."""
        name = HIERARCHY_DELIMITER.join(mailbox.levels)
        wanted = not self.only or any(fnmatchcase(name, one) for one in self.only)
        return wanted and not any(fnmatchcase(name, one) for one in self.not_these)

    def placed(self, mailboxes: list[SourceMailbox]) -> list[SourceMailbox]:
        """The wanted mailboxes with the names that they get."""
        wanted = list(filter(self.has, mailboxes))
        above = levels_of(self.into)
        if not above:
            return wanted
        alone = len(mailboxes) == 1
        return [
            replace(one, levels=above if alone else (*above, *one.levels), special_use=None) for one in wanted
        ]


@dataclass(slots=True)
class Imported:
    """What an import has done. ``unusable`` are the first of those ``unusable_count``."""

    mailboxes: int = 0
    messages: int = 0
    size_bytes: int = 0
    already_there: int = 0
    older: int = 0
    deleted_in_source: int = 0
    keywords_left_out: int = 0
    unusable_count: int = 0
    unusable: list[Unusable] = field(default_factory=list, repr=False)

    def note(self, found: Unusable) -> None:
        """Count what could not be imported, and remember the first."""
        self.unusable_count += 1
        if len(self.unusable) < MOST_NAMED:
            self.unusable.append(found)


def import_mail(
    wanted: Wanted, source: Source, choice: Choice, progress: Progress, within: Within, done: Imported
) -> None:
    """Import what is chosen of ``source``; ``done`` says at any moment how far it has come.

    Raises:
        SourceUnusable: there is nothing of that format. SourceUnavailable: its server does not answer.
        OverQuota, LimitExceeded: what was imported before stays; so with every other error.
        AuthenticationFailed and what else :func:`opened_account` raises.
    """
    with opened_account(wanted, writes=True) as account, _alone(account):
        with within():
            found = choice.placed(source.mailboxes())
            progress.expect(source.size_bytes(found))
        importing = _Importing(account, choice, progress, done)
        for mailbox, mailbox_id in importing.destinations(found):
            importing.take_mailbox(mailbox, mailbox_id, source, within)


def _alone(account: OpenedAccount) -> AbstractContextManager[object]:
    return locked(account.paths.folder / IMPORT_LOCK, exclusive=True, timeout_s=0.0)


class _Destination(KnownMessages):
    """One mailbox of the account, with what it has."""

    def __init__(
        self, account: OpenedAccount, mailbox_id: MailboxId | None, choice: Choice, progress: Progress
    ) -> None:
        super().__init__(account.database)
        self.mailbox_id = mailbox_id
        self._choice = choice
        self.expect = progress.expect

    def wants(self, internal_date: int) -> bool:
        """As :meth:`Destination.wants`."""
        return internal_date >= self._choice.since


class _Importing:
    """One import into one account."""

    def __init__(self, account: OpenedAccount, choice: Choice, progress: Progress, done: Imported) -> None:
        self._account = account
        self._choice = choice
        self._progress = progress
        self._done = done
        limits = account.wanted.limits
        self._quota = QuotaLimits(account.record.limit_bytes(limits.quota_bytes), limits.max_messages)
        self._known: dict[MailboxId | None, _Destination] = {}
        self._batch: list[ReadyMessage] = []
        self._batch_bytes = 0
        self._read_bytes = 0

    def destinations(self, found: list[SourceMailbox]) -> Iterator[tuple[SourceMailbox, MailboxId | None]]:
        """The mailboxes that can be imported, and where to: what is missing is made.

        The id is None for a mailbox that a dry run would make. What cannot be made is noted.
        """
        database, limits = self._account.database, self._account.wanted.limits
        if self._choice.dry_run:
            places = database.read(0, existing_mailboxes, found)
        else:
            places = database.write(
                int(time.time()), made_mailboxes, found, limits.max_mailboxes, limits.max_subscriptions
            )
        for mailbox, place in zip(found, places, strict=True):
            if isinstance(place, Reason):
                self._done.note(Unusable(ascii("/".join(mailbox.levels)), place))
            else:
                yield mailbox, place

    def take_mailbox(
        self, mailbox: SourceMailbox, mailbox_id: MailboxId | None, source: Source, within: Within
    ) -> None:
        """Import one mailbox of the source."""
        place = self._place(mailbox, mailbox_id)
        self._done.mailboxes += 1
        for found in _each(source.messages(mailbox, place), within):
            self._take(place, found)
        self._flush(place.mailbox_id)

    def _take(self, place: _Destination, found: Found) -> None:
        self._read_bytes += found.source_bytes
        done = self._done
        match found:
            case Unusable():
                done.note(found)
            case Passed():
                done.deleted_in_source += found.is_deleted
                done.older += found.is_older
                done.already_there += not (found.is_deleted or found.is_older)
            case Foreseen():
                done.messages += 1
                done.size_bytes += found.source_bytes
            case Incoming():
                date = min(max(found.internal_date, 0), LATEST_DATE)
                if not place.wants(date):
                    done.older += 1
                elif place.take(found.data, date):
                    done.already_there += 1
                else:
                    self._add(found, date)
        if max(self._batch_bytes, self._read_bytes) >= BATCH_BYTES or len(self._batch) >= BATCH_MESSAGES:
            self._flush(place.mailbox_id)

    def _add(self, found: Incoming, date: int) -> None:
        ready = ReadyMessage(prepare(found.data, self._account.wanted.mime), found.flags, date)
        self._batch.append(ready)
        self._batch_bytes += len(found.data)

    def _flush(self, mailbox_id: MailboxId | None) -> None:
        batch, size_bytes, read_bytes = self._batch, self._batch_bytes, self._read_bytes
        self._batch, self._batch_bytes, self._read_bytes = [], 0, 0
        if batch and (self._choice.dry_run or mailbox_id is None):
            self._count(batch)
        elif batch and mailbox_id is not None:
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
        self._count(batch)

    def _count(self, batch: list[ReadyMessage]) -> None:
        self._done.messages += len(batch)
        self._done.size_bytes += sum(one.prepared.size_bytes for one in batch)

    def _place(self, mailbox: SourceMailbox, mailbox_id: MailboxId | None) -> _Destination:
        """Where the mailbox goes, with what is there; of a view, with what is in the whole account."""
        # Kept until the end: several mailboxes of the source may become one of the account.
        place = self._known.get(mailbox_id)
        if place is None or mailbox.is_view:
            place = self._known[mailbox_id] = _Destination(
                self._account, mailbox_id, self._choice, self._progress
            )
            inside = [] if mailbox_id is None else [mailbox_id]
            if mailbox.is_view:
                listed = self._account.database.read(0, mailboxes.list_mailboxes).mailboxes
                inside = [one.mailbox_id for one in listed]
            for one in inside:
                place.add_mailbox(one)
        return place


def _each(found: Iterator[T], within: Within) -> Iterator[T]:
    """What an iterator gives, each step of it taken within that context."""
    end = object()
    while True:
        with within():
            one = next(found, end)
        if one is end:
            return
        yield one  # type: ignore[misc]  # it is not ``end``, which is all that mypy cannot see
