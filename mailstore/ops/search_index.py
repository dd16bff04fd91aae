"""The search index in search.db: which messages can hold a text (FORMAT.md section 13).

It keeps which trigrams the search form of a message has, not where. So mostly it only proposes messages:
whether one holds what is searched for is for its text to say. What the index does not rule out has to be
read.

Two answers are certain. Two or three characters below the header are, or begin, a trigram: where that is,
they are. And the fields that are searched most are kept whole, each in the form in which it is compared,
those of all messages in a row; going through them takes less time than reading a hundred messages.

Each ``1 << SHARD_BITS`` message ids have a table of their own: FTS5 gets rid of what deleted rows held by
merging a whole table, which has to stay cheap.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from mailstore.engine import Txn
from mailstore.errors import DatabaseDamaged
from mailstore.search import KEPT_FIELDS, Candidates, Holders, Needle, Place
from mailstore.search_form import SEARCH_FORM_VERSION

INDEX_VERSION = 4
"""``PRAGMA user_version`` of search.db. An index of another version is made anew."""

SHARD_BITS = 11
"""Messages whose ids have the same bits above these are in one table."""

TRIGRAM = 3
"""Characters of what is looked up; for two, all trigrams that begin with them. One is in no index."""

MAX_TRIGRAMS = 40
"""Of a long text, so many are looked up; they rule out enough."""

MAX_ENDINGS = 200
"""Trigrams that begin with the same two characters; where there are more, messages are read."""

_PAIR = 2
_AMBIGUOUS = set("\x01?\ufffd")
"""What stands in the index for other characters as well."""

_FORM = f"{SEARCH_FORM_VERSION} {unicodedata.unidata_version}"
_ROW_BYTES = 3_900
"""Octets of a row that surely lie in one page: 4,096 less what SQLCipher and SQLite need of it.

SQLCipher hands a damaged page out empty. Where rows begin that is an error, but a row that goes on in such a
page would silently end in zeros. Besides, it would take all of a second page for a few octets.
"""

_REPLACED = {0: "\x01", 0xFFFE: "\ufffd", 0xFFFF: "\ufffd"}
_PARTS = (Place.HEADER, Place.BODY)
"""By the last bit of a row's number."""
END = 1 << 48
"""Above the ids of all messages; rows of a table can have 64 bits."""
_TABLES = (
    "CREATE TABLE about(name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID",
    # Every message up to about.up_to that has not been removed.
    "CREATE TABLE indexed(message_id INTEGER PRIMARY KEY, object_id TEXT NOT NULL, has_header INTEGER,"
    " has_body INTEGER) STRICT",
    "CREATE INDEX without_header ON indexed(message_id) WHERE has_header = 0",
    "CREATE INDEX without_body ON indexed(message_id) WHERE has_body = 0",
    # The id is that of the message, behind the number of the field. The form is NULL where it is too long.
    "CREATE TABLE field(id INTEGER PRIMARY KEY, form BLOB) STRICT",
)


@dataclass(frozen=True, slots=True)
class IndexText:
    """What is to be indexed of one message; None when it is more than may be, or cannot be read."""

    message_id: int
    object_id: str
    header: str | None
    body: str | None
    fields: Mapping[str, str | None] = field(default_factory=dict)
    """The forms of those of ``KEPT_FIELDS`` that it has."""


def make(txn: Txn, mailboxes: str, removals_now: str) -> None:
    """An empty index, unless there is one; ``removals_now`` is what :func:`removals` says of the mail."""
    if txn.value("PRAGMA user_version"):
        return
    for statement in _TABLES:
        txn.run(statement)
    for name, value in (
        ("form", _FORM),
        ("mailboxes", mailboxes),
        ("up_to", "0"),
        ("removed", removals_now),
    ):
        txn.run("INSERT INTO about VALUES(?, ?)", (name, value))
    txn.run(f"PRAGMA user_version={INDEX_VERSION}")


def is_made(txn: Txn) -> bool:
    """Whether there is an index of any version in the database."""
    return bool(txn.value("PRAGMA user_version"))


