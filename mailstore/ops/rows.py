"""What the other modules here share: choosing rows by UID, rows to values, modification sequences."""

from __future__ import annotations

import json

from mailstore.engine import Row, Txn
from mailstore.errors import NoSuchMailbox
from mailstore.model import Delta, Flags, MailboxId, MailboxName, MessageFlags, ModSeq, SystemFlag, Uid
from mailstore.uidset import UidSet

CHOSEN = (
    "json_each(?) AS chosen CROSS JOIN placed AS p ON p.mailbox_id = ?"
    " AND p.uid BETWEEN CAST(chosen.key AS INTEGER) AND chosen.value"
)
"""FROM clause that walks the ranges of a UID set in order; parameters: ``as_json(uids)``, mailbox."""

# Making an enum member and a dataclass for every row costs more than reading the row.
_PLAIN_FLAGS = tuple(Flags(SystemFlag(bits)) for bits in range(2 * max(SystemFlag)))


def as_json(uids: UidSet) -> str:
    """The set's ranges as the JSON text that ``CHOSEN`` expects, each by its low end."""
    return json.dumps(dict(uids.ranges))


def keywords_of(column: str | None) -> tuple[str, ...]:
    """The keywords in a ``placed.keywords`` column."""
    return tuple(column.split(" ")) if column else ()


def keywords_column(keywords: tuple[str, ...]) -> str | None:
    """The ``placed.keywords`` column for these keywords."""
    return " ".join(keywords) or None


def flags_of(flags: int, keywords: str | None) -> Flags:
    """The values of the columns ``placed.flags`` and ``placed.keywords``."""
    plain = _PLAIN_FLAGS[flags]
    return Flags(plain.system, keywords_of(keywords)) if keywords else plain


def message_flags(row: Row) -> MessageFlags:
    """A row of (uid, modseq, flags, keywords) as a value."""
    uid, modseq, flags, keywords = row
    return MessageFlags(uid, modseq, flags_of(flags, keywords))


def require_mailbox(txn: Txn, name: MailboxName) -> MailboxId:
    """The id of the mailbox called ``name``.

    Raises:
        NoSuchMailbox: there is none.
    """
    found = txn.value("SELECT id FROM mailbox WHERE name = ?", (name,))
    if found is None:
        raise NoSuchMailbox("no such mailbox")
    return MailboxId(found)


def bump_modseq(txn: Txn, mailbox_id: MailboxId) -> ModSeq:
    """The mailbox's next modification sequence (RFC 7162 section 3.1); call once a transaction.

    Raises:
        NoSuchMailbox: the mailbox was deleted meanwhile.
    """
    row = txn.one(
        "UPDATE mailbox SET highest_modseq = highest_modseq + 1 WHERE id = ? RETURNING highest_modseq",
        (mailbox_id,),
    )
    if row is None:
        raise NoSuchMailbox("the mailbox was deleted")
    return ModSeq(row[0])


def delta(txn: Txn, mailbox_id: MailboxId, since: ModSeq) -> Delta:
    """Everything that changed in the mailbox after ``since``, as this transaction sees it."""
    row = txn.one("SELECT highest_modseq, uid_next FROM mailbox WHERE id = ?", (mailbox_id,))
    if row is None:
        return Delta(since, since, Uid(0), mailbox_gone=True)
    highest, uid_next = ModSeq(row[0]), Uid(row[1])
    if highest == since:
        return Delta(since, highest, uid_next)
    changed = txn.rows(
        "SELECT uid, modseq, flags, keywords FROM placed INDEXED BY placed_by_modseq"
        " WHERE mailbox_id = ? AND modseq > ? ORDER BY uid",
        (mailbox_id, since),
    )
    expunged = txn.rows("SELECT uid FROM expunged WHERE mailbox_id = ? AND modseq > ?", (mailbox_id, since))
    return Delta(
        since,
        highest,
        uid_next,
        tuple(map(message_flags, changed)),
        UidSet.of(uid for (uid,) in expunged),
    )
