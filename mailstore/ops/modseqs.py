"""What has changed after a modification sequence, found by its index instead of in the whole mailbox."""

from __future__ import annotations

from collections.abc import Iterable

from mailstore import search
from mailstore.engine import Row, Txn
from mailstore.model import MailboxId
from mailstore.uidset import UidSet

FEW_OF = 4
"""Up to one of so many messages are found by the index; of more, all are looked at in order."""


def by_modseq(
    txn: Txn, mailbox_id: MailboxId, keys: Iterable[search.Key]
) -> tuple[list[search.Key], list[Row] | None]:
    """The same keys, of which all have to match, with a modseq replaced by the few messages that it leaves.

    With them come the rows (uid, modseq) of these messages by ascending UID; None where they are not few.
    """
    tops = list(keys)
    modseqs = [top.modseq for top in tops if isinstance(top, search.ModSeqAtLeast)]
    messages = txn.value("SELECT messages FROM mailbox WHERE id = ?", (mailbox_id,)) if modseqs else None
    if not messages:
        return tops, None
    few = messages // FEW_OF
    rows = txn.rows(
        "SELECT uid, modseq FROM placed INDEXED BY placed_by_modseq"
        " WHERE mailbox_id = ? AND modseq >= ? LIMIT ?",
        (mailbox_id, max(modseqs), few + 1),
    )
    if len(rows) > few:
        return tops, None
    others = [top for top in tops if not isinstance(top, search.ModSeqAtLeast)]
    return [search.Uids(UidSet.of(uid for uid, _ in rows)), *others], sorted(rows)
