"""SEARCH: what columns can decide is decided by SQL, text is looked at message by message.

A tree of keys is split once: every largest subtree without text becomes one SQL expression, selected
as a column; what remains is evaluated in Python over those columns and the message's text. Keys that
stand at the top level and need no text become the WHERE clause, so text is read only where needed.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import assert_never

from mailstore import mime, search
from mailstore.engine import Row, Txn, Value
from mailstore.model import MailboxId, ModSeq, SearchResult
from mailstore.ops.content import MessageReader, small_header
from mailstore.ops.rows import CHOSEN, as_json, delta
from mailstore.uidset import UidSet

_EPOCH_DAY = date(1970, 1, 1).toordinal()

MAX_OR_RANGES = 20
"""UID sets of up to this many ranges become comparisons, larger ones a list."""

BATCH_ROWS = 500
"""Messages whose headers are read together."""

_DATE_COLUMNS = {
    "internal": "p.internal_date",
    "saved": "p.save_date",
    "sent": "(SELECT sent_day FROM message_meta WHERE message_id = p.message_id)",
}


@dataclass(frozen=True, slots=True)
class _Sql:
    """A boolean SQL expression over ``placed AS p``, never NULL, and its parameters."""

    text: str
    parameters: tuple[Value, ...] = ()


@dataclass(frozen=True, slots=True)
class _Column:
    """The result of an ``_Sql`` that was selected beside the row."""

    index: int


_Text = search.HeaderText | search.BodyText | search.AnyText
_Residual = _Column | _Text | search.And | search.Or | search.Not


def _epoch(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp())


def _date_sql(key: search.DateRange) -> _Sql:
    column = _DATE_COLUMNS[key.field]
    parts: list[str] = []
    parameters: list[Value] = []
    for edge, comparison in ((key.first, ">="), (key.before, "<")):
        if edge is not None:
            parts.append(f"ifnull({column} {comparison} ?, 0)")
            parameters.append(edge.toordinal() - _EPOCH_DAY if key.field == "sent" else _epoch(edge))
    return _Sql(" AND ".join(parts) or "1", tuple(parameters))


def _uids_sql(uids: UidSet, largest: int) -> _Sql:
    uids &= UidSet(((1, max(largest, 1)),))
    if not uids:
        return _Sql("0")
    if len(uids.ranges) <= MAX_OR_RANGES:
        text = " OR ".join("p.uid BETWEEN ? AND ?" for _ in uids.ranges)
        return _Sql(f"({text})", tuple(end for pair in uids.ranges for end in pair))
    return _Sql("p.uid IN (SELECT value FROM json_each(?))", (json.dumps(list(uids)),))


def _simple_sql(key: search.Key, largest: int, now: int) -> _Sql | None:
    """The SQL of a leaf; None for text."""
    match key:
        case search.All():
            return _Sql("1")
        case search.Uids(uids):
            return _uids_sql(uids, largest)
        case search.HasFlag(flag):
            return _Sql("(p.flags & ?) = ?", (int(flag), int(flag)))
        case search.HasKeyword(keyword):
            return _Sql(
                "instr(' ' || lower(ifnull(p.keywords, '')) || ' ', ' ' || lower(?) || ' ') > 0", (keyword,)
            )
        case search.DateRange():
            return _date_sql(key)
        case search.Larger(size_bytes):
            return _Sql("p.size_bytes > ?", (size_bytes,))
        case search.Smaller(size_bytes):
            return _Sql("p.size_bytes < ?", (size_bytes,))
        case search.WithinSeconds(interval_s):
            return _Sql("p.internal_date >= ?", (now - interval_s,))
        case search.ModSeqAtLeast(modseq):
            return _Sql("p.modseq >= ?", (modseq,))
        case search.EmailIdIs(object_id):
            return _Sql("p.message_id IN (SELECT id FROM message WHERE object_id = ?)", (object_id,))
        case search.ThreadIdIs(object_id):
            return _Sql("p.message_id IN (SELECT id FROM message WHERE thread_id = ?)", (object_id,))
        case _:
            return None


class _Splitter:
    """Splits a tree into SQL columns and a residual; see the module's docstring."""

    def __init__(self, largest: int, now: int) -> None:
        self._largest = largest
        self._now = now
        self.columns: list[_Sql] = []

    def sql(self, key: search.Key) -> _Sql | None:
        """The whole tree as SQL, or None when it contains text."""
        match key:
            case search.And(keys):
                parts = [self.sql(one) for one in keys]
                known = [part for part in parts if part is not None]
                if len(known) != len(parts):
                    return None
                text = " AND ".join(f"({part.text})" for part in known) or "1"
                return _Sql(text, tuple(value for part in known for value in part.parameters))
            case search.Or(left, right):
                a, b = self.sql(left), self.sql(right)
                if a is None or b is None:
                    return None
                return _Sql(f"({a.text}) OR ({b.text})", a.parameters + b.parameters)
            case search.Not(inner):
                found = self.sql(inner)
                return None if found is None else _Sql(f"NOT ({found.text})", found.parameters)
            case _:
                return _simple_sql(key, self._largest, self._now)

    def residual(self, key: search.Key) -> _Residual:
        """The tree with its text-free subtrees replaced by columns, cheap ones first."""
        found = self.sql(key)
        if found is not None:
            self.columns.append(found)
            return _Column(len(self.columns) - 1)
        match key:
            case search.And(keys):
                return search.And(tuple(sorted(map(self.residual, keys), key=_is_text)))  # type: ignore[arg-type]  # residual trees reuse the nodes
            case search.Or(left, right):
                a, b = sorted((self.residual(left), self.residual(right)), key=_is_text)
                return search.Or(a, b)  # type: ignore[arg-type]  # as above
            case search.Not(inner):
                return search.Not(self.residual(inner))  # type: ignore[arg-type]  # as above
            case search.HeaderText(name, wanted):
                return search.HeaderText(name, folded(wanted))
            case search.BodyText(wanted):
                return search.BodyText(folded(wanted))
            case search.AnyText(wanted):
                return search.AnyText(folded(wanted))
            case _:
                raise ValueError("the session has to replace this search key")


