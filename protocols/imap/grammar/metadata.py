"""Arguments of GETMETADATA and SETMETADATA (RFC 5464 section 5). Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import Enum

from mailstore.model import MailboxName
from protocols.imap.grammar.cursor import Cursor


class Depth(Enum):
    """How far below a named entry to look (section 4.2.2)."""

    ENTRY = b"0"
    CHILDREN = b"1"
    ALL = b"INFINITY"


@dataclass(frozen=True, slots=True)
class GetMetadata:
    """GETMETADATA (section 4.2); the mailbox ``""`` is the server. ``max_size`` in octets."""

    mailbox: MailboxName
    entries: tuple[str, ...] = field(repr=False)
    depth: Depth = Depth.ENTRY
    max_size: int | None = None


@dataclass(frozen=True, slots=True)
class SetMetadata:
    """SETMETADATA (section 4.3); None takes an entry away."""

    mailbox: MailboxName
    values: dict[str, bytes | None] = field(repr=False)


_ENTRY = re.compile(rb"/(?:private|shared)(?:/[^\x00-\x1f/*%\x7f-\xff]+)*\Z", re.IGNORECASE)
_OPTIONS = re.compile(rb"\( *(?:MAXSIZE|DEPTH) ", re.IGNORECASE)
_DEPTHS = {depth.value: depth for depth in Depth}


def parse_get_metadata(cursor: Cursor) -> GetMetadata:
    """``getmetadata`` behind its name.

    The options stand before the mailbox in the syntax and behind it in the examples (section 4.2.1):
    either will do.
    """
    options: dict[bytes, Depth | int] = {}
    cursor.space()
    if cursor.looking_at(_OPTIONS):
        options = dict(cursor.parenthesised(lambda: _option(cursor)))
        cursor.space()
    mailbox = cursor.mailbox()
    cursor.space()
    if cursor.looking_at(_OPTIONS):
        options.update(cursor.parenthesised(lambda: _option(cursor)))
        cursor.space()
    entries = metadata_entries(cursor)
    cursor.end()
    depth, max_size = options.get(b"DEPTH", Depth.ENTRY), options.get(b"MAXSIZE")
    assert isinstance(depth, Depth)
    assert not isinstance(max_size, Depth)
    return GetMetadata(mailbox, entries, depth, max_size)


def _option(cursor: Cursor) -> tuple[bytes, Depth | int]:
    match name := cursor.word(b"option"):
        case b"MAXSIZE":
            cursor.space()
            return name, cursor.number(b"size")
        case b"DEPTH":
            cursor.space()
            depth = _DEPTHS.get(cursor.word(b"depth"))
            if depth is not None:
                return name, depth
            raise cursor.failure(b"0, 1 or infinity")
        case _:
            raise cursor.failure(b"known option")


def metadata_entries(cursor: Cursor) -> tuple[str, ...]:
    """``entries``: one or several in parentheses; one named twice counts once."""
    if cursor.peek() != b"(":
        return (_entry(cursor),)
    return tuple(dict.fromkeys(cursor.parenthesised(lambda: _entry(cursor))))


def _entry(cursor: Cursor) -> str:
    """An entry name (section 3.2)."""
    name = cursor.astring(b"entry name")
    if len(name) > cursor.limits.metadata_entry_max_bytes:
        raise cursor.failure(b"shorter entry name")
    if not _ENTRY.match(name):
        raise cursor.failure(b"entry name below /private or /shared")
    return name.decode("ascii").lower()


def parse_set_metadata(cursor: Cursor) -> SetMetadata:
    """``setmetadata`` behind its name."""
    cursor.space()
    mailbox = cursor.mailbox()
    cursor.space()
    values = cursor.parenthesised(lambda: _entry_value(cursor))
    cursor.end()
    return SetMetadata(mailbox, dict(values))


def _entry_value(cursor: Cursor) -> tuple[str, bytes | None]:
    entry = _entry(cursor)
    if entry.count("/") < 2:
        raise cursor.failure(b"entry name below /private or /shared")
    cursor.space()
    if cursor.peek():
        return entry, cursor.nstring(b"value")
    literal = cursor.literal(b"value")
    if b"\0" in literal.data and not literal.binary:
        raise cursor.failure(b"value without NUL")
    return entry, literal.data
