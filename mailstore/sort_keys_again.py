"""Migration 2 of ``mail.db``: the sort keys of every message, computed anew from its header.

Version 1 compared text by its case folding, where RFC 5256 section 2.2 asks for ``i;unicode-casemap``, and
took the first mailbox behind a group for the first address.
"""

from __future__ import annotations

import logging

from mailstore import mime
from mailstore.engine import Row, Txn, Value
from mailstore.prepared import FRAME_BYTES, decompress, header_frames

log = logging.getLogger("sealbox.schema")

BATCH_ROWS = 1_000
"""Messages per transaction; progress is stored in ``setting``, so a crash costs one transaction."""

_PROGRESS = "sort_keys_up_to"
_FRAME_BITS = 16
_CHANGE = (
    "UPDATE message_meta SET sort_subject = ?, is_reply = ?, sort_from = ?, sort_to = ?, sort_cc = ?,"
    " display_from = ?, display_to = ? WHERE message_id = ?"
)


def compute_again(txn: Txn) -> bool:
    """Convert one batch; returns whether there are more messages. Only one header at a time is in memory."""
    done = txn.value("SELECT value FROM setting WHERE name = ?", (_PROGRESS,)) or 0
    rows = txn.rows(
        "SELECT id, header_bytes FROM message WHERE id > ? ORDER BY id LIMIT ?", (done, BATCH_ROWS)
    )
    if len(rows) < BATCH_ROWS:
        txn.run("DELETE FROM setting WHERE name = ?", (_PROGRESS,))
    else:
        txn.run("INSERT OR REPLACE INTO setting VALUES(?, ?)", (_PROGRESS, rows[-1][0]))
    for row in rows:
        keys = _keys(txn, row)
        if keys is not None:
            txn.run(_CHANGE, keys)
    return len(rows) == BATCH_ROWS


def _keys(txn: Txn, row: Row) -> tuple[Value, ...] | None:
    """What ``_CHANGE`` writes; None when the message's header cannot be read."""
    message_id, header_bytes = row
    base = message_id << _FRAME_BITS
    wanted = min(header_frames(header_bytes), -(-mime.DEFAULT_LIMITS.max_header_bytes // FRAME_BYTES))
    frames = txn.rows("SELECT frame FROM content WHERE id >= ? AND id < ? ORDER BY id", (base, base + wanted))
    try:
        header = b"".join([decompress(frame) for (frame,) in frames])
    except ValueError:
        # Old keys only put it in another place. The mailbox has to open anyway.
        log.error("a content frame is damaged: the sort keys of one message stay as they were")
        return None
    keys = mime.sort_keys(header)
    return (
        keys.subject,
        keys.is_reply,
        keys.sender,
        keys.to,
        keys.cc,
        keys.display_from,
        keys.display_to,
        message_id,
    )
