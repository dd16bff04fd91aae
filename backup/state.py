"""What the snapshot job knows: streams, segments with their content keys, how far each account was read.

One SQLCipher file under the server's key, ROOT/backup/state.db. It may be lost: every account then begins a
new stream, and only the private key opens the old ones.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from backup.image import Position
from backup.segment import SERVER, Kind, SegmentName, StreamId, parse_name
from mailstore.damage import DamagedDatabase
from mailstore.engine import Database, DatabaseKey, Row, Txn, close_all, open_connection
from mailstore.errors import TooNew
from mailstore.keys import ServerKeyLabel, derive
from mailstore.page_journal import FileIdentity
from mailstore.server_key import key_lock
from mailstore.server_rekeying import Rekeying
from mailstore.wal import WalPosition

T = TypeVar("T")

STATE_FILE = "state.db"

FORGOTTEN = "forgotten-"
"""Prefix of the account of a stream that was found in the object store and whose owner is unknown."""

_SCHEMA = (
    """CREATE TABLE stream (
        stream TEXT PRIMARY KEY, account TEXT NOT NULL UNIQUE,
        fingerprint TEXT NOT NULL DEFAULT '', keys_sha256 BLOB,
        main_inode INTEGER, main_size INTEGER, main_mtime_ns INTEGER,
        wal_salts BLOB, wal_frames INTEGER, wal_pages INTEGER,
        announced INTEGER NOT NULL DEFAULT 0, gone_ms INTEGER, proven_ms INTEGER) STRICT""",
    """CREATE TABLE segment (
        stream TEXT NOT NULL REFERENCES stream(stream) ON DELETE CASCADE, sequence INTEGER NOT NULL,
        taken_ms INTEGER NOT NULL, kind TEXT NOT NULL, size_bytes INTEGER NOT NULL, sha256 BLOB NOT NULL,
        content_key BLOB NOT NULL, stored INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (stream, sequence)) STRICT, WITHOUT ROWID""",
    "CREATE INDEX segment_waiting ON segment(stream, sequence) WHERE NOT stored",
    """CREATE TABLE waiting_mail (
        stream TEXT NOT NULL REFERENCES stream(stream) ON DELETE CASCADE, name TEXT NOT NULL,
        added INTEGER NOT NULL, removed INTEGER, PRIMARY KEY (stream, name)) STRICT, WITHOUT ROWID""",
    "CREATE TABLE left_over (name TEXT PRIMARY KEY) STRICT, WITHOUT ROWID",
    "CREATE TABLE record (name TEXT PRIMARY KEY, sha256 BLOB NOT NULL) STRICT, WITHOUT ROWID",
    "CREATE TABLE setting (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID",
)
_STEPS = (
    _SCHEMA,
    ("CREATE TABLE spare (name TEXT PRIMARY KEY, noted_ms INTEGER NOT NULL) STRICT, WITHOUT ROWID",),
    ("ALTER TABLE stream ADD COLUMN signed_from INTEGER",),
    ("ALTER TABLE stream ADD COLUMN wal_checksum BLOB",),
    ("ALTER TABLE stream ADD COLUMN generation INTEGER NOT NULL DEFAULT 0",),
)
"""What each version adds to the one before."""

SCHEMA_VERSION = len(_STEPS)

FIRST_STORED = "first_stored_ms"
"""Setting: see ``State.first_stored_ms``."""


@dataclass(frozen=True, slots=True)
class Segment:
    """One segment that the server wrote; ``stored`` when the object store has it.

    Of one that was taken over from a lost server, hash and key are not known: they are empty.
    """

    name: SegmentName
    size_bytes: int
    sha256: bytes = field(repr=False)
    content_key: bytes = field(repr=False)
    stored: bool


@dataclass(frozen=True, slots=True)
class Stream:
    """How far the snapshots of one account have got. Times in ms since the epoch."""

    stream: StreamId
    account: str
    fingerprint: str = field(default="", repr=False)
    keys_sha256: bytes | None = field(default=None, repr=False)
    position: Position | None = field(default=None, repr=False)
    announced: int = 0
    """Newest segment that the server's stream names."""

    gone_ms: int | None = None
    proven_ms: int | None = None
    signed_from: int | None = None
    """Its first segment that is signed; all later ones are."""

    generation: int = 0
    """That of the newest segment, see :class:`backup.segment.Header`."""


