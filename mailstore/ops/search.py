"""SEARCH: what columns can decide is decided by SQL, text is looked at message by message.

A tree of keys is split once: every largest subtree without text becomes one SQL expression, selected as a
column; what remains is evaluated in Python over those columns and the message's text. Keys that stand at the
top level and need no text become the WHERE clause, so text is read only where needed; sets of UIDs there,
also under NOT, decide which rows are looked at. A set of UIDs is never expanded into its members.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import assert_never

from mailstore import search
from mailstore.engine import Row, Txn, Value
from mailstore.model import MailboxId, MailboxName, ModSeq, Progress, SearchResult, Uid, UidValidity
from mailstore.ops import mailboxes
from mailstore.ops.content import MessageReader, small_header
from mailstore.ops.modseqs import by_modseq
from mailstore.ops.rows import CHOSEN, as_json, delta
from mailstore.ops.search_sql import Sql, all_of, any_of, one_of, simple_sql
from mailstore.ops.search_text import MessageText, Wanted
from mailstore.search_form import search_form
from mailstore.uidset import MAX_NUMBER, UidSet

_ALL_UIDS = UidSet(((1, MAX_NUMBER),))
MAX_OR_RANGES = 20
"""Where the UID sets of a search have more ranges than this in all, they are asked row by row.

The time that SQLite takes to prepare a statement grows with more than the square of such comparisons in it.
"""

BATCH_ROWS = 500
"""Messages whose headers are read together."""

FEW_OF = 50
"""Where an index leaves less than one of so many messages, each is looked up instead of going through all."""


@dataclass(frozen=True, slots=True)
class _Column:
    """The result of an ``Sql`` that was selected beside the row."""

    index: int


@dataclass(frozen=True, slots=True)
class _Known:
    """A text; a column tells whether the message has it, by the index. NULL where it has to be read."""

    index: int
    key: search.TextKey
    holders: search.Holders


_Residual = _Column | _Known | search.TextKey | search.Uids | search.And | search.Or | search.Not


def _range_count(key: search.Key) -> int:
    """Ranges of all sets of UIDs in the tree; an empty set counts as one."""
    match key:
        case search.Uids(uids):
            return max(len(uids.ranges), 1)
        case search.And(keys):
            return sum(map(_range_count, keys))
        case search.Or(left, right):
            return _range_count(left) + _range_count(right)
        case search.Not(inner):
            return _range_count(inner)
        case _:
            return 0


class _Splitter:
    """Splits a tree into SQL columns and a residual; see the module's docstring."""

    def __init__(self, now: int, uids_in_sql: bool, candidates: search.Candidates | None) -> None:
        self._now = now
        self._candidates = candidates
        self._uids_in_sql = uids_in_sql
        self._columns: dict[Sql, _Column] = {}
        self.wanted = Wanted()

    @property
    def columns(self) -> Sequence[Sql]:
        """What has to be selected; each has the index of its ``_Column``."""
        return tuple(self._columns)

    def sql(self, key: search.Key) -> Sql | None:
        """The whole tree as SQL, or None when a part of it cannot be."""
        match key:
            case search.And(keys):
                parts = [self.sql(one) for one in keys]
                known = [part for part in parts if part is not None]
                if len(known) != len(parts):
                    return None
                return all_of(known)
            case search.Or(left, right):
                a, b = self.sql(left), self.sql(right)
                if a is None or b is None:
                    return None
                return Sql(f"({a.text}) OR ({b.text})", a.parameters + b.parameters)
            case search.Not(inner):
                found = self.sql(inner)
                return None if found is None else Sql(f"NOT ({found.text})", found.parameters)
            case search.Uids() if not self._uids_in_sql:
                return None
            case _:
                return simple_sql(key, self._now)

    def residual(self, key: search.Key) -> _Residual:
        """The tree with what SQL can decide replaced by columns, cheap parts first."""
        found = self.sql(key)
        if found is not None:
            return self._column(found)
        match key:
            case search.And(keys):
                return search.And(tuple(sorted(map(self.residual, keys), key=_is_text)))  # type: ignore[arg-type]  # residual trees reuse the nodes
            case search.Or(left, right):
                a, b = sorted((self.residual(left), self.residual(right)), key=_is_text)
                return search.Or(a, b)  # type: ignore[arg-type]  # as above
            case search.Not(inner):
                return search.Not(self.residual(inner))  # type: ignore[arg-type]  # as above
            case search.Uids():
                return key
            case search.HeaderText(name, wanted):
                return self._text(search.HeaderText(name, search_form(wanted)))
            case search.BodyText(wanted):
                return self._text(search.BodyText(self._in_body(wanted)))
            case search.AnyText(wanted):
                return self._text(search.AnyText(self._in_body(wanted)))
            case _:
                raise ValueError("the session has to replace this search key")

    def _column(self, selected: Sql) -> _Column:
        return self._columns.setdefault(selected, _Column(len(self._columns)))

    def _text(self, key: search.TextKey) -> _Known | search.TextKey:
        """The key, with what the index says of it."""
        holders = None if self._candidates is None else self._candidates.of(key)
        if self._candidates is None or holders is None:
            return key
        certain, possible = one_of(holders.certain), one_of(holders.possible)
        tells = Sql(
            f"CASE WHEN p.message_id > ? THEN NULL WHEN {certain.text} THEN 1"
            f" WHEN {possible.text} THEN NULL ELSE 0 END",
            (self._candidates.up_to, *certain.parameters, *possible.parameters),
        )
        return _Known(self._column(tells).index, key, holders)

    def _in_body(self, wanted: str) -> str:
        form = search_form(wanted)
        self.wanted.in_body.add(form)
        return form


