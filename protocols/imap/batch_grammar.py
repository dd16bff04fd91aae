"""Arguments of UIDBATCHES (RFC 10022 section 3.1). Pure."""

from __future__ import annotations

from protocols.imap.cursor import Cursor
from protocols.imap.refusal import Malformed
from protocols.imap.requests import UidBatches


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
