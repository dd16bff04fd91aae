"""Which messages are in a mailbox: read once, then brought up to date at the cost of what has changed."""

from __future__ import annotations

import json
from array import array
from bisect import bisect_left, bisect_right
from typing import NamedTuple

from mailstore.engine import Txn
from mailstore.kept import Listing, Threaded
from mailstore.model import MailboxId, ModSeq, Uid
from mailstore.uidset import UidSet

TYPECODE = "I"
"""Four octets, as many as a UID has (RFC 3501 section 9, ``nz-number``)."""


class Extent(NamedTuple):
    """How far a mailbox has come: what tells whether a listing is of now."""

    modseq: ModSeq
    uid_next: Uid
    messages: int


def extent(txn: Txn, mailbox_id: MailboxId) -> Extent | None:
    """Of the mailbox as this transaction sees it; None when it is gone."""
    row = txn.one("SELECT highest_modseq, uid_next, messages FROM mailbox WHERE id = ?", (mailbox_id,))
    return None if row is None else Extent(*row)


def listing(txn: Txn, mailbox_id: MailboxId, now: Extent, known: Listing | None) -> Listing:
    """The messages of the mailbox by ascending UID, as this transaction sees them.

    ``known`` is how they once were; it stays as it is.
    """
    if known is None or known.modseq > now.modseq:
        return _read(txn, mailbox_id, now)
    if known.modseq == now.modseq:
        return known
    uids = known.uids
    gone, new = changes(txn, mailbox_id, known)
    if gone:
        uids = _without(uids, gone)
    if new:
        uids = uids + array(TYPECODE, new)
    if len(uids) != now.messages:
        return _read(txn, mailbox_id, now)
    return Listing(now.modseq, now.uid_next, uids)


def changes(txn: Txn, mailbox_id: MailboxId, known: Listing | Threaded) -> tuple[UidSet, list[Uid]]:
    """Messages that were expunged since, perhaps without being there, and those that came and are there."""
    gone = expunged_since(txn, mailbox_id, known.modseq)
    new = txn.rows(
        "SELECT uid FROM placed WHERE mailbox_id = ? AND uid >= ? ORDER BY uid", (mailbox_id, known.uid_next)
    )
    return gone, [uid for (uid,) in new]


def expunged_since(txn: Txn, mailbox_id: MailboxId, since: ModSeq) -> UidSet:
    """Messages that were expunged after ``since``."""
    rows = txn.rows("SELECT uid FROM expunged WHERE mailbox_id = ? AND modseq > ?", (mailbox_id, since))
    return UidSet.of(uid for (uid,) in rows)


def _read(txn: Txn, mailbox_id: MailboxId, now: Extent) -> Listing:
    # One JSON text takes half the time and memory of a row per message. It comes in primary-key order, so
    # sorting only makes sure of it.
    listed = txn.value("SELECT json_group_array(uid) FROM placed WHERE mailbox_id = ?", (mailbox_id,))
    return Listing(now.modseq, now.uid_next, array(TYPECODE, sorted(json.loads(listed))))


def _without(uids: array[int], gone: UidSet) -> array[int]:
    """``uids``, which ascend, without some."""
    kept = array(TYPECODE)
    at = 0
    for low, high in gone.ranges:
        start = bisect_left(uids, low, at)
        kept += uids[at:start]
        at = bisect_right(uids, high, start)
    return kept + uids[at:]