@dataclass(frozen=True, slots=True)
class NewestStored:
    """The newest segment of an account that the object store has."""

    account: str
    stream: StreamId
    sequence: int
    sha256: bytes = field(repr=False)
    signed_from: int | None


def new_stream(account: str) -> Stream:
    """A stream that has no segment yet."""
    return Stream(StreamId(os.urandom(16).hex()), account)


def _key_of(server_key: bytes) -> DatabaseKey:
    return DatabaseKey(
        derive(server_key, ServerKeyLabel.BACKUP_STATE, 32),
        derive(server_key, ServerKeyLabel.BACKUP_STATE_SALT, 16),
    )


def rekeying_of_state(folder: Path, old: bytes, new: bytes) -> Rekeying:
    """How the state gets from one server's key to another; :func:`sign_anew` has to amend the copy."""
    path = folder / STATE_FILE
    return Rekeying(path, _key_of(old), _key_of(new), SCHEMA_VERSION, DamagedDatabase(path))


@dataclass(frozen=True, slots=True)
class Numbers:
    """Of the oldest and the newest segment of a stream, stored or not."""

    oldest: int
    newest: int


def sign_anew(txn: Txn) -> dict[StreamId, Numbers]:
    """Let another signing key begin; what was signed until now, by stream.

    The server's stream goes on with a full segment, so that what the former key signed is not needed for it.
    """
    if txn.one("SELECT 1 FROM pragma_table_info('stream') WHERE name='signed_from'") is not None:
        txn.run("UPDATE stream SET signed_from=NULL WHERE account=?", (SERVER,))
    rows = txn.rows("SELECT stream, min(sequence), max(sequence) FROM segment GROUP BY stream")
    return {StreamId(stream): Numbers(*numbers) for stream, *numbers in rows}


