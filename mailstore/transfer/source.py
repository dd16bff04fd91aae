"""What mail can be imported from: the values that a format's reader gives, and the interface it has."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from mailstore.model import Flags, SpecialUse


class SourceUnusable(Exception):
    """There is no mail of that format; the text is a sentence for the one who named the source."""


class SourceUnavailable(SourceUnusable):
    """Another server cannot be reached, or wants to be left alone: it may work later."""


class Reason(StrEnum):
    """Why a message was left out."""

    TOO_LARGE = "larger than the server's max_message_bytes"
    NO_FILE = "no ordinary file"
    UNREADABLE = "cannot be read"
    NAME = "no mailbox can have that name"
    TOO_MANY = "more mailboxes than an account can have"
    CUT = "its beginning is missing"


@dataclass(frozen=True, slots=True)
class SourceMailbox:
    """A mailbox of the source. ``levels`` is its name, outermost level first; ``key`` is the reader's own.

    ``subscribed`` is None where the source does not tell. ``is_view`` is for mailboxes that show messages of
    others (``\\All``, ``\\Flagged``, ``\\Important``; RFCs 6154, 8457): what is nowhere else is imported.
    """

    key: str = field(repr=False)
    levels: tuple[str, ...] = field(repr=False)
    special_use: SpecialUse | None = None
    subscribed: bool | None = None
    is_view: bool = False


@dataclass(frozen=True, slots=True)
class Incoming:
    """A message: its bytes with CRLF, its flags, and when it arrived, in seconds since the epoch.

    ``source_bytes`` is what it adds to the progress; ``place`` says where it was found.
    """

    data: bytes = field(repr=False)
    flags: Flags = field(repr=False)
    internal_date: int
    source_bytes: int
    place: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Unusable:
    """A message, or a mailbox, that cannot be imported."""

    place: str = field(repr=False)
    reason: Reason
    source_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Passed:
    """A message that is not imported: it is there already, deleted in its source, or older than wanted."""

    source_bytes: int
    is_deleted: bool = False
    is_older: bool = False


@dataclass(frozen=True, slots=True)
class Foreseen:
    """A message that would be imported, and need not be read to know that."""

    source_bytes: int


class Destination(Protocol):
    """Where the messages of a mailbox go, for sources that are slow to read."""

    def expect(self, size_bytes: int) -> None:
        """There is so much to read, which was not known before."""

    def wants(self, internal_date: int) -> bool:
        """Whether messages of that internal date (epoch s) are wanted."""

    def may_have(self, size_bytes: int, internal_date: int) -> bool:
        """Whether there is one of that size and internal date (epoch s)."""

    def take_by_header(self, size_bytes: int, internal_date: int, header: bytes) -> bool:
        """Whether there is one with that header too. It is recognised once only."""


Found = Incoming | Unusable | Passed | Foreseen


class Source(Protocol):
    """Mail of another program or server. Its methods block."""

    def mailboxes(self) -> list[SourceMailbox]:
        """All mailboxes. Raises SourceUnusable."""

    def size_bytes(self, mailboxes: list[SourceMailbox]) -> int:
        """About how many bytes their messages have, for the progress."""

    def messages(self, mailbox: SourceMailbox, there: Destination) -> Iterator[Found]:
        """Its messages in the source's order."""
