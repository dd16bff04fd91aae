"""FETCH and STORE arguments (RFC 3501 sections 6.4.5, 6.4.6 and 9, RFC 7162). Pure."""

from __future__ import annotations

from mailstore.model import ModSeq, StoreMode
from protocols.imap.cursor import Cursor
from protocols.imap.fetch_items_grammar import read_items_or_macro
from protocols.imap.query_grammar import read_page
from protocols.imap.refusal import Malformed
from protocols.imap.requests import Fetch, Store
from protocols.imap.search_requests import Page


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