class State:
    """The job's database. One process uses it at a time; methods block."""

    def __init__(self, folder: Path, server_key: bytes) -> None:
        """Open or create. Raises TooNew, StorageFailed (another server key, damage), StorageFull."""
        with ExitStack() as held:
            held.enter_context(key_lock(folder.parent))
            self._database: Database = open_connection(folder / STATE_FILE, _key_of(server_key))
            held.callback(close_all, [self._database])
            if self._read(_version) != SCHEMA_VERSION:
                self._database.write(0, _migrate)
            self._held = held.pop_all()

    def close(self) -> None:
        """Checkpoint and close."""
        self._held.close()

    def tidy(self) -> None:
        """Checkpoint the state's own database; once per round is enough."""
        self._database.checkpoint()

    def _read(self, fn: Callable[[Txn], T]) -> T:
        return self._database.read(0, fn)

    def streams(self) -> list[Stream]:
        """All streams, the server's too, by account."""
        return [_stream(row) for row in self._read(lambda txn: txn.rows(f"{_STREAMS} ORDER BY account"))]

    def stream(self, account: str) -> Stream | None:
        """The stream of one account."""
        row = self._read(lambda txn: txn.one(f"{_STREAMS} WHERE account=?", (account,)))
        return None if row is None else _stream(row)

    def segments(self, stream: StreamId) -> list[Segment]:
        """All segments of a stream that are known and not pruned, in order."""
        rows = self._read(lambda txn: txn.rows(f"{_SEGMENTS} WHERE stream=? ORDER BY sequence", (stream,)))
        return [_segment(row) for row in rows]

    def waiting(self) -> list[Segment]:
        """Segments that the object store does not have yet, by stream and sequence."""
        rows = self._read(lambda txn: txn.rows(f"{_SEGMENTS} WHERE NOT stored ORDER BY stream, sequence"))
        return [_segment(row) for row in rows]

    def newest_stored_ms(self) -> int | None:
        """When the newest segment that is stored was taken, of any stream."""
        value: int | None = self._read(
            lambda txn: txn.value("SELECT max(taken_ms) FROM segment WHERE stored")
        )
        return value

    def first_stored_ms(self) -> int | None:
        """When the first snapshot of an account that this server has stored was taken; it may be gone."""
        found = self.setting(FIRST_STORED)
        return None if found is None else int(found)

    def waiting_mail(self, stream: StreamId, before: int) -> frozenset[str]:
        """Names of the sealed messages in the state before segment ``before``."""
        rows = self._read(
            lambda txn: txn.rows(
                "SELECT name FROM waiting_mail WHERE stream=?1 AND added < ?2"
                " AND (removed IS NULL OR removed >= ?2)",
                (stream, before),
            )
        )
        return frozenset(row[0] for row in rows)

    def keep(
        self, stream: Stream, segment: Segment | None, added: Iterable[str] = (), removed: Iterable[str] = ()
    ) -> None:
        """Record a snapshot; segments from its number on are replaced by it.

        The first of those may have reached the object store, its answer lost: it is noted as left over.
        Without a segment only how far the account was read is recorded.
        """

        def change(txn: Txn) -> None:
            _put_stream(txn, _signed(stream, segment))
            if segment is None:
                return
            where = (stream.stream, segment.name.sequence)
            _forget_from(txn, where)
            _put_segment(txn, segment)
            txn.many(
                # One that was gone is back, as after a restore, while its removal still waits to be stored.
                "INSERT INTO waiting_mail VALUES(?, ?, ?, NULL)"
                " ON CONFLICT DO UPDATE SET added=excluded.added, removed=NULL",
                [(stream.stream, name, segment.name.sequence) for name in added],
            )
            txn.many(
                "UPDATE waiting_mail SET removed=? WHERE stream=? AND name=?",
                [(segment.name.sequence, stream.stream, name) for name in removed],
            )

        self._database.write(0, change)

    def stored(self, name: SegmentName) -> None:
        """Note that the object store has this segment."""

        def change(txn: Txn) -> None:
            where = (name.stream, name.sequence)
            txn.run("UPDATE segment SET stored=1 WHERE stream=? AND sequence=?", where)
            txn.run(
                "INSERT OR IGNORE INTO setting SELECT ?, ? FROM stream WHERE stream=? AND account<>'server'",
                (FIRST_STORED, str(name.taken_ms), name.stream),
            )
            txn.run("DELETE FROM waiting_mail WHERE stream=? AND removed<=?", where)

        self._database.write(0, change)

    def heads(self, *, everything: bool) -> list[NewestStored]:
        """The newest stored segment of every account's stream, or only those not announced yet.

        Of what was taken over nothing counts behind the one that the lost server had announced.
        """
        rows = self._read(
            lambda txn: txn.rows(
                "SELECT t.account, t.stream, s.sequence, s.sha256, t.signed_from"
                " FROM stream t JOIN segment s USING(stream)"
                " WHERE t.account <> 'server' AND s.sequence = (SELECT max(n.sequence) FROM segment n"
                " WHERE n.stream = t.stream AND n.stored AND (length(n.sha256) > 0"
                " OR t.announced = 0 OR n.sequence <= t.announced)) AND (?1 OR s.sequence <> t.announced)",
                (int(everything),),
            )
        )
        return [NewestStored(row[0], StreamId(row[1]), *row[2:]) for row in rows]

    def keep_server(
        self,
        stream: Stream,
        segment: Segment,
        heads: Iterable[tuple[StreamId, int]],
        records: Mapping[str, bytes | None],
    ) -> None:
        """Record a segment of the server's stream: it names these heads and holds these records."""

        def change(txn: Txn) -> None:
            _put_stream(txn, _signed(stream, segment))
            _put_segment(txn, segment)
            txn.many("UPDATE stream SET announced=?2 WHERE stream=?1", heads)
            for name, digest in records.items():
                txn.run("DELETE FROM record WHERE name=?", (name,))
                if digest is not None:
                    txn.run("INSERT INTO record VALUES(?, ?)", (name, digest))

        self._database.write(0, change)

    def records(self) -> dict[str, bytes]:
        """What the server's stream holds: name of the record to the hash of its content."""
        return dict(self._read(lambda txn: txn.rows("SELECT name, sha256 FROM record")))

    def gone(self, account: str, now_ms: int) -> None:
        """The account no longer exists; of several times at which this was noticed the earliest counts."""
        self._database.write(
            0,
            lambda txn: txn.run(
                "UPDATE stream SET gone_ms=?1 WHERE account=?2 AND ifnull(gone_ms > ?1, 1)", (now_ms, account)
            ),
        )

    def proven(self, stream: StreamId, now_ms: int) -> None:
        """A drill has restored this stream successfully."""
        self._database.write(
            0, lambda txn: txn.run("UPDATE stream SET proven_ms=? WHERE stream=?", (now_ms, stream))
        )

    def pruned(self, names: Iterable[SegmentName]) -> None:
        """These segments are no longer in the object store; a stream without any, gone, is forgotten."""

        doomed = list(names)

        def change(txn: Txn) -> None:
            txn.many(
                "DELETE FROM segment WHERE stream=? AND sequence=? AND taken_ms=? AND kind=?",
                [(name.stream, name.sequence, name.taken_ms, name.kind.value) for name in doomed],
            )
            txn.many("DELETE FROM spare WHERE name=?", [(str(name),) for name in doomed])
            txn.run(
                "DELETE FROM stream WHERE gone_ms IS NOT NULL AND stream NOT IN (SELECT stream FROM segment)"
            )

        self._database.write(0, change)

    def lost(self, name: SegmentName) -> list[SegmentName]:
        """Forget a waiting segment that cannot be stored, and those after it; returns their names.

        What they held is unknown from now on, so that the next snapshot holds everything.
        """

        def change(txn: Txn) -> list[SegmentName]:
            where = (name.stream, name.sequence)
            rows = txn.rows(f"{_SEGMENTS} WHERE stream=? AND sequence>=?", where)
            _forget_from(txn, where)
            txn.run(
                # A time that no file has: all pages count as changed, but that there is a file stays known.
                "UPDATE stream SET fingerprint='', keys_sha256=NULL, main_mtime_ns=-1, wal_salts=NULL,"
                " generation=0 WHERE stream=?",
                (name.stream,),
            )
            if txn.value("SELECT account FROM stream WHERE stream=?", (name.stream,)) == SERVER:
                txn.run("DELETE FROM record")
                txn.run("UPDATE stream SET announced=0")
            return [_segment(row).name for row in rows]

        return self._database.write(0, change)

    def left_over(self) -> list[str]:
        """Names of objects that may be in the object store although a merged segment replaced them."""
        return [row[0] for row in self._read(lambda txn: txn.rows("SELECT name FROM left_over"))]

    def cleared(self, names: Iterable[str]) -> None:
        """These left over objects are not in the object store."""
        self._database.write(
            0, lambda txn: txn.many("DELETE FROM left_over WHERE name=?", [(name,) for name in names])
        )

    def setting(self, name: str) -> str | None:
        """A remembered value."""
        value: str | None = self._read(
            lambda txn: txn.value("SELECT value FROM setting WHERE name=?", (name,))
        )
        return value

    def remember(self, name: str, value: str) -> None:
        """Remember a value."""
        self._database.write(
            0, lambda txn: txn.run("INSERT OR REPLACE INTO setting VALUES(?, ?)", (name, value))
        )

    def adopt(
        self, stream: Stream, segments: Iterable[Segment], spare: Iterable[SegmentName], now_ms: int
    ) -> None:
        """Take over a stream found in the object store that this state does not know.

        ``spare`` are objects of it that are no segments, or others of a number: which one is right cannot be
        known here, so they are kept as long as ``segments``. What the server's stream contains is not known
        either: its next segment will contain everything.
        """

        def change(txn: Txn) -> None:
            if stream.account == SERVER:
                txn.run("DELETE FROM record")
            txn.run("DELETE FROM stream WHERE account=? OR stream=?", (stream.account, stream.stream))
            _put_stream(txn, stream)
            for segment in segments:
                _put_segment(txn, replace(segment, stored=True))
            txn.many("INSERT OR IGNORE INTO spare VALUES(?, ?)", [(str(name), now_ms) for name in spare])

        self._database.write(0, change)

    def spare(self, until_ms: int | None = None) -> list[SegmentName]:
        """Objects that were there when their streams were taken over; with a time, noted by then."""
        rows = self._read(
            lambda txn: txn.rows("SELECT name FROM spare WHERE ?1 IS NULL OR noted_ms <= ?1", (until_ms,))
        )
        return [name for row in rows if (name := parse_name(row[0])) is not None]


