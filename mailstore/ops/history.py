"""What an account's database records of each mailbox: its highest modseq, its UIDs and the expunged ones."""

from __future__ import annotations

from dataclasses import dataclass

from mailstore.engine import Txn


@dataclass(frozen=True, slots=True)
class MailboxHistory:
    """One mailbox: its highest modseq, the UIDs that are in it, and those that were expunged from it."""

    modseq: int
    uids: frozenset[int]
    expunged: frozenset[int]

    def is_before(self, later: MailboxHistory) -> bool:
        """Whether the mailbox can have become what ``later`` says, or is that already."""
        if self.modseq == later.modseq:
            return self.uids == later.uids
        return self.modseq < later.modseq and self.uids - later.uids <= later.expunged


def histories(txn: Txn) -> dict[str, MailboxHistory]:
    """Every mailbox's, by its object id (RFC 8474), which no other mailbox ever gets."""

    def numbers(query: str, mailbox_id: int) -> frozenset[int]:
        return frozenset(row[0] for row in txn.rows(query, (mailbox_id,)))

    return {
        object_id: MailboxHistory(
            modseq,
            numbers("SELECT uid FROM placed WHERE mailbox_id = ?", mailbox_id),
            numbers("SELECT uid FROM expunged WHERE mailbox_id = ?", mailbox_id),
        )
        for mailbox_id, object_id, modseq in txn.rows("SELECT id, object_id, highest_modseq FROM mailbox")
    }