def _is_text(node: _Residual) -> bool:
    return not isinstance(node, _Column)


def folded(text: str) -> str:
    """Text as it is compared: composed, case-folded, white space runs as one space."""
    return " ".join(unicodedata.normalize("NFC", text).casefold().split())


def _folded_value(raw: bytes) -> str:
    return folded(mime.decode_words(mime.unfold(raw)))


class _MessageText:
    """The searchable text of one message, read and decoded at most once."""

    def __init__(self, reader: MessageReader) -> None:
        self._reader = reader
        self._plain_header: bytes | None = None
        self._header: list[tuple[str, bytes]] | None = None
        self._body: list[str] | None = None

    def header_may_hold(self, needle: str) -> bool:
        """False when no header value can contain ``needle`` (folded); cheap, most messages end here."""
        if self._plain_header is None:
            raw = self._reader.header()
            # Decoding and folding change nothing but case and white space in such a header.
            self._plain_header = raw.lower() if raw.isascii() and b"=?" not in raw else b""
        plain = self._plain_header
        return not plain or all(word.encode("utf-8", "replace") in plain for word in needle.split())

    def header(self) -> list[tuple[str, bytes]]:
        """Field names in upper case, with raw values."""
        if self._header is None:
            raw = self._reader.header()
            self._header = [
                (field.name.decode("ascii", "replace").upper(), raw[field.value_start : field.value_end])
                for field in mime.fields(raw)
            ]
        return self._header

    def body(self) -> list[str]:
        """Folded text of every text part, and the header fields of enclosed messages."""
        if self._body is None:
            root = self._reader.part_tree()
            self._body = [folded(text) for text in self._part_texts(root)]
        return self._body

    def _part_texts(self, root: mime.Part) -> Iterator[str]:
        reader = self._reader
        waiting = [root]
        while waiting:
            part = waiting.pop()
            waiting.extend(part.children)
            if part.message is not None:
                inner = part.message
                waiting.append(inner)
                yield mime.decode_words(reader.read(inner.header_start, inner.body_start))
            elif part.content.type == b"text":
                yield mime.part_text(part, reader.read(part.body_start, part.body_end))


