"""Commands on messages (RFC 3501 sections 6.4.3 to 6.4.8, RFC 6851, RFC 7162, RFC 10022). Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mailstore.model import Flags, ModSeq, StoreMode
from mailstore.uidset import SequenceSet
from protocols.imap.grammar.cursor import Cursor
from protocols.imap.grammar.fetch_items import FetchItem, FetchSection, read_items_or_macro
from protocols.imap.grammar.page import Page, read_page
from protocols.imap.grammar.refusal import Malformed


@dataclass(frozen=True, slots=True)
class Expunge:
    """EXPUNGE (section 6.4.3); with UIDs it is UID EXPUNGE (RFC 4315 section 2.1)."""

    uids: SequenceSet | None = None


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


@dataclass(frozen=True, slots=True)
class Store:
    """STORE (section 6.4.6) with UNCHANGEDSINCE (RFC 7162 section 3.1.3)."""

    numbers: SequenceSet
    mode: StoreMode
    flags: Flags
    silent: bool = False
    unchanged_since: ModSeq | None = None
    by_uid: bool = False


@dataclass(frozen=True, slots=True)
class UidBatches:
    """UIDBATCHES (RFC 10022): messages in a batch, and which batches; last None means all further ones."""

    size: int
    first: int = 1
    last: int | None = None


@dataclass(frozen=True, slots=True)
class Copy:
    """COPY (section 6.4.7)."""

    numbers: SequenceSet
    mailbox: str
    by_uid: bool = False


@dataclass(frozen=True, slots=True)
class Move:
    """MOVE (RFC 6851)."""

    numbers: SequenceSet
    mailbox: str
    by_uid: bool = False


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


_STORE_MODES = {
    b"FLAGS": (StoreMode.REPLACE, False),
    b"FLAGS.SILENT": (StoreMode.REPLACE, True),
    b"+FLAGS": (StoreMode.ADD, False),
    b"+FLAGS.SILENT": (StoreMode.ADD, True),
    b"-FLAGS": (StoreMode.REMOVE, False),
    b"-FLAGS.SILENT": (StoreMode.REMOVE, True),
}


def parse_store(cursor: Cursor, by_uid: bool) -> Store:
    """``store`` behind its name."""
    cursor.space()
    numbers = cursor.sequence_set()
    cursor.space()
    unchanged_since: ModSeq | None = None
    if cursor.peek() == b"(":
        cursor.open()
        if cursor.word(b"modifier") != b"UNCHANGEDSINCE":
            raise cursor.failure(b"UNCHANGEDSINCE")
        cursor.space()
        unchanged_since = cursor.modseq()
        cursor.close()
        cursor.space()
    found = _STORE_MODES.get(cursor.word(b"FLAGS"))
    if found is None:
        raise cursor.failure(b"FLAGS")
    cursor.space()
    if cursor.peek() == b"(":
        flags = cursor.flag_list()
    else:
        items = [cursor.flag()]
        while cursor.more():
            if len(items) >= cursor.limits.list_items_max:
                raise cursor.failure(b"shorter list")
            items.append(cursor.flag())
        flags = cursor.flags(items)
    cursor.end()
    return Store(numbers, found[0], flags, found[1], unchanged_since, by_uid)


def parse_uid_batches(cursor: Cursor) -> UidBatches:
    """``uidbatches`` behind its name: a size, and which batches, counted from the newest."""
    cursor.space()
    size = cursor.number(b"batch size")
    first, last = 1, None
    if cursor.more():
        first = cursor.number(b"batch number")
        cursor.expect(b":", b"colon")
        last = cursor.number(b"batch number")
        if not 1 <= first <= last:
            raise Malformed(b"batch numbers out of order", b"CLIENTBUG")
    cursor.end()
    return UidBatches(size, first, last)


def numbers_and_mailbox(build: Callable[..., Copy | Move]) -> Callable[[Cursor, bool], Copy | Move]:
    """What parses the arguments of COPY or MOVE into what ``build`` makes of them."""

    def parse(cursor: Cursor, by_uid: bool) -> Copy | Move:
        cursor.space()
        numbers = cursor.sequence_set()
        cursor.space()
        mailbox = cursor.mailbox()
        cursor.end()
        return build(numbers, mailbox, by_uid)

    return parse


def parse_uid_expunge(cursor: Cursor) -> Expunge:
    """``uid expunge`` behind its name (RFC 4315 section 2.1)."""
    cursor.space()
    numbers = cursor.sequence_set()
    cursor.end()
    return Expunge(numbers)