_COLUMNS = (
    "stream, account, fingerprint, keys_sha256, main_inode, main_size, main_mtime_ns,"
    " wal_salts, wal_frames, wal_pages, announced, gone_ms, proven_ms, signed_from, generation, wal_checksum"
)
_STREAMS = " ".join(("SELECT", _COLUMNS, "FROM stream"))
_SEGMENTS = "SELECT stream, sequence, taken_ms, kind, size_bytes, sha256, content_key, stored FROM segment"


def _version(txn: Txn) -> int:
    return int(txn.value("PRAGMA user_version"))


def _migrate(txn: Txn) -> None:
    version = _version(txn)
    if version > SCHEMA_VERSION:
        raise TooNew
    for step in _STEPS[version:]:
        for statement in step:
            txn.run(statement)
    txn.run(f"PRAGMA user_version={SCHEMA_VERSION}")


def _forget_from(txn: Txn, where: tuple[StreamId, int]) -> None:
    """Forget segments of a stream from a number on; the first may have reached the object store."""
    row = txn.one(f"{_SEGMENTS} WHERE stream=? AND sequence=?", where)
    if row is not None:
        txn.run("INSERT OR IGNORE INTO left_over VALUES(?)", (str(_segment(row).name),))
    txn.run("DELETE FROM segment WHERE stream=? AND sequence>=?", where)
    txn.run("DELETE FROM waiting_mail WHERE stream=? AND added>=?", where)
    txn.run("UPDATE waiting_mail SET removed=NULL WHERE stream=? AND removed>=?", where)