def _matches(node: _Residual, columns: tuple[object, ...], text: _MessageText) -> bool:
    match node:
        case _Column(index):
            return bool(columns[index])
        case search.And(keys):
            return all(_matches(key, columns, text) for key in keys)  # type: ignore[arg-type]  # see residual
        case search.Or(left, right):
            return _matches(left, columns, text) or _matches(right, columns, text)  # type: ignore[arg-type]  # see residual
        case search.Not(inner):
            return not _matches(inner, columns, text)  # type: ignore[arg-type]  # see residual
        case search.HeaderText(name, needle):
            return text.header_may_hold(needle) and any(
                field == name and needle in _folded_value(raw) for field, raw in text.header()
            )
        case search.BodyText(needle):
            return any(needle in body for body in text.body())
        case search.AnyText(needle):
            if text.header_may_hold(needle) and any(
                needle in field.lower() or needle in _folded_value(raw) for field, raw in text.header()
            ):
                return True
            return any(needle in body for body in text.body())
        case _:
            assert_never(node)


def _matching(
    txn: Txn, mailbox_id: MailboxId, rows: Sequence[Row], residual: Sequence[_Residual]
) -> Iterator[Row]:
    """Those of the rows (uid, modseq, columns) whose message has the text that is wanted."""
    for at in range(0, len(rows), BATCH_ROWS):
        batch = {row[0]: row for row in rows[at : at + BATCH_ROWS]}
        messages = txn.rows(
            f"SELECT p.uid, s.id, s.size_bytes, s.header_bytes, {small_header('s')} FROM {CHOSEN}"
            " JOIN message AS s ON s.id = p.message_id",
            (as_json(UidSet.of(batch)), mailbox_id),
        )
        for uid, *message in messages:
            row = batch[uid]
            text = _MessageText(MessageReader(txn, *message))
            if all(_matches(node, row[2:], text) for node in residual):
                yield row


def run(txn: Txn, mailbox_id: MailboxId, key: search.Key, since: ModSeq) -> SearchResult:
    """Messages of the mailbox that match, in order of UID.

    Raises:
        ValueError: the key names something only a session knows (a programming error).
    """
    uid_next = txn.value("SELECT uid_next FROM mailbox WHERE id = ?", (mailbox_id,)) or 1
    splitter = _Splitter(uid_next - 1, txn.now)
    tops = key.keys if isinstance(key, search.And) else (key,)
    where = ["p.mailbox_id = ?"]
    parameters: list[Value] = []
    residual: list[_Residual] = []
    for top in tops:
        found = splitter.sql(top)
        if found is None:
            residual.append(splitter.residual(top))
        else:
            where.append(f"({found.text})")
            parameters.extend(found.parameters)
    columns = "".join(f", ({column.text})" for column in splitter.columns)
    column_parameters = [value for column in splitter.columns for value in column.parameters]
    # Only fixed text from this module is joined here; every value is a parameter.
    rows = txn.rows(
        f"SELECT p.uid, p.modseq{columns} FROM placed AS p WHERE {' AND '.join(where)} ORDER BY p.uid",
        [*column_parameters, mailbox_id, *parameters],
    )
    if residual:
        rows = list(_matching(txn, mailbox_id, rows, residual))
    return SearchResult(
        tuple(row[0] for row in rows),
        ModSeq(max(row[1] for row in rows)) if rows else None,
        delta(txn, mailbox_id, since),
    )
