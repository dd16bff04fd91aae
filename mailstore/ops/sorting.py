"""SORT, and what THREAD starts from (RFC 5256): ordered by columns that were computed when filing."""

from __future__ import annotations

import json
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from mailstore import search
from mailstore.engine import Txn, Value
from mailstore.kept import Known, Listing, Threaded
from mailstore.model import (
    Delta,
    MailboxId,
    ModSeq,
    Places,
    Progress,
    SearchResult,
    SortBy,
    SortKey,
    ThreadRow,
    Uid,
)
from mailstore.ops import search as search_ops
from mailstore.ops.listing import TYPECODE, Extent, changes, extent, listing
from mailstore.ops.rows import CHOSEN, as_json, delta
from mailstore.thread_index import Renewal
from mailstore.uidset import MAX_NUMBER, UidSet

HASH_BYTES = 16

FEW_NEW = 50
"""Up to so many new messages are put in their places, however few there are."""

NEW_OF = 200
"""As many as one of so many of all are, too; with more, all are sorted again."""

MANY_OF = 8
"""Results that are more than one of so many messages are taken from the order of all."""

RENEWED_OF = 2
"""Threads are made again where more than one of so many messages would have to be threaded again."""

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


def sort(
    txn: Txn,
    mailbox_id: MailboxId,
    key: search.Key,
    order: Sequence[SortBy],
    since: ModSeq,
    known: Known,
    candidates: search.Candidates | None,
    progress: Progress | None = None,
) -> tuple[SearchResult, Listing | None]:
    """The messages that match in the order asked for; what is equal stays in the order of the mailbox.

    ``known`` tells how all messages were once sorted. With the result comes what may be known from now on.
    """
    by = distinct(order)
    now = extent(txn, mailbox_id)
    lasts = now is not None and all(one.key in _COLUMNS for one in by)
    if search.is_everything(key) and now is not None and lasts:
        sorted_now = _all_sorted(txn, mailbox_id, now, by, known((mailbox_id, by)))
        sorted_now = _placed(txn, mailbox_id, now, sorted_now, known((mailbox_id, ())))
        modseq = txn.value(
            "SELECT max(modseq) FROM placed INDEXED BY placed_by_modseq WHERE mailbox_id = ?", (mailbox_id,)
        )
        # Each call of Uid would take longer than what it is called for.
        uids = cast("tuple[Uid, ...]", tuple(sorted_now.uids))
        changed = delta(txn, mailbox_id, since)
        return SearchResult(uids, modseq, changed, sorted_now.places), sorted_now
    found = search_ops.run(txn, mailbox_id, key, since, candidates, progress)
    if now is not None and lasts and len(found.uids) * MANY_OF > now.messages:
        sorted_now = _all_sorted(txn, mailbox_id, now, by, known((mailbox_id, by)))
        wanted = set(found.uids)
        uids = cast("tuple[Uid, ...]", tuple([uid for uid in sorted_now.uids if uid in wanted]))
        return replace(found, uids=uids), sorted_now
    return replace(found, uids=tuple(_sorted(txn, mailbox_id, UidSet.of(found.uids), by))), None


def distinct(order: Sequence[SortBy]) -> tuple[SortBy, ...]:
    """The criteria without repetitions, which change nothing."""
    first: dict[SortKey, SortBy] = {}
    for by in order:
        first.setdefault(by.key, by)
    return tuple(first.values())


def _sorted(txn: Txn, mailbox_id: MailboxId, uids: UidSet, order: Sequence[SortBy]) -> list[Uid]:
    terms: list[str] = []
    ranks: list[Value] = []
    for by in order:
        column = _COLUMNS.get(by.key) or _rank_sql(len(by.ranked))
        ranks.extend(json.dumps(list(uids)) for uids in by.ranked)
        terms.append(f"{column}{' DESC' if by.reverse else ''}")
    rows = txn.rows(
        f"SELECT p.uid FROM {CHOSEN} JOIN message_meta AS m ON m.message_id = p.message_id"
        f" ORDER BY {', '.join([*terms, 'p.uid'])}",
        (as_json(uids), mailbox_id, *ranks),
    )
    return [uid for (uid,) in rows]