def _signed(stream: Stream, segment: Segment | None) -> Stream:
    """The stream with a segment that was just written, and signed."""
    if segment is None:
        return stream
    first = min(stream.signed_from or segment.name.sequence, segment.name.sequence)
    return replace(stream, signed_from=first)


def _stream(row: Row) -> Stream:
    # Earlier versions noted no checksum.
    wal = WalPosition(row[7], row[8], row[9], row[15] or b"") if row[7] is not None else None
    position = Position(FileIdentity(*row[4:7]), wal) if row[4] is not None else None
    return Stream(StreamId(row[0]), row[1], row[2], row[3], position, *row[10:15])


def _segment(row: Row) -> Segment:
    name = SegmentName(StreamId(row[0]), row[1], row[2], Kind(row[3]))
    return Segment(name, row[4], row[5], row[6], bool(row[7]))


def _put_stream(txn: Txn, one: Stream) -> None:
    main = one.position.main if one.position else None
    wal = one.position.wal if one.position else None
    values = (
        one.stream,
        one.account,
        one.fingerprint,
        one.keys_sha256,
        *((main.inode, main.size_bytes, main.mtime_ns) if main else (None,) * 3),
        *((wal.salts, wal.frames, wal.database_pages) if wal else (None,) * 3),
        one.announced,
        one.gone_ms,
        one.proven_ms,
        one.signed_from,
        one.generation,
        wal.checksum if wal else None,
    )
    names = _COLUMNS.split(", ")
    updates = ", ".join(f"{name}=excluded.{name}" for name in names[1:])
    marks = ", ".join("?" * len(names))
    insert = ("INSERT INTO stream(", _COLUMNS, ") VALUES(", marks, ")")
    txn.run("".join((*insert, " ON CONFLICT(stream) DO UPDATE SET ", updates)), values)


def _put_segment(txn: Txn, one: Segment) -> None:
    name = one.name
    txn.run(
        "INSERT INTO segment VALUES(?, ?, ?, ?, ?, ?, ?, ?)",
        (
            name.stream,
            name.sequence,
            name.taken_ms,
            name.kind.value,
            one.size_bytes,
            one.sha256,
            one.content_key,
            int(one.stored),
        ),
    )
