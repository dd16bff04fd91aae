"""A whole account at one moment, from stored counters: no message is read."""

from __future__ import annotations

from mailstore.engine import Txn
from mailstore.model import Counters, MailboxId, Overview
from mailstore.ops import mailboxes, metadata


def overview(txn: Txn, annotations_since: int | None) -> Overview:
    """Names, subscriptions and counters; versions of annotations unless None or nothing newer is there."""
    rows = txn.rows("SELECT id, messages, unseen, uid_next, uid_validity, highest_modseq FROM mailbox")
    version, annotations = 0, None
    if annotations_since is not None:
        version, annotations = metadata.versions(txn, annotations_since)
    return Overview(
        mailboxes.list_mailboxes(txn),
        {MailboxId(row[0]): Counters(*row[1:]) for row in rows},
        version,
        annotations,
    )