def fits(txn: Txn, mailboxes: str, last_id: int) -> bool:
    """Whether the index is one of this program's, over the mail that is there now.

    ``mailboxes`` and ``last_id`` come from mail.db, see :func:`identity`.
    """
    if txn.value("PRAGMA user_version") != INDEX_VERSION:
        return False
    if not {row[0] for row in txn.rows("SELECT sql FROM sqlite_schema")}.issuperset(_TABLES):
        return False  # whoever made it meant another version by the number
    known = {str(row[0]): str(row[1]) for row in txn.rows("SELECT name, value FROM about")}
    return (
        known.get("form") == _FORM
        and known.get("mailboxes") == mailboxes
        and known.get("up_to", "").isdecimal()
        and int(known["up_to"]) <= last_id
    )


def up_to(txn: Txn) -> int:
    """The last message that has been indexed or passed over."""
    return int(txn.value("SELECT value FROM about WHERE name = 'up_to'"))


def indexed_before(txn: Txn, message_id: int, most: int) -> dict[int, str]:
    """The last so many messages in the index below ``message_id``, and their object ids."""
    rows = txn.rows(
        "SELECT message_id, object_id FROM indexed WHERE message_id < ? ORDER BY message_id DESC LIMIT ?",
        (message_id, most),
    )
    return dict(rows)


def removed(txn: Txn) -> str:
    """What :func:`removals` said when all that was removed before had left the index."""
    return str(txn.value("SELECT value FROM about WHERE name = 'removed'"))


def note_removed(txn: Txn, removals_then: str) -> None:
    """Remember that what was removed up to then has left the index."""
    txn.run("UPDATE about SET value = ? WHERE name = 'removed'", (removals_then,))


def _shards(txn: Txn) -> list[str]:
    return [
        name
        for (name,) in txn.rows(
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND name GLOB 'text_[0-9]*'"
        )
        if name.removeprefix("text_").isdecimal()
    ]


def _shard(message_id: int) -> str:
    return f"text_{message_id >> SHARD_BITS}"


def add(txn: Txn, texts: Sequence[IndexText]) -> None:
    """Put messages, in order of their ids, behind those that are in the index.

    Raises DatabaseDamaged where the index has messages that should not be in it yet.
    """
    if txn.value("SELECT max(message_id) FROM indexed WHERE message_id >= ?", (texts[0].message_id,)):
        raise DatabaseDamaged("the search index contradicts itself")
    made = set(_shards(txn))
    for text in texts:
        has = text.header is not None, text.body is not None
        txn.run("INSERT INTO indexed VALUES(?, ?, ?, ?)", (text.message_id, text.object_id, *has))
        for name, form in text.fields.items():
            exact = None if form is None else _exact(form)
            if exact is not None and len(exact) > _ROW_BYTES:
                exact = None
            txn.run("INSERT INTO field VALUES(?, ?)", (_first_of(name) + text.message_id, exact))
        shard = _shard(text.message_id)
        if shard not in made:
            made.add(shard)
            # The text is in its search form already. Only names of this module's making are joined here.
            txn.run(
                f"CREATE VIRTUAL TABLE {shard} USING fts5(form, content='', contentless_delete=1,"
                " detail=none, tokenize='trigram case_sensitive 1')"
            )
            txn.run(f"INSERT INTO {shard}({shard}, rank) VALUES('pgsz', {_ROW_BYTES})")
        for part, form in enumerate((text.header, text.body)):
            if form is not None and len(form) >= TRIGRAM:
                stored = (text.message_id << 1 | part, _storable(form))
                txn.run(f"INSERT INTO {shard}(rowid, form) VALUES(?, ?)", stored)
    txn.run("UPDATE about SET value = ? WHERE name = 'up_to'", (str(texts[-1].message_id),))


def indexed_count(txn: Txn) -> int:
    """How many messages have been indexed or passed over."""
    return int(txn.value("SELECT count(*) FROM indexed"))