def _all_sorted(
    txn: Txn, mailbox_id: MailboxId, now: Extent, order: Sequence[SortBy], known: Listing | None
) -> Listing:
    """All messages of the mailbox in this order; ``known`` is how they once were, and stays as it is."""
    if known is not None and known.modseq == now.modseq:
        return known
    if known is not None and known.modseq < now.modseq:
        gone, new = changes(txn, mailbox_id, known)
        uids = known.uids
        if gone:
            left = set(gone)
            uids = array(TYPECODE, [uid for uid in uids if uid not in left])
        if len(new) <= max(FEW_NEW, now.messages // NEW_OF) and len(uids) + len(new) == now.messages:
            if new:
                uids = _with(txn, mailbox_id, uids, new, order)
            return Listing(now.modseq, now.uid_next, uids, known.places)
    everything = UidSet(((1, MAX_NUMBER),))
    return Listing(now.modseq, now.uid_next, array(TYPECODE, _sorted(txn, mailbox_id, everything, order)))


def _placed(
    txn: Txn, mailbox_id: MailboxId, now: Extent, messages: Listing, selected: Listing | None
) -> Listing:
    """``messages`` with their places among those of ``selected``, if no others have come or gone since."""
    if selected is None or listing(txn, mailbox_id, now, selected).uids is not selected.uids:
        return replace(messages, places=None)
    if messages.places is not None and messages.places.among is selected.uids:
        return messages
    number = dict(zip(selected.uids, range(1, len(selected.uids) + 1), strict=True))
    numbers = array(TYPECODE, [number[uid] for uid in messages.uids])
    return replace(messages, places=Places(selected.uids, numbers))


class _Descending:
    """A value that sorts the other way round."""

    __slots__ = ("_value",)

    def __init__(self, value: Any) -> None:
        self._value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Descending) and self._value == other._value

    def __lt__(self, other: _Descending) -> bool:
        return bool(other._value < self._value)


def _with(
    txn: Txn, mailbox_id: MailboxId, uids: array[int], new: Sequence[Uid], order: Sequence[SortBy]
) -> array[int]:
    """``uids``, which are in this order, and the new ones at their places: some 20 rows are read for each."""
    columns = "".join(f", {_COLUMNS[by.key]}" for by in order)
    select = (
        f"SELECT p.uid{columns} FROM placed AS p JOIN message_meta AS m ON m.message_id = p.message_id"
        " WHERE p.mailbox_id = ? AND p.uid = ?"
    )

    def place(uid: int) -> tuple[Any, ...]:
        row = txn.one(select, (mailbox_id, uid))
        assert row is not None
        # Text is compared by code points here and by the octets of its UTF-8 in SQLite, which is the same.
        pairs = zip(row[1:], order, strict=True)
        return (*[_Descending(value) if by.reverse else value for value, by in pairs], row[0])

    uids = uids[:]
    for uid in new:
        uids.insert(bisect_left(uids, place(uid), key=place), uid)
    return uids


def _rank_sql(ranks: int) -> str:
    """The place of a message among ``ranks`` sets of UIDs, each of which is a parameter."""
    cases = "".join(f" WHEN p.uid IN (SELECT value FROM json_each(?)) THEN {rank}" for rank in range(ranks))
    return f"(CASE{cases} ELSE {ranks} END)" if ranks else "NULL"


def thread_rows(txn: Txn, mailbox_id: MailboxId, uids: Iterable[int]) -> list[ThreadRow]:
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


@dataclass(frozen=True, slots=True)
class ToThread:
    """What threading needs: ``rows`` of all messages that match, or what brings the known threads up to date.

    Neither where they are still right.
    """

    now: Extent | None
    delta: Delta
    rows: list[ThreadRow] | None = None
    renewal: Renewal | None = None


def to_thread(
    txn: Txn,
    mailbox_id: MailboxId,
    key: search.Key,
    since: ModSeq,
    known: Threaded | None,
    candidates: search.Candidates | None,
    progress: Progress | None = None,
) -> ToThread:
    """What threading needs of the messages that match; ``known`` are those of all, as they once were."""
    now = extent(txn, mailbox_id)
    if known is not None and now is not None and search.is_everything(key) and known.modseq <= now.modseq:
        gone, new = changes(txn, mailbox_id, known)
        if not gone and not new:
            return ToThread(now, delta(txn, mailbox_id, since))
        renewal = _renewal(txn, mailbox_id, now, known, gone, new)
        if renewal is not None:
            return ToThread(now, delta(txn, mailbox_id, since), renewal=renewal)
    found = search_ops.run(txn, mailbox_id, key, since, candidates, progress)
    return ToThread(now, found.delta, thread_rows(txn, mailbox_id, found.uids))


def _renewal(
    txn: Txn, mailbox_id: MailboxId, now: Extent, known: Threaded, gone: UidSet, new: Sequence[Uid]
) -> Renewal | None:
    """What brings the threads of all messages up to date, unless it is faster to make them again."""
    most = now.messages // RENEWED_OF
    if known.index is None or len(new) > most:
        return None

    def read(uids: Iterable[int]) -> list[ThreadRow]:
        return thread_rows(txn, mailbox_id, uids)

    renewal = known.index.to_renew(known.threads, read(new), set(gone), read, most)
    return renewal if renewal is not None and renewal.messages == now.messages else None
