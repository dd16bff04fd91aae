"""Making anew what is derived from the messages of an account; no content is ever changed or removed."""

from __future__ import annotations

from mailstore import mime
from mailstore.engine import Txn
from mailstore.flaws import Flaw
from mailstore.model import MailboxId, MailboxName
from mailstore.ops import mailboxes
from mailstore.ops.checking import Examined, MailboxState, examine, mailbox_states, whole_content
from mailstore.ops.messages import insert_meta, place_again, thread_of
from mailstore.ops.quota import forget_annotation_bytes
from mailstore.ops.rows import require_mailbox
from mailstore.schema import new_object_id

RECOVERED = MailboxName("Recovered")
"""Where messages come that lie in no mailbox."""

_NO_BOUND = 1 << 62


def rebuild_indexes(txn: Txn) -> None:
    """Make every index of the database from its tables."""
    txn.run("REINDEX")


def repair_mailboxes(txn: Txn) -> list[MailboxState]:
    """Count the messages of mailboxes anew, and go on above all UIDs and modseqs; returns how all were."""
    before = mailbox_states(txn)
    for state in before:
        if not state.flaws:
            continue
        txn.run(
            "UPDATE mailbox SET messages = ?, unseen = ?, deleted = ?, size_bytes = ?, uid_next = ?,"
            " highest_modseq = ? WHERE id = ?",
            (
                *state.counted,
                max(state.uid_next, state.last_uid + 1, state.recent_uid + 1),
                max(state.highest_modseq, state.last_modseq),
                state.mailbox_id,
            ),
        )
    return before


def remove_stray_rows(txn: Txn) -> None:
    """Remove what is kept for mailboxes and messages that are not there: content stays, and where it was."""
    for table in ("message_meta", "kept_fields"):
        txn.run(f"DELETE FROM {table} WHERE message_id NOT IN (SELECT id FROM message)")
    for table in ("keyword", "expunged", "annotation"):
        txn.run(
            f"DELETE FROM {table} WHERE mailbox_id IS NOT NULL AND mailbox_id NOT IN (SELECT id FROM mailbox)"
        )
    forget_annotation_bytes(txn)
    # Only where the message lies in another mailbox, too, perhaps in RECOVERED by now.
    txn.run(
        "DELETE FROM placed WHERE mailbox_id NOT IN (SELECT id FROM mailbox) AND message_id IN"
        " (SELECT p.message_id FROM placed AS p JOIN mailbox AS b ON b.id = p.mailbox_id)"
    )


def list_again(txn: Txn, message_id: int, limits: mime.MimeLimits) -> bool:
    """List a message of which only content is left; False where that is not whole, and nothing was done.

    That its end is missing shows only in the mailboxes in which it still lies.
    """
    content = whole_content(txn, message_id, limits)
    sizes = txn.rows("SELECT DISTINCT size_bytes FROM placed WHERE message_id = ?", (message_id,))
    if content is None or any(size != content.size_bytes for (size,) in sizes):
        return False
    txn.run(
        "INSERT INTO message VALUES(?, ?, ?, ?, ?)",
        (
            message_id,
            new_object_id("M"),
            thread_of(txn, content.thread_hashes),
            content.size_bytes,
            content.header_bytes,
        ),
    )
    return True


def repair_message(txn: Txn, message_id: int, limits: mime.MimeLimits) -> tuple[Examined, Examined] | None:
    """Make right what can be; returns what was found before and after, None when it has been expunged."""
    before = examine(txn, message_id, limits)
    if before is None or before.content is None:
        return None if before is None else (before, before)
    content = before.content
    if Flaw.FACTS in before.flaws:
        txn.run(
            "UPDATE message SET size_bytes = ?, header_bytes = ? WHERE id = ?",
            (content.size_bytes, content.header_bytes, message_id),
        )
        txn.run("UPDATE placed SET size_bytes = ? WHERE message_id = ?", (content.size_bytes, message_id))
    if before.is_outdated or Flaw.ANSWERS in before.flaws:
        for table in ("message_meta", "kept_fields"):
            txn.run(f"DELETE FROM {table} WHERE message_id = ?", (message_id,))
        insert_meta(txn, message_id, content)
    if Flaw.UNPLACED in before.flaws:
        date = content.sort_keys.date
        place_again(txn, _recovered(txn), message_id, content.size_bytes, txn.now if date is None else date)
    after = examine(txn, message_id, limits)
    assert after is not None
    return before, after


def _recovered(txn: Txn) -> MailboxId:
    if not txn.value("SELECT 1 FROM mailbox WHERE name = ?", (RECOVERED,)):
        mailboxes.create(txn, RECOVERED, None, _NO_BOUND)
        mailboxes.subscribe(txn, RECOVERED, _NO_BOUND)
    return require_mailbox(txn, RECOVERED)