def _bound(node: _Residual, columns: Sequence[Sql], known: search.Candidates, *, upper: bool) -> Sql | None:
    """SQL that is true wherever the node is (``upper``), or only there (otherwise); None where unknown."""
    match node:
        case _Column(index):
            return columns[index]
        case _Known():
            return _holders_sql(known, node.holders) if upper else None
        case search.Not(inner):
            found = _bound(inner, columns, known, upper=not upper)  # type: ignore[arg-type]  # see residual
            return None if found is None else Sql(f"NOT ({found.text})", found.parameters)
        case search.And(keys):
            parts = [_bound(key, columns, known, upper=upper) for key in keys]  # type: ignore[arg-type]  # see residual
            return _joined(parts, all_of, needs_all=not upper)
        case search.Or(left, right):
            parts = [_bound(key, columns, known, upper=upper) for key in (left, right)]  # type: ignore[arg-type]  # see residual
            return _joined(parts, any_of, needs_all=upper)
        case _:
            return None


def _joined(
    parts: Sequence[Sql | None], join: Callable[[Iterable[Sql]], Sql], *, needs_all: bool
) -> Sql | None:
    given = [part for part in parts if part is not None]
    return None if not given or (needs_all and len(given) < len(parts)) else join(given)


def _holders_sql(known: search.Candidates, holders: search.Holders) -> Sql:
    held = one_of(holders.certain | holders.possible)
    return Sql(f"p.message_id > ? OR {held.text}", (known.up_to, *held.parameters))


def _is_text(node: _Residual) -> bool:
    return not isinstance(node, _Column | search.Uids)


def _verdict(node: _Residual, row: Row) -> bool | None:
    """Whether a row (uid, modseq, columns) matches; None where its text has to be read."""
    match node:
        case _Column(index):
            return bool(row[2 + index])
        case _Known(index):
            found = row[2 + index]
            return None if found is None else bool(found)
        case search.Uids(uids):
            return row[0] in uids
        case search.And(keys):
            return _all(_verdict(key, row) for key in keys)  # type: ignore[arg-type]  # see residual
        case search.Or(left, right):
            neither = _all(_opposite(_verdict(key, row)) for key in (left, right))  # type: ignore[arg-type]  # see residual
            return _opposite(neither)
        case search.Not(inner):
            return _opposite(_verdict(inner, row))  # type: ignore[arg-type]  # see residual
        case _:
            return None


