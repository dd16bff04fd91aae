"""What mail can be exported to: the values that a format's writer is given, and the interface it has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from mailstore.model import Flags, MailboxName, SpecialUse, Uid


class TargetUnusable(Exception):
    """Nothing can be exported to that place; the text is a sentence for the one who named it."""


@dataclass(frozen=True, slots=True)
class Leaving:
    """A mailbox on its way out. ``modseq`` is its highest when the export of it began (RFC 7162)."""

    name: MailboxName = field(repr=False)
    special_use: SpecialUse | None
    subscribed: bool
    uid_validity: int
    uid_next: int
    modseq: int
    messages: int


@dataclass(frozen=True, slots=True)
class OutgoingFacts:
    """What is known of a message without reading it; ``internal_date`` in seconds since the epoch."""

    uid: Uid
    flags: Flags = field(repr=False)
    internal_date: int
    size_bytes: int


class MailboxWriter(Protocol):
    """Takes the messages of one mailbox, by ascending UID."""

    def has(self, facts: OutgoingFacts) -> bool:
        """Whether the message was written by an export that was interrupted, or is brought up to date."""

    def add(self, facts: OutgoingFacts, data: bytes) -> None:
        """Write a message that it does not have. Raises OSError."""

    def commit(self) -> None:
        """All messages are written: put them on the disk. Only now does the mailbox count. Raises OSError."""

    def close(self) -> None:
        """Nothing more will be written, whether it was all or not."""


class Target(Protocol):
    """A place that mail is exported to. Its methods block, and raise OSError and TargetUnusable."""

    def begin(self, account_id: str, update: bool) -> None:
        """Look at the place before anything is written; ``update`` brings a complete export up to date."""

    def is_done(self, mailbox: Leaving) -> bool:
        """Whether the mailbox is there as it is now."""

    def mailbox(self, mailbox: Leaving) -> MailboxWriter:
        """The writer of a mailbox."""

    def finish(self, mailboxes: Sequence[Leaving], subscriptions: Sequence[MailboxName]) -> None:
        """Everything is written: ``subscriptions`` are all, those of mailboxes that are gone included."""
