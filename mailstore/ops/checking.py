"""Looking for flaws in an account's database; nothing here changes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from mailstore import mime
from mailstore.engine import Txn
from mailstore.flaws import Flaw
from mailstore.ops.messages import FRAME_BITS, meta_values
from mailstore.prepared import PreparedMessage, decompress, frame_spans, prepare_again

_MAILBOXES = """
    SELECT b.id, b.messages, b.unseen, b.deleted, b.size_bytes, b.uid_next, b.recent_uid, b.highest_modseq,
        ifnull(p.messages, 0), ifnull(p.unseen, 0), ifnull(p.deleted, 0), ifnull(p.size_bytes, 0),
        max(ifnull(p.uid, 0), ifnull((SELECT max(uid) FROM expunged WHERE mailbox_id = b.id), 0)),
        max(ifnull(p.modseq, 0), ifnull((SELECT max(modseq) FROM expunged WHERE mailbox_id = b.id), 0))
    FROM mailbox AS b LEFT JOIN (
        SELECT mailbox_id, count(*) AS messages, sum(flags & 1 = 0) AS unseen, sum(flags & 8 = 8) AS deleted,
            sum(size_bytes) AS size_bytes, max(uid) AS uid, max(modseq) AS modseq
        FROM placed NOT INDEXED GROUP BY mailbox_id
    ) AS p ON p.mailbox_id = b.id ORDER BY b.id"""


class MailboxState(NamedTuple):
    """What a mailbox says of itself, and what its messages say; counters are in the order of the columns."""

    mailbox_id: int
    counters: tuple[int, ...]
    uid_next: int
    recent_uid: int
    highest_modseq: int
    counted: tuple[int, ...]
    last_uid: int
    last_modseq: int

    @property
    def flaws(self) -> frozenset[Flaw]:
        """What is wrong with it."""
        found = set()
        if self.counters != self.counted:
            found.add(Flaw.COUNTERS)
        if max(self.last_uid, self.recent_uid) >= self.uid_next:
            found.add(Flaw.UIDS)
        if self.last_modseq > self.highest_modseq:
            found.add(Flaw.MODSEQS)
        return frozenset(found)


def mailbox_states(txn: Txn) -> list[MailboxState]:
    """All mailboxes; the messages are counted one by one."""
    return [
        MailboxState(row[0], row[1:5], row[5], row[6], row[7], row[8:12], row[12], row[13])
        for row in txn.rows(_MAILBOXES)
    ]


def stray_rows(txn: Txn) -> int:
    """How many rows refer to a mailbox or message that is not there."""
    return int(txn.value("SELECT count(*) FROM pragma_foreign_key_check"))


def stray_content(txn: Txn, after: int) -> int | None:
    """The next id above ``after`` of which there is content, but no message."""
    row_id = txn.value(
        f"SELECT c.id FROM content AS c WHERE c.id >= ?"
        f" AND NOT EXISTS(SELECT 1 FROM message WHERE message.id = c.id >> {FRAME_BITS})"
        " ORDER BY c.id LIMIT 1",
        ((after + 1) << FRAME_BITS,),
    )
    return None if row_id is None else int(row_id) >> FRAME_BITS


class Listed(NamedTuple):
    """A message that is to be looked at."""

    message_id: int
    size_bytes: int


def listed_messages(txn: Txn, after: int, up_to: int, count: int) -> list[Listed]:
    """The next ``count`` messages with ids above ``after`` and up to ``up_to``."""
    rows = txn.rows(
        "SELECT id, size_bytes FROM message WHERE id > ? AND id <= ? ORDER BY id LIMIT ?",
        (after, up_to, count),
    )
    return [Listed(*row) for row in rows]


def last_and_all_bytes(txn: Txn) -> tuple[int, int]:
    """The id of the last message, and how many octets all have, each once."""
    row = txn.one("SELECT ifnull(max(id), 0), ifnull(sum(size_bytes), 0) FROM message")
    assert row is not None
    return row[0], row[1]


@dataclass(frozen=True, slots=True)
class Examined:
    """What one message was found to be."""

    size_bytes: int
    flaws: frozenset[Flaw]
    is_outdated: bool = False
    """What is kept ready about it is not what this program would keep with today's limits."""
    content: PreparedMessage | None = None
    """As which it would be filed now; None where its content is not whole."""


def examine(txn: Txn, message_id: int, limits: mime.MimeLimits) -> Examined | None:
    """Look at all that there is of one message; None when it has been expunged.

    In memory is this one message. Raises DatabaseDamaged where a page of it is.
    """
    row = txn.one("SELECT size_bytes, header_bytes FROM message WHERE id = ?", (message_id,))
    if row is None:
        return None
    placed = txn.one(
        "SELECT min(p.size_bytes), max(p.size_bytes) FROM placed AS p"
        " JOIN mailbox AS b ON b.id = p.mailbox_id WHERE p.message_id = ?",
        (message_id,),
    )
    assert placed is not None
    flaws = {Flaw.UNPLACED} if placed[0] is None else set()
    content = whole_content(txn, message_id, limits)
    if content is None or content.size_bytes not in (row[0], placed[0]):
        return Examined(row[0], frozenset({*flaws, Flaw.CONTENT}))
    sizes = {row[0], *placed} - {None}
    if sizes != {content.size_bytes} or row[1] != content.header_bytes:
        flaws.add(Flaw.FACTS)
    kept = txn.one("SELECT * FROM message_meta WHERE message_id = ?", (message_id,))
    fields = txn.one("SELECT present, octets FROM kept_fields WHERE message_id = ?", (message_id,))
    if kept is None or not _is_tree_of(kept[4], content):
        flaws.add(Flaw.ANSWERS)
    is_outdated = kept != meta_values(message_id, content) or fields != content.kept_fields
    return Examined(content.size_bytes, frozenset(flaws), is_outdated, content)


def whole_content(txn: Txn, message_id: int, limits: mime.MimeLimits) -> PreparedMessage | None:
    """A message as it would be filed now, its frames as they are; None unless they are whole and fit it."""
    low = message_id << FRAME_BITS
    rows = txn.rows(
        "SELECT id, frame FROM content WHERE id BETWEEN ? AND ? ORDER BY id",
        (low, low | (1 << FRAME_BITS) - 1),
    )
    if not rows or [row[0] for row in rows] != list(range(low, low + len(rows))):
        return None
    frames = tuple(row[1] for row in rows)
    try:
        pieces = [decompress(frame) for frame in frames]
    except ValueError:
        return None
    found = prepare_again(b"".join(pieces), frames, limits)
    fitting = [high - low for low, high in frame_spans(found.size_bytes, found.header_bytes)]
    return found if [len(piece) for piece in pieces] == fitting else None


def _is_tree_of(parts: bytes, content: PreparedMessage) -> bool:
    try:
        root = mime.load(parts)
    except mime.PartTreeDamaged:
        return False
    return root.body_start == content.header_bytes and root.body_end <= content.size_bytes