def _opposite(verdict: bool | None) -> bool | None:
    return None if verdict is None else not verdict


def _all(verdicts: Iterable[bool | None]) -> bool | None:
    so_far: bool | None = True
    for verdict in verdicts:
        if verdict is False:
            return False
        if verdict is None:
            so_far = None
    return so_far


def _matches(node: _Residual, row: Row, text: MessageText) -> bool:
    """Whether a row (uid, modseq, columns) of the message with this text matches."""
    match node:
        case _Column(index):
            return bool(row[2 + index])
        case _Known(index, key):
            return _matches(key, row, text) if row[2 + index] is None else bool(row[2 + index])
        case search.Uids(uids):
            return row[0] in uids
        case search.And(keys):
            return all(_matches(key, row, text) for key in keys)  # type: ignore[arg-type]  # see residual
        case search.Or(left, right):
            return _matches(left, row, text) or _matches(right, row, text)  # type: ignore[arg-type]  # see residual
        case search.Not(inner):
            return not _matches(inner, row, text)  # type: ignore[arg-type]  # see residual
    match node:
        case search.HeaderText(name, needle):
            return text.field_has(name, needle)
        case search.BodyText(needle):
            return text.body_has(needle)
        case search.AnyText(needle):
            return text.header_has(needle) or text.body_has(needle)
        case _:
            assert_never(node)


def _matching(
    txn: Txn,
    mailbox_id: MailboxId,
    rows: Sequence[Row],
    residual: _Residual,
    wanted: Wanted,
    progress: Progress,
) -> list[Row]:
    """Those of the rows (uid, modseq, columns) that match; as few messages are read as can be."""
    verdicts = [_verdict(residual, row) for row in rows]
    unread = [row for row, verdict in zip(rows, verdicts, strict=True) if verdict is None]
    progress.goal = len(unread)
    found = set(_by_text(txn, mailbox_id, unread, residual, wanted, progress))
    return [row for row, verdict in zip(rows, verdicts, strict=True) if verdict or row[0] in found]


def _by_text(
    txn: Txn,
    mailbox_id: MailboxId,
    rows: Sequence[Row],
    residual: _Residual,
    wanted: Wanted,
    progress: Progress,
) -> Iterator[Uid]:
    """The UIDs of those of the rows whose message has the text that is wanted."""
    for at in range(0, len(rows), BATCH_ROWS):
        batch = {row[0]: row for row in rows[at : at + BATCH_ROWS]}
        messages = txn.rows(
            f"SELECT p.uid, s.id, s.size_bytes, s.header_bytes, {small_header('s')} FROM {CHOSEN}"
            " JOIN message AS s ON s.id = p.message_id",
            (as_json(UidSet.of(batch)), mailbox_id),
        )
        for uid, *message in messages:
            if _matches(residual, batch[uid], MessageText(MessageReader(txn, *message), wanted)):
                yield uid
            progress.done += 1


def _tops(key: search.Key) -> Iterable[search.Key]:
    """The keys of which all have to match."""
    return [top for one in key.keys for top in _tops(one)] if isinstance(key, search.And) else (key,)


def _chosen(tops: Iterable[search.Key]) -> tuple[UidSet | None, list[search.Key]]:
    """The UIDs that are left by the sets among the keys (None when there are none), and the other keys.

    What the sets leave out is joined, so the cost is that of all ranges together, however many sets there
    are.
    """
    # By identity: one result may be named by thousands of keys.
    within: dict[int, UidSet] = {}
    without: dict[int, UidSet] = {}
    others: list[search.Key] = []
    for top in tops:
        match top:
            case search.Uids(uids):
                within[id(uids)] = uids
            case search.Not(search.Uids(uids)):
                without[id(uids)] = uids
            case _:
                others.append(top)
    if not within and not without:
        return None, others
    left_out = chain(without.values(), (_ALL_UIDS - uids for uids in within.values()))
    return _ALL_UIDS - UidSet.from_ranges(chain.from_iterable(uids.ranges for uids in left_out)), others


