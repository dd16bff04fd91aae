"""SORT, and what THREAD starts from (RFC 5256): ordered by columns that were computed when filing."""

from __future__ import annotations

import json
from collections.abc import Sequence

from mailstore.engine import Txn, Value
from mailstore.model import MailboxId, SortBy, SortKey, ThreadRow, Uid
from mailstore.ops.rows import CHOSEN, as_json
from mailstore.uidset import UidSet

HASH_BYTES = 16

_COLUMNS = {
    SortKey.ARRIVAL: "p.internal_date",
    SortKey.CC: "m.sort_cc",
    # RFC 5256 section 2.2: without a valid Date field the internal date counts.
    SortKey.DATE: "ifnull(m.sent_date, p.internal_date)",
    SortKey.FROM: "m.sort_from",
    SortKey.SIZE: "p.size_bytes",
    SortKey.SUBJECT: "m.sort_subject",
    SortKey.TO: "m.sort_to",
    SortKey.DISPLAY_FROM: "m.display_from",
    SortKey.DISPLAY_TO: "m.display_to",
}


def sort(txn: Txn, mailbox_id: MailboxId, uids: Sequence[Uid], order: Sequence[SortBy]) -> tuple[Uid, ...]:
    """The messages in the order asked for; what is equal stays in the order of the mailbox."""
    terms: list[str] = []
    ranks: list[Value] = []
    first: dict[SortKey, SortBy] = {}
    for by in order:
        # Repeating a criterion changes nothing, so its sets of UIDs are written only once.
        first.setdefault(by.key, by)
    for by in first.values():
        column = _COLUMNS.get(by.key) or _rank_sql(len(by.ranked))
        ranks.extend(json.dumps(list(uids)) for uids in by.ranked)
        terms.append(f"{column}{' DESC' if by.reverse else ''}")
    rows = txn.rows(
        f"SELECT p.uid FROM {CHOSEN} JOIN message_meta AS m ON m.message_id = p.message_id"
        f" ORDER BY {', '.join([*terms, 'p.uid'])}",
        (as_json(UidSet.of(uids)), mailbox_id, *ranks),
    )
    return tuple(Uid(uid) for (uid,) in rows)


def _rank_sql(ranks: int) -> str:
    """The place of a message among ``ranks`` sets of UIDs, each of which is a parameter."""
    cases = "".join(f" WHEN p.uid IN (SELECT value FROM json_each(?)) THEN {rank}" for rank in range(ranks))
    return f"(CASE{cases} ELSE {ranks} END)" if ranks else "NULL"


def thread_rows(txn: Txn, mailbox_id: MailboxId, uids: Sequence[Uid]) -> list[ThreadRow]:
    """What threading needs of these messages, in order of UID."""
    rows = txn.rows(
        "SELECT p.uid, ifnull(m.sent_date, p.internal_date), m.sort_subject, m.is_reply, m.own_hash,"
        f" m.reference_hashes FROM {CHOSEN} JOIN message_meta AS m ON m.message_id = p.message_id",
        (as_json(UidSet.of(uids)), mailbox_id),
    )
    return [
        ThreadRow(
            uid,
            sent,
            subject,
            bool(is_reply),
            own,
            tuple(hashes[at : at + HASH_BYTES] for at in range(0, len(hashes), HASH_BYTES)),
        )
        for uid, sent, subject, is_reply, own, hashes in rows
    ]