def indexed_after(txn: Txn, message_id: int) -> list[int]:
    """The ids in the index of the first shard that has any above ``message_id``, in order."""
    first = txn.value("SELECT min(message_id) FROM indexed WHERE message_id > ?", (message_id,))
    if first is None:
        return []
    end = ((first >> SHARD_BITS) + 1) << SHARD_BITS
    rows = txn.rows(
        "SELECT message_id FROM indexed WHERE message_id >= ? AND message_id < ? ORDER BY message_id",
        (first, end),
    )
    return [row[0] for row in rows]


def remove(txn: Txn, message_ids: Sequence[int]) -> None:
    """Remove messages of one shard, and what the index has kept of their text."""
    shard = _shard(message_ids[0])
    txn.many("DELETE FROM indexed WHERE message_id = ?", [(one,) for one in message_ids])
    fields = [(_first_of(name) + one,) for name in KEPT_FIELDS for one in message_ids]
    txn.many("DELETE FROM field WHERE id = ?", fields)
    if shard not in _shards(txn):
        return
    first = message_ids[0] >> SHARD_BITS << SHARD_BITS
    if not txn.value(
        "SELECT 1 FROM indexed WHERE message_id >= ? AND message_id < ? LIMIT 1",
        (first, first + (1 << SHARD_BITS)),
    ):
        txn.run(f"DROP TABLE {shard}")
        return
    rows = [(one << 1 | part,) for one in message_ids for part in range(len(_PARTS))]
    txn.many(f"DELETE FROM {shard} WHERE rowid = ?", rows)
    # A deleted row is only marked until its segment is merged.
    txn.run(f"INSERT INTO {shard}({shard}) VALUES('optimize')")


def candidates(txn: Txn, needles: Iterable[Needle], most: int) -> Candidates:
    """What the index says about these texts; one that more than ``most`` messages may hold is left out."""
    known: dict[Needle, Holders] = {}
    for needle in dict.fromkeys(needles):
        if isinstance(needle.place, Place):
            found = _in_part(txn, needle.place, needle.form, most)
        else:
            found = _in_field(txn, needle.place, needle.form, most)
        if found is not None:
            known[needle] = found
    return Candidates(up_to(txn), known)


def _in_field(txn: Txn, name: str, form: str, most: int) -> Holders | None:
    """The messages in one of whose fields of this name a text is."""
    rows = txn.rows(
        "SELECT id - ?, form IS NOT NULL FROM field"
        " WHERE id BETWEEN ? AND ? AND (form IS NULL OR instr(form, ?)) LIMIT ?",
        (first := _first_of(name), first, first + END - 1, _exact(form), most + 1),
    )
    if len(rows) > most:
        return None
    possible = frozenset(one for one, is_kept in rows if not is_kept) | _unknown(txn, Place.HEADER)
    if possible:
        anywhere = _in_part(txn, Place.HEADER, form, most)
        possible = possible if anywhere is None else possible & anywhere.possible
    return Holders(frozenset(one for one, is_kept in rows if is_kept), possible)


def _unknown(txn: Txn, place: Place) -> frozenset[int]:
    """Messages whose header, or what is below it, may hold anything."""
    has = "has_header" if place is Place.HEADER else "has_body"
    return frozenset(one for (one,) in txn.rows(f"SELECT message_id FROM indexed WHERE {has} = 0"))


def _in_part(txn: Txn, place: Place, form: str, most: int) -> Holders | None:
    """The messages in whose header, or in what is below it, all trigrams of a text are."""
    text = _storable(form)
    if len(text) < _PAIR:
        return None
    part = _PARTS.index(place)
    found: list[int] = []
    for shard in _shards(txn):
        query = _pair_query(txn, shard, text) if len(text) == _PAIR else _query(text)
        if query is None:
            return None
        rows = txn.rows(
            f"SELECT rowid >> 1 FROM {shard} WHERE {shard} MATCH ? AND rowid & 1 = ? LIMIT ?",
            (query, part, most + 1 - len(found)),
        )
        found += [row[0] for row in rows]
        if len(found) > most:
            return None
    unknown = _unknown(txn, place)
    if place is Place.BODY and len(text) <= TRIGRAM and not _AMBIGUOUS & set(text):
        # It is a trigram or the beginning of one, so it stands there. In a header it may stand elsewhere.
        return Holders(frozenset(found), unknown)
    return Holders(possible=unknown.union(found))


