"""What APPEND and its relatives ask for (RFC 3501 section 6.3.11, RFC 3502)."""

from __future__ import annotations

from dataclasses import dataclass, field

from mailstore.model import Flags
from mailstore.uidset import SequenceSet


@dataclass(frozen=True, slots=True)
class Url:
    """A part of a message that is on the server already (CATENATE, RFC 4469 section 3)."""

    text: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class AppendMessage:
    """One message with its flags; ``internal_date`` is seconds since the epoch, None means now."""

    flags: Flags
    internal_date: int | None
    parts: tuple[bytes | Url, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Append:
    """APPEND of one message or, with MULTIAPPEND, of several: all or none (RFC 3502 section 3)."""

    mailbox: str
    messages: tuple[AppendMessage, ...]


@dataclass(frozen=True, slots=True)
class Replace:
    """REPLACE (RFC 8508): ``number`` is one message of the selected mailbox."""

    number: SequenceSet
    mailbox: str
    message: AppendMessage
    by_uid: bool = False
