"""FETCH: its data items and modifiers (RFC 3501 sections 6.4.5 and 9, RFC 3516, RFC 7162). Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

from mailstore.mime.section import SectionKind, SectionSpec
from mailstore.model import ModSeq, SectionRead
from mailstore.uidset import MAX_NUMBER, SequenceSet
from protocols.imap.grammar.cursor import Cursor
from protocols.imap.grammar.page import Page, read_page
from protocols.imap.grammar.refusal import Malformed


class FetchItem(Enum):
    """FETCH data items that are not message content."""

    UID = b"UID"
    FLAGS = b"FLAGS"
    INTERNALDATE = b"INTERNALDATE"
    SIZE = b"RFC822.SIZE"
    ENVELOPE = b"ENVELOPE"
    BODY = b"BODY"
    BODYSTRUCTURE = b"BODYSTRUCTURE"
    MODSEQ = b"MODSEQ"
    EMAILID = b"EMAILID"
    THREADID = b"THREADID"
    SAVEDATE = b"SAVEDATE"
    PREVIEW = b"PREVIEW"


class SectionForm(Enum):
    """How message content is told (RFC 3501 section 6.4.5, RFC 3516 section 4.2)."""

    AS_STORED = "BODY"
    DECODED = "BINARY"
    DECODED_SIZE = "BINARY.SIZE"


@dataclass(frozen=True, slots=True)
class FetchSection:
    """A FETCH data item that is message content; ``label`` is how the response names it."""

    read: SectionRead
    label: bytes
    peek: bool
    form: SectionForm = SectionForm.AS_STORED


@dataclass(frozen=True, slots=True)
class Fetch:
    """FETCH (section 6.4.5) with CHANGEDSINCE and VANISHED (RFC 7162 sections 3.1.4.1 and 3.2.6)."""

    numbers: SequenceSet
    items: tuple[FetchItem | FetchSection, ...]
    changed_since: ModSeq | None = None
    by_uid: bool = False
    vanished: bool = False
    page: Page | None = None
    """Which of the messages asked for are meant (RFC 9394 section 3.4)."""


_ITEM_NAME = re.compile(rb"[A-Za-z0-9.]+")
_PART = re.compile(rb"[1-9][0-9]{0,9}(?:\.[1-9][0-9]{0,9})*")
_SECTION_TEXT = re.compile(rb"[A-Za-z.]+")
_BINARY = {
    b"BINARY": SectionForm.DECODED,
    b"BINARY.PEEK": SectionForm.DECODED,
    b"BINARY.SIZE": SectionForm.DECODED_SIZE,
}
_LAZY = re.compile(rb" +\( *LAZY *\)", re.IGNORECASE)
_PART_DEPTH_MAX = 100

_MACROS: dict[bytes, tuple[FetchItem, ...]] = {
    b"ALL": (FetchItem.FLAGS, FetchItem.INTERNALDATE, FetchItem.SIZE, FetchItem.ENVELOPE),
    b"FAST": (FetchItem.FLAGS, FetchItem.INTERNALDATE, FetchItem.SIZE),
    b"FULL": (FetchItem.FLAGS, FetchItem.INTERNALDATE, FetchItem.SIZE, FetchItem.ENVELOPE, FetchItem.BODY),
}
_ITEMS = {item.value: item for item in FetchItem}
_WHOLE = SectionSpec()
_OLD_SECTIONS = {
    b"RFC822": FetchSection(SectionRead(_WHOLE), b"RFC822", peek=False),
    b"RFC822.HEADER": FetchSection(
        SectionRead(SectionSpec(kind=SectionKind.HEADER)), b"RFC822.HEADER", peek=True
    ),
    b"RFC822.TEXT": FetchSection(SectionRead(SectionSpec(kind=SectionKind.TEXT)), b"RFC822.TEXT", peek=False),
}
_SECTION_TEXTS = {
    b"HEADER": SectionKind.HEADER,
    b"HEADER.FIELDS": SectionKind.HEADER_FIELDS,
    b"HEADER.FIELDS.NOT": SectionKind.HEADER_FIELDS_NOT,
    b"TEXT": SectionKind.TEXT,
    b"MIME": SectionKind.MIME,
}
_QUOTE = re.compile(rb'["\\]')
_PLAIN_FIELD = re.compile(rb"[^\x00-\x20\x7f-\xff(){%*\"\\\]\[]+\Z")


def parse_fetch(cursor: Cursor, by_uid: bool) -> Fetch:
    """``fetch`` behind its name."""
    cursor.space()
    numbers = cursor.sequence_set()
    cursor.space()
    items = read_items_or_macro(cursor)
    modifiers: dict[bytes, ModSeq | Page | None] = {}
    if cursor.more():
        modifiers = dict(cursor.parenthesised(lambda: _modifier(cursor)))
    cursor.end()
    changed_since, page = modifiers.get(b"CHANGEDSINCE"), modifiers.get(b"PARTIAL")
    assert not isinstance(changed_since, Page)
    # RFC 9394 section 3.4: PARTIAL is for UID FETCH only.
    if page is not None and not by_uid:
        raise Malformed(b"PARTIAL needs UID FETCH")
    # RFC 7162 section 3.2.6: VANISHED goes with CHANGEDSINCE and with UIDs only.
    vanished = b"VANISHED" in modifiers
    if vanished and (changed_since is None or not by_uid):
        raise Malformed(b"VANISHED needs UID FETCH and CHANGEDSINCE")
    return Fetch(numbers, items, changed_since, by_uid, vanished, page if isinstance(page, Page) else None)


def _modifier(cursor: Cursor) -> tuple[bytes, ModSeq | Page | None]:
    """``fetch-modifier`` (RFC 4466 section 2.4) with its value."""
    match name := cursor.word(b"modifier"):
        case b"CHANGEDSINCE":
            cursor.space()
            return name, cursor.modseq()
        case b"VANISHED":
            return name, None
        case b"PARTIAL":
            cursor.space()
            return name, read_page(cursor)
        case _:
            raise cursor.failure(b"known modifier")


def read_items(cursor: Cursor) -> tuple[FetchItem | FetchSection, ...]:
    """A list of data items in parentheses; one named twice counts once."""
    return _bounded(cursor, cursor.parenthesised(lambda: _item(cursor)))


def read_items_or_macro(cursor: Cursor) -> tuple[FetchItem | FetchSection, ...]:
    """What FETCH takes: a list, one data item or a macro."""
    if cursor.peek() == b"(":
        return read_items(cursor)
    name = cursor.token(_ITEM_NAME, b"data item").upper()
    return _bounded(cursor, _MACROS.get(name) or (_item_named(cursor, name),))


def _bounded(
    cursor: Cursor, items: tuple[FetchItem | FetchSection, ...]
) -> tuple[FetchItem | FetchSection, ...]:
    distinct = tuple(dict.fromkeys(items))
    binary = sum(isinstance(item, FetchSection) and item.form in _BINARY.values() for item in distinct)
    if binary > cursor.limits.binary_items_max:
        raise Malformed(b"too many BINARY items")
    return distinct


def _item(cursor: Cursor) -> FetchItem | FetchSection:
    return _item_named(cursor, cursor.token(_ITEM_NAME, b"data item").upper())


def _item_named(cursor: Cursor, name: bytes) -> FetchItem | FetchSection:
    if name in {b"BODY", b"BODY.PEEK"} and cursor.skip(b"["):
        return parse_section(cursor, peek=name == b"BODY.PEEK")
    if name in _BINARY and cursor.skip(b"["):
        return _binary(cursor, name)
    if name == b"PREVIEW" and cursor.looking_at(_LAZY):
        # RFC 8970 section 4: previews are made when a message is filed, so lazy ones are no different.
        cursor.token(_LAZY, b"LAZY")
    item = _ITEMS.get(name) or _OLD_SECTIONS.get(name)
    if item is None:
        raise cursor.failure(b"known data item")
    return item


def parse_section(cursor: Cursor, peek: bool) -> FetchSection:
    """``section`` behind its bracket, and a partial if there is one (RFC 3501 section 9)."""
    text = b""
    label, part = _part(cursor)
    if part:
        if cursor.skip(b"."):
            text = cursor.token(_SECTION_TEXT, b"section text").upper()
            label += b"."
    elif cursor.peek() != b"]":
        text = cursor.token(_SECTION_TEXT, b"section").upper()
    kind = _SECTION_TEXTS.get(text) if text else SectionKind.WHOLE
    # RFC 3501 section 6.4.5: MIME must be prefixed by part numbers.
    if kind is None or (kind is SectionKind.MIME and not part):
        raise cursor.failure(b"section text")
    fields: tuple[bytes, ...] = ()
    if kind in {SectionKind.HEADER_FIELDS, SectionKind.HEADER_FIELDS_NOT}:
        cursor.space()
        fields = cursor.parenthesised(lambda: cursor.astring(b"header field name"))
        text += b" (" + b" ".join(_field_to_wire(cursor, name) for name in fields) + b")"
    cursor.expect(b"]", b"closing bracket")
    offset, length = _partial(cursor)
    label = b"BODY[" + label + text + b"]" + (b"" if offset is None else b"<%d>" % offset)
    return FetchSection(SectionRead(SectionSpec(part, kind, fields), offset, length), label, peek)


def _part(cursor: Cursor) -> tuple[bytes, tuple[int, ...]]:
    """``section-part``, as written and as numbers; empty when there is none."""
    if not cursor.looking_at(_PART):
        return b"", ()
    label = cursor.token(_PART, b"part number")
    part = tuple(int(number) for number in label.split(b"."))
    if len(part) > _PART_DEPTH_MAX:
        raise cursor.failure(b"shorter part number")
    return label, part


def _partial(cursor: Cursor) -> tuple[int | None, int | None]:
    """``partial``: offset and length, both None when there is none."""
    if not cursor.skip(b"<"):
        return None, None
    offset = cursor.number(b"offset")
    cursor.expect(b".", b"dot")
    length = cursor.number(b"length", MAX_NUMBER)
    if length == 0:
        raise cursor.failure(b"length above 0")
    cursor.expect(b">", b"closing angle bracket")
    return offset, length


def _binary(cursor: Cursor, name: bytes) -> FetchSection:
    """``BINARY``, ``BINARY.PEEK`` or ``BINARY.SIZE`` behind the bracket (RFC 3516 section 7)."""
    form = _BINARY[name]
    label, part = _part(cursor)
    cursor.expect(b"]", b"part number or closing bracket")
    label = form.value.encode("ascii") + b"[" + label + b"]"
    offset: int | None = None
    length: int | None = None
    if form is SectionForm.DECODED:
        offset, length = _partial(cursor)
        label += b"" if offset is None else b"<%d>" % offset
    # A whole message has no transfer encoding of its own, so it need not be decoded in memory.
    read = SectionRead(SectionSpec(part), offset, length, decoded=bool(part))
    return FetchSection(read, label, name != b"BINARY", form)


def _field_to_wire(cursor: Cursor, name: bytes) -> bytes:
    """The name as the response repeats it; names that no header can have are refused."""
    if any(octet < 0x20 or octet > 0x7E for octet in name):
        raise cursor.failure(b"header field name in ASCII")
    return name if _PLAIN_FIELD.match(name) else b'"' + _QUOTE.sub(rb"\\\g<0>", name) + b'"'
