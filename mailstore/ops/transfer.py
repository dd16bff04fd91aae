"""What moving mail in and out asks of a database: which messages there are, and where new ones go."""

from __future__ import annotations

from typing import NamedTuple

from mailstore.engine import Txn
from mailstore.errors import LimitExceeded
from mailstore.model import Flags, MailboxId, MessageId, QuotaLimits, Uid
from mailstore.ops.content import MessageReader
from mailstore.ops.messages import add_messages, known_keywords
from mailstore.ops.quota import check_quota
from mailstore.ops.rows import flags_of
from mailstore.prepared import ReadyMessage


class Leaving(NamedTuple):
    """A message on its way out; ``internal_date`` in seconds since the epoch."""

    uid: Uid
    message_id: MessageId
    flags: Flags
    internal_date: int
    size_bytes: int


def page_of_messages(txn: Txn, mailbox_id: MailboxId, after: int, count: int) -> list[Leaving]:
    """The next ``count`` messages of a mailbox whose UIDs are above ``after``."""
    rows = txn.rows(
        "SELECT uid, message_id, flags, keywords, internal_date, size_bytes FROM placed"
        " WHERE mailbox_id = ? AND uid > ? ORDER BY uid LIMIT ?",
        (mailbox_id, after, count),
    )
    return [
        Leaving(uid, message_id, flags_of(flags, words), date, size)
        for uid, message_id, flags, words, date, size in rows
    ]


def sizes_and_dates(txn: Txn, mailbox_id: MailboxId) -> list[tuple[int, int, int]]:
    """Size, internal date and message of everything in a mailbox, by UID."""
    return txn.rows(
        "SELECT size_bytes, internal_date, message_id FROM placed WHERE mailbox_id = ? ORDER BY uid",
        (mailbox_id,),
    )


def header_of(txn: Txn, message_id: MessageId) -> bytes:
    """A message's header, its blank line included; empty for one that is gone."""
    row = txn.one("SELECT id, size_bytes, header_bytes FROM message WHERE id = ?", (message_id,))
    return b"" if row is None else MessageReader(txn, *row).header()


def add_imported(txn: Txn, mailbox_id: MailboxId, batch: list[ReadyMessage], limits: QuotaLimits) -> int:
    """File messages of another program; keywords that are too many for the mailbox are left out.

    Returns how many keywords that were. Raises OverQuota, NoSuchMailbox.
    """
    check_quota(txn, sum(one.prepared.size_bytes for one in batch), len(batch), limits)
    fitting, left_out = [], 0
    for one in batch:
        try:
            known_keywords(txn, mailbox_id, one.flags.keywords)
            fitting.append(one)
        except LimitExceeded:
            kept = known_keywords(txn, mailbox_id, one.flags.keywords, add=False)
            left_out += len(one.flags.keywords) - len(kept)
            fitting.append(ReadyMessage(one.prepared, Flags(one.flags.system, kept), one.internal_date))
    add_messages(txn, mailbox_id, fitting)
    return left_out