def _first_of(name: str) -> int:
    """Ids of table ``field`` for this field are those of messages, counted from here."""
    return KEPT_FIELDS.index(name) * END


def _exact(form: str) -> bytes:
    """What holds exactly what the form holds: no octets of a character are those of others."""
    return form.encode("utf-8", "surrogatepass")


def _storable(form: str) -> str:
    """The form in characters that FTS5 keeps apart: it drops NUL, and surrogates are no UTF-8.

    U+FFFE and U+FFFF it reads as U+FFFD.
    """
    return form.encode("utf-8", "replace").decode("utf-8").translate(_REPLACED)


def _query(text: str) -> str:
    """Asks for the trigrams of a text, in FTS5's language."""
    trigrams = dict.fromkeys(text[at : at + TRIGRAM] for at in range(len(text) - TRIGRAM + 1))
    return " AND ".join(map(_quoted, list(trigrams)[:MAX_TRIGRAMS]))


def _pair_query(txn: Txn, shard: str, pair: str) -> str | None:
    """Asks for any trigram that begins with two characters; None where too many do.

    Behind each text is a separator, so wherever the two are a trigram begins with them.
    """
    txn.run(
        f"CREATE VIRTUAL TABLE IF NOT EXISTS temp.terms_{shard} USING fts5vocab('main', '{shard}', 'row')"
    )
    terms = txn.rows(
        f"SELECT term FROM temp.terms_{shard} WHERE term BETWEEN ? AND ? LIMIT ?",
        (pair, pair + "\U0010ffff", MAX_ENDINGS + 1),
    )
    if len(terms) > MAX_ENDINGS:
        return None
    return " OR ".join(_quoted(term) for (term,) in terms) or '""'


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


# -- what is asked of mail.db --------------------------------------------------------------------------


def identity(txn: Txn) -> tuple[str, int]:
    """What tells this state of mail.db from one that was restored; and the last message id."""
    mailboxes = txn.value("SELECT object_id || ' ' || uid_validity FROM mailbox WHERE name = 'INBOX'")
    last_id = txn.value("SELECT seq FROM sqlite_sequence WHERE name = 'message'")
    return str(mailboxes), int(last_id or 0)


def object_ids(txn: Txn, first: int, last: int) -> dict[int, str]:
    """What tells the messages in this range from those that have their ids in another state of mail.db."""
    return dict(txn.rows("SELECT id, object_id FROM message WHERE id BETWEEN ? AND ?", (first, last)))


def next_after(txn: Txn, message_id: int) -> tuple[int, str] | None:
    """The id and object id of the message behind that one."""
    return txn.one("SELECT id, object_id FROM message WHERE id > ? ORDER BY id LIMIT 1", (message_id,))


def count_after(txn: Txn, message_id: int) -> int:
    """How many messages are behind that one."""
    return int(txn.value("SELECT count(*) FROM message WHERE id > ?", (message_id,)))


def removals(txn: Txn) -> str:
    """Becomes another text whenever a message is removed from any mailbox.

    While no mailbox is made or deleted, the sum only grows, by one with each message that is removed.
    """
    row = txn.one(
        "SELECT (SELECT seq FROM sqlite_sequence WHERE name = 'mailbox'), count(*),"
        " sum(uid_next) - sum(messages) FROM mailbox"
    )
    assert row is not None
    return " ".join(map(str, row))


def living(txn: Txn, first: int, last: int) -> set[int]:
    """The ids of the messages in this range that lie in some mailbox."""
    rows = txn.rows(
        "SELECT DISTINCT message_id FROM placed INDEXED BY placed_by_message"
        " WHERE message_id BETWEEN ? AND ?",
        (first, last),
    )
    return {row[0] for row in rows}