_LOOKED_UP = (
    "(SELECT value AS id FROM json_each(?) UNION ALL SELECT id FROM message WHERE id > ?) AS c"
    " CROSS JOIN placed AS p INDEXED BY placed_by_message ON p.message_id = c.id"
)
"""Placed messages that an index leaves, and those it does not know."""


def _few(
    txn: Txn, mailbox_id: MailboxId, nodes: Iterable[_Residual], candidates: search.Candidates
) -> tuple[Value, ...] | None:
    """The parameters of ``_LOOKED_UP``, where few messages can match these nodes, all of which have to."""
    found = [one.holders for one in nodes if isinstance(one, _Known)]
    if not found:
        return None
    fewest = min((one.certain | one.possible for one in found), key=len)
    if len(fewest) > txn.value("SELECT messages FROM mailbox WHERE id = ?", (mailbox_id,)) // FEW_OF:
        return None
    return json.dumps(sorted(fewest)), candidates.up_to


def run_in(
    txn: Txn, name: MailboxName, key: search.Key, candidates: search.Candidates | None
) -> tuple[UidValidity, SearchResult]:
    """As :func:`run`, in the mailbox called ``name``. Raises NoSuchMailbox."""
    found = mailboxes.status(txn, name)
    return found.uid_validity, run(txn, found.mailbox_id, key, found.highest_modseq, candidates)


def run(
    txn: Txn,
    mailbox_id: MailboxId,
    key: search.Key,
    since: ModSeq,
    candidates: search.Candidates | None = None,
    progress: Progress | None = None,
) -> SearchResult:
    """Messages of the mailbox that match, in order of UID.

    ``candidates`` is what the search index said about the texts in ``key``, before the transaction began.
    ``progress`` counts the messages whose text has to be read.

    Raises:
        ValueError: the key names something only a session knows (a programming error).
    """
    tops, changed = by_modseq(txn, mailbox_id, _tops(key))
    chosen, others = _chosen(tops)
    if changed is not None and chosen is not None and not others:
        return _result(txn, mailbox_id, [row for row in changed if row[0] in chosen], since)
    splitter = _Splitter(txn.now, sum(map(_range_count, others)) <= MAX_OR_RANGES, candidates)
    conditions: list[Sql] = []
    left: list[_Residual] = []
    for top in others:
        if (found := splitter.sql(top)) is not None:
            conditions.append(found)
        else:
            left.append(splitter.residual(top))
    if candidates is not None:
        bounds = [_bound(node, splitter.columns, candidates, upper=True) for node in left]
        conditions += [bound for bound in bounds if bound is not None]
    where = all_of(conditions)
    residual = search.And(tuple(left))  # type: ignore[arg-type]  # see residual
    # Only fixed text from this module is joined here; every value is a parameter.
    select = "SELECT p.uid, p.modseq" + "".join(f", ({column.text})" for column in splitter.columns)
    parameters = [value for column in splitter.columns for value in column.parameters]
    if chosen is None:
        few = None if candidates is None else _few(txn, mailbox_id, left, candidates)
        source = f"{_LOOKED_UP if few else 'placed AS p'} WHERE p.mailbox_id = ? AND ({where.text})"
        source += " ORDER BY p.uid"
        parameters += (*(few or ()), mailbox_id)
    else:
        source = f"{CHOSEN} WHERE {where.text}"
        parameters += (as_json(chosen), mailbox_id)
    parameters += where.parameters
    rows = txn.rows(f"{select} FROM {source}", parameters)
    if left:
        rows = _matching(txn, mailbox_id, rows, residual, splitter.wanted, progress or Progress())
    return _result(txn, mailbox_id, rows, since)


def _result(txn: Txn, mailbox_id: MailboxId, rows: Sequence[Row], since: ModSeq) -> SearchResult:
    return SearchResult(
        tuple(row[0] for row in rows),
        ModSeq(max(row[1] for row in rows)) if rows else None,
        delta(txn, mailbox_id, since),
    )
