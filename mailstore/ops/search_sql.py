"""What single search keys are in SQL, and how expressions are put together."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from itertools import chain

from mailstore import search
from mailstore.engine import Value
from mailstore.uidset import UidSet

_EPOCH_DAY = date(1970, 1, 1).toordinal()

_DATE_COLUMNS = {
    "internal": "p.internal_date",
    "saved": "p.save_date",
    "sent": "(SELECT sent_day FROM message_meta WHERE message_id = p.message_id)",
}


@dataclass(frozen=True, slots=True)
class Sql:
    """A boolean SQL expression over ``placed AS p``, never NULL, and its parameters."""

    text: str
    parameters: tuple[Value, ...] = ()


def _epoch(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp())


def _date_sql(key: search.DateRange) -> Sql:
    column = _DATE_COLUMNS[key.field]
    parts: list[str] = []
    parameters: list[Value] = []
    for edge, comparison in ((key.first, ">="), (key.before, "<")):
        if edge is not None:
            parts.append(f"ifnull({column} {comparison} ?, 0)")
            parameters.append(edge.toordinal() - _EPOCH_DAY if key.field == "sent" else _epoch(edge))
    return Sql(" AND ".join(parts) or "1", tuple(parameters))


def _uids_sql(uids: UidSet) -> Sql:
    text = " OR ".join("p.uid BETWEEN ? AND ?" for _ in uids.ranges) or "0"
    return Sql(f"({text})", tuple(end for pair in uids.ranges for end in pair))


def simple_sql(key: search.Key, now: int) -> Sql | None:
    """The SQL of a leaf; None for text."""
    match key:
        case search.All():
            return Sql("1")
        case search.Uids(uids):
            return _uids_sql(uids)
        case search.HasFlag(flag):
            return Sql("(p.flags & ?) = ?", (int(flag), int(flag)))
        case search.HasKeyword(keyword):
            return Sql(
                "instr(' ' || lower(ifnull(p.keywords, '')) || ' ', ' ' || lower(?) || ' ') > 0", (keyword,)
            )
        case search.DateRange():
            return _date_sql(key)
        case search.Larger(size_bytes):
            return Sql("p.size_bytes > ?", (size_bytes,))
        case search.Smaller(size_bytes):
            return Sql("p.size_bytes < ?", (size_bytes,))
        case search.WithinSeconds(interval_s):
            return Sql("p.internal_date >= ?", (now - interval_s,))
        case search.ModSeqAtLeast(modseq):
            # The plus keeps SQLite from going through the index of modseqs once for each range of UIDs.
            return Sql("+p.modseq >= ?", (modseq,))
        case search.EmailIdIs(object_id):
            return Sql("p.message_id IN (SELECT id FROM message WHERE object_id = ?)", (object_id,))
        case search.ThreadIdIs(object_id):
            return Sql("p.message_id IN (SELECT id FROM message WHERE thread_id = ?)", (object_id,))
        case _:
            return None


def all_of(parts: Iterable[Sql]) -> Sql:
    """The parts joined by AND, equal ones once.

    They are joined in pairs, and these in pairs again: SQLite bounds the depth of an expression, and reads
    ``a AND b AND c ...`` as one that is as deep as it is long.
    """
    left = list(dict.fromkeys(parts))
    while len(left) > 1:
        pairs = zip(left[::2], left[1::2], strict=False)
        odd = left[-1:] if len(left) % 2 else []
        left = [Sql(f"({a.text}) AND ({b.text})", a.parameters + b.parameters) for a, b in pairs] + odd
    return left[0] if left else Sql("1")


def any_of(parts: Iterable[Sql]) -> Sql:
    """The parts, some at least, joined by OR."""
    parts = list(parts)
    text = " OR ".join(f"({part.text})" for part in parts)
    return Sql(text, tuple(chain.from_iterable(part.parameters for part in parts)))


def one_of(message_ids: frozenset[int]) -> Sql:
    """Whether the message is one of these."""
    if not message_ids:
        return Sql("0")
    return Sql("p.message_id IN (SELECT value FROM json_each(?))", (json.dumps(sorted(message_ids)),))
