"""A mailbox as POP3 uses it (RFC 1939). Nothing here reads a message."""

from __future__ import annotations

from array import array

from mailstore.engine import Txn
from mailstore.model import MailboxId, MailboxName, MaildropId, MaildropListing, ModSeq, SpecialUse
from mailstore.ops import mailboxes, messages
from mailstore.ops.rows import CHOSEN, as_json
from mailstore.uidset import UidSet

TRASH = MailboxName("Trash")
"""The name of the mailbox for deleted messages where none has the special use."""


def listing(txn: Txn, mailbox_id: MailboxId) -> MaildropListing:
    """UIDs and sizes of all messages, oldest first."""
    uids, sizes = array("I"), array("Q")
    rows = txn.rows("SELECT uid, size_bytes FROM placed WHERE mailbox_id = ? ORDER BY uid", (mailbox_id,))
    for uid, size_bytes in rows:
        uids.append(uid)
        sizes.append(size_bytes)
    return MaildropListing(uids, sizes)


def ids(txn: Txn, mailbox_id: MailboxId, uids: UidSet) -> tuple[MaildropId, ...]:
    """What identifies those messages that are still there.

    The object id is random and never reused, and a restore brings it back with its message, while UIDs above
    the restored state are assigned again to other messages, under another UIDVALIDITY. Copies of one message
    share the object id and differ in UID; the time distinguishes a copy made after a restore from the lost
    one that had its UID.
    """
    rows = txn.rows(
        "SELECT p.uid, s.object_id, p.save_date FROM " + CHOSEN + " JOIN message AS s ON s.id = p.message_id",
        (as_json(uids), mailbox_id),
    )
    return tuple(MaildropId(*row) for row in rows)


def discard(txn: Txn, mailbox_id: MailboxId, uids: UidSet, max_mailboxes: int) -> None:
    """Move messages to the mailbox with ``\\Trash`` (RFC 6154), all or none; missing ones are no error.

    Without one it is the mailbox called Trash, which is made when it is not there. What lies in that
    mailbox already is removed for good, as mail programs do.

    Raises:
        LimitExceeded: the mailbox cannot be made; nothing was moved.
    """
    destination = _trash(txn, max_mailboxes)
    if destination == mailbox_id:
        messages.expunge_unconditionally(txn, mailbox_id, uids)
    else:
        messages.move(txn, mailbox_id, uids, destination, _now(txn, mailbox_id))


def _trash(txn: Txn, max_mailboxes: int) -> MailboxId:
    found = txn.value(
        "SELECT id FROM mailbox WHERE special_use = ?1 OR name = ?2 ORDER BY special_use IS NOT ?1 LIMIT 1",
        (SpecialUse.TRASH.value, TRASH),
    )
    if found is not None:
        return MailboxId(found)
    made = mailboxes.create(txn, TRASH, SpecialUse.TRASH, max_mailboxes)
    txn.run("INSERT OR IGNORE INTO subscription VALUES(?)", (TRASH,))
    return made.mailbox_id


def _now(txn: Txn, mailbox_id: MailboxId) -> ModSeq:
    """The current modseq, since POP3 is told of no change."""
    return ModSeq(txn.value("SELECT highest_modseq FROM mailbox WHERE id = ?", (mailbox_id,)))
