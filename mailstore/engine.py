"""The only door to SQLCipher: open, pragmas, transactions, checkpoints, error translation.

The parameters in ``open_connection`` are part of the file formats (see FORMAT.md). Nothing that
belongs to the driver (connection, cursor) leaves this file.
"""

from __future__ import annotations

import ctypes
import errno
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from sqlcipher3 import dbapi2 as driver

from mailstore.damage import DamagedDatabase, named
from mailstore.durable import storage_errors
from mailstore.errors import Busy, DatabaseDamaged, StorageFailed, StorageFull, StoreError
from mailstore.locks import HeldLock, locked
from mailstore.page_journal import PAGE_JOURNAL, Checkpoint, recorded
from mailstore.room import ROOM_TO_WRITE_BYTES, is_full, log_bytes, require_room, require_room_to_open

log = logging.getLogger("sealbox.engine")

T = TypeVar("T")
Value = int | str | bytes | float | None
Row = tuple[Any, ...]

SQLITE_BUSY, SQLITE_LOCKED, SQLITE_IOERR, SQLITE_CORRUPT, SQLITE_FULL, SQLITE_NOTADB = 5, 6, 10, 11, 13, 26
BUSY_TIMEOUT_MS = 30_000
"""How long a writer waits for a writer in another process before ``Busy``."""

BRIEF_PATIENCE_S = 5.0
"""How long a write that only accompanies a read waits for a writer in another process."""

CHECKPOINT_PATIENCE_MS = 1_000
"""How long a checkpoint waits for readers before it leaves the rest for later."""

_HMAC, _DEFAULT_HMAC = "HMAC_SHA256", "HMAC_SHA512"
"""Of our databases, and of those that SQLCipher 4 makes if it is not told."""

WRITE_LOCK = "write.lock"
"""flock beside a database: writers and checkpoints, one at a time."""


@dataclass(frozen=True, slots=True)
class DatabaseKey:
    """Raw key (32 bytes) and salt (16 bytes) of one SQLCipher file; never printed."""

    key: bytes
    salt: bytes

    def __repr__(self) -> str:
        return "DatabaseKey(...)"


@contextmanager
def translated(damage: DamagedDatabase) -> Iterator[None]:
    """Turn driver errors into StoreError; the driver's text goes nowhere, its code to the log.

    Raises:
        Busy: another process kept the write lock for ``BUSY_TIMEOUT_MS``.
        StorageFull: no space left; the transaction is rolled back.
        DatabaseDamaged: a page is not what was written, or the key is another one; ``damage`` tells of it.
        StorageFailed: anything else the driver reports.
    """
    try:
        yield
    except StorageFull:
        raise damage.full() from None
    except StoreError:
        raise
    except driver.Error as exc:
        # Driver texts can quote search terms (FTS5) or names; only class and code are safe to log.
        code = getattr(exc, "sqlite_errorcode", None)
        text = str(exc)
        primary = code & 0xFF if isinstance(code, int) else None
        if primary in (SQLITE_BUSY, SQLITE_LOCKED) or "locked" in text:
            raise Busy("the database is busy") from None
        if primary == SQLITE_FULL or "disk is full" in text or (primary == SQLITE_IOERR and _no_room(damage)):
            raise damage.full() from None
        if isinstance(code, int) and primary in (SQLITE_CORRUPT, SQLITE_NOTADB):
            damage.tell(code)
            raise DatabaseDamaged("the database is damaged") from None
        log.error("%s: database error %s (code %s)", named(damage.path), type(exc).__name__, code)
        raise StorageFailed("the database reported an error") from None
    except OSError as exc:
        if exc.errno in (errno.ENOSPC, errno.EDQUOT):
            raise damage.full() from None
        log.error("%s: input/output error (errno %s)", named(damage.path), exc.errno)
        raise StorageFailed("the file system reported an error") from None


def _no_room(damage: DamagedDatabase) -> bool:
    # SQLite reports an I/O error when it cannot extend the index of its WAL.
    with suppress(OSError):
        return is_full(damage.path.parent)
    return False


class Txn:
    """One transaction that has begun. Its methods return finished values, never a cursor."""

    __slots__ = ("_connection", "now")

    def __init__(self, connection: driver.Connection, now: int) -> None:
        self._connection = connection
        self.now = now
        """Seconds since the epoch, the same throughout the transaction."""

    def rows(self, sql: str, parameters: Sequence[Value] = ()) -> list[Row]:
        """All rows of a query."""
        result: list[Row] = self._connection.execute(sql, parameters).fetchall()
        return result

    def one(self, sql: str, parameters: Sequence[Value] = ()) -> Row | None:
        """The first row, or None."""
        result: Row | None = self._connection.execute(sql, parameters).fetchone()
        return result

    def value(self, sql: str, parameters: Sequence[Value] = ()) -> Any:
        """The first column of the first row, or None."""
        row = self.one(sql, parameters)
        return row[0] if row is not None else None

    def each(self, take: Callable[[Row], object], sql: str) -> None:
        """Call ``take`` with every row of a query that has too many to be in memory at once."""
        for row in self._connection.execute(sql):
            take(row)

    def run(self, sql: str, parameters: Sequence[Value] = ()) -> int:
        """Execute a change; the number of rows it touched."""
        return int(self._connection.execute(sql, parameters).rowcount)

    def insert(self, sql: str, parameters: Sequence[Value] = ()) -> int:
        """Execute an INSERT; the rowid it was given."""
        return int(self._connection.execute(sql, parameters).lastrowid)

    def many(self, sql: str, rows: Iterable[Sequence[Value]]) -> None:
        """Execute one statement for each row of parameters."""
        self._connection.executemany(sql, rows)


class Database:
    """One connection, used by one thread at a time (the executor's lanes see to that).

    It stays open until ``close``, whatever becomes of this object. The interpreter would close an
    unreferenced connection, also at exit, and SQLite checkpoints when a file's last connection is closed:
    without the account's lock. A process that ends with an open connection leaves the WAL as it is.
    """

    def __init__(
        self,
        connection: driver.Connection,
        set_up: Callable[[driver.Connection], None],
        damage: DamagedDatabase,
        lock: Path | None,
        autocheckpoint_pages: int,
        has_one_writer: bool = False,
        is_plain: bool = False,
    ) -> None:
        """See :func:`open_connection` and :func:`open_export`, which make these."""
        self._has_one_writer = has_one_writer
        self._is_plain = is_plain
        self._connection = connection
        self._set_up = set_up
        self._path = damage.path
        self._lock = lock
        self._autocheckpoint_pages = autocheckpoint_pages
        self._damage = damage
        self.closed = False
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))

    def read(self, now: int, fn: Callable[..., T], *args: Any) -> T:
        """Run ``fn(txn, *args)`` in a read transaction: one consistent state of the database.

        ``now`` (epoch s) is what :attr:`Txn.now` says. Raises Busy, DatabaseDamaged, StorageFailed, and what
        ``fn`` raises.
        """
        return self._transact("BEGIN", now, fn, *args)

    def write(
        self, now: int, fn: Callable[..., T], *args: Any, patience_s: float = BUSY_TIMEOUT_MS / 1000
    ) -> T:
        """Run ``fn(txn, *args)`` in a write transaction; commits, or rolls back on any error.

        Raises Busy when a writer in another process holds the lock for ``patience_s``.

        BEGIN IMMEDIATE takes SQLite's write lock at once, so that no reader has to be upgraded later. Our own
        lock, taken first, keeps commits out while a checkpoint records what it is going to copy.
        """
        self._require_room()
        with nullcontext() if self._has_one_writer else _writing(self._path, patience_s):
            return self._transact("BEGIN IMMEDIATE", now, fn, *args)

    def note(self, now: int, fn: Callable[..., T], *args: Any) -> T:
        """As ``write``, for changes that a power cut may undo: no fsync, no waiting for other writers.

        ``now`` is in seconds since the epoch. Raises Busy at once if there is another writer.
        """
        self._require_room()
        with _writing(self._path, 0.0):
            self.pragma("PRAGMA synchronous=NORMAL")
            try:
                return self._transact("BEGIN IMMEDIATE", now, fn, *args)
            finally:
                self.pragma("PRAGMA synchronous=FULL")

    def _require_room(self) -> None:
        if self._autocheckpoint_pages:
            return  # its WAL is overwritten from the start, and takes no more room
        with translated(self._damage):
            # The WAL's content has to fit into the main file as well, or it could never be checkpointed.
            require_room(self._path.parent, ROOM_TO_WRITE_BYTES + log_bytes(self._path))

    def _transact(self, begin: str, now: int, fn: Callable[..., T], *args: Any) -> T:
        with translated(self._damage):
            try:
                self._connection.execute(begin)
                try:
                    result = fn(Txn(self._connection, now), *args)
                finally:
                    self._require_sound()  # what ``fn`` makes of zeros may be any error
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                if not self._is_sound():
                    with suppress(driver.Error):
                        self._connect_again()
                raise
            return result

    def _is_sound(self) -> bool:
        """False when SQLCipher has met a damaged page, which it hands out as zeros.

        SQLite misses nothing where it is the last page of a long value. SQLCipher remembers it, and refuses
        every page that has to be read later.
        """
        if self._is_plain:
            return True
        return bool(self._connection.execute("PRAGMA cipher_status").fetchone() == ("1",))

    def _require_sound(self) -> None:
        """Notice a damaged page before anybody believes what was in it."""
        if not self._is_sound():
            self._damage.tell(SQLITE_CORRUPT)
            raise DatabaseDamaged("the database is damaged")

    def _connect_again(self) -> None:
        """After a damaged page, so that all others can be read. Where that fails nothing changes.

        One of the two connections that are open meanwhile always holds SQLite's lock on the file. So closing
        the other one is not the file's last close, which would checkpoint.
        """
        connection = driver.connect(str(self._path), isolation_level=None, check_same_thread=False)
        try:
            self._set_up(connection)
            connection.execute("PRAGMA schema_version").fetchall()  # takes that lock, until it is closed
        except driver.Error:
            connection.close()
            raise
        old, self._connection = self._connection, connection
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))
        old.close()
        ctypes.pythonapi.Py_DecRef(ctypes.py_object(old))

    def checkpoint(self, held: HeldLock | None = None) -> bool:
        """Copy the WAL into the database and truncate it; ``held`` as for :meth:`close`.

        Returns:
            True when the WAL is empty now; False when a reader was in the way.
        """
        self.require_lock(held)
        with _writing(self._path), _noted(self._damage) as note:
            return self._checkpoint(note)

    def _checkpoint(self, note: Checkpoint) -> bool:
        with translated(self._damage):
            self._connection.execute(f"PRAGMA busy_timeout={CHECKPOINT_PATIENCE_MS}")
            try:
                # Only PASSIVE reports how many frames there were: TRUNCATE counts what is left.
                note.frames = self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()[1]
                row = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            finally:
                self._connection.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
            return bool(row is not None and row[0] == 0)

    def copy_compactly(self, path: Path) -> None:
        """Write a copy without free pages to ``path``, where nothing may be; under the same key.

        What is there if this fails is not whole. Raises DatabaseDamaged, StorageFull, StorageFailed.
        """
        # What is told to this connection counts for its file alone; a new file is made by the defaults.
        self.pragma(f"PRAGMA cipher_default_hmac_algorithm={_HMAC}")
        try:
            with translated(self._damage):
                self._connection.execute("VACUUM INTO ?", (str(path),))
                self._require_sound()
        finally:
            self.pragma(f"PRAGMA cipher_default_hmac_algorithm={_DEFAULT_HMAC}")

    def copy_into(self, new: Database) -> None:
        """Make ``new``, which is empty and has a key of its own, a copy of this database, page by page.

        What is there if this fails is not whole. Raises DatabaseDamaged, StorageFull, StorageFailed.
        """
        with translated(self._damage):
            self._connection.backup(new._connection)
            self._require_sound()

    def pragma(self, sql: str) -> list[Row]:
        """Run one of our own fixed PRAGMA statements outside a transaction."""
        with translated(self._damage):
            result: list[Row] = self._connection.execute(sql).fetchall()
            return result

    def close(self, held: HeldLock | None = None) -> None:
        """Close, once. The last close of a file checkpoints it: see ``close_all``.

        ``held`` proves that the caller has locked the file that was named at opening. It is not asked for
        where the folder is gone, and nothing can be checkpointed. Raises RuntimeError without it.
        """
        if self.closed:
            return
        self.require_lock(held)
        with translated(self._damage):
            self._connection.close()
        self.closed = True
        ctypes.pythonapi.Py_DecRef(ctypes.py_object(self._connection))

    def require_lock(self, held: HeldLock | None) -> None:
        """Check that ``held`` is the lock that a checkpoint of this database needs.

        Raises:
            RuntimeError: it is not. StorageFailed: the account's folder cannot be looked at.
        """
        if self._lock is None:
            return
        with storage_errors():
            if not self._lock.parent.is_dir():
                return
        if held is None or not (held.is_held and held.exclusive and held.path == self._lock):
            raise RuntimeError("a checkpoint without the lock of the account")


def close_all(databases: Sequence[Database], held: HeldLock | None = None) -> None:
    """Checkpoint and close the connections of one file; ``held`` as for :meth:`Database.close`."""
    if not databases:
        return
    databases[-1].require_lock(held)
    damage = databases[-1]._damage
    with _writing(damage.path), _noted(damage) as note:
        try:
            databases[-1]._checkpoint(note)
        finally:
            for database in databases:
                database.close(held)


def _writing(path: Path, timeout_s: float = BUSY_TIMEOUT_MS / 1000) -> AbstractContextManager[HeldLock]:
    return locked(path.with_name(WRITE_LOCK), exclusive=True, timeout_s=timeout_s)


@contextmanager
def _noted(damage: DamagedDatabase) -> Iterator[Checkpoint]:
    path = damage.path
    wal, journal = path.with_name(path.name + "-wal"), path.with_name(PAGE_JOURNAL)
    with translated(damage), recorded(path, wal, journal) as note:
        yield note


def open_connection(
    path: Path,
    key: DatabaseKey,
    *,
    cache_kib: int = 8192,
    lock: Path | None = None,
    autocheckpoint_pages: int = 0,
    has_one_writer: bool = False,
    give_up: Callable[[Database], object] = Database.close,
    damage: DamagedDatabase | None = None,
) -> Database:
    """Open or create the SQLCipher database at ``path``.

    ``lock`` is the file without whose exclusive lock nobody may checkpoint it, so that others can copy it.
    With ``autocheckpoint_pages`` SQLite checkpoints by itself whenever the log has so many pages: right for a
    file whose pages no snapshot copies. Without, only :meth:`Database.checkpoint` and :func:`close_all` do.
    ``give_up`` closes a connection that turns out to be unusable; connections that share ``damage`` log it
    once.

    Raises:
        DatabaseDamaged: not a database, or another key.
        StorageFull: no space for the first pages.
    """
    damage = damage or DamagedDatabase(path)
    with translated(damage):
        require_room_to_open(path)
        connection = driver.connect(str(path), isolation_level=None, check_same_thread=False)
        set_up = partial(_set_up, key=key, cache_kib=cache_kib, autocheckpoint_pages=autocheckpoint_pages)
        database = Database(connection, set_up, damage, lock, autocheckpoint_pages, has_one_writer)
        try:
            set_up(connection)
        except BaseException:
            give_up(database)
            raise
        return database


def open_export(path: Path, passphrase: str | None) -> Database:
    """Open or create a file that its owner is to read: plain SQLite, or SQLCipher 4 with its defaults.

    Nobody else has it open, and no log stays beside it. What is wrong with it, the caller tells its owner.
    Raises as :func:`open_connection`; DatabaseDamaged also for another passphrase.
    """
    damage = DamagedDatabase(path, is_told=True)
    with translated(damage):
        connection = driver.connect(str(path), isolation_level=None, check_same_thread=False)
        set_up = partial(_set_up_export, passphrase=passphrase)
        database = Database(
            connection,
            set_up,
            damage,
            None,
            autocheckpoint_pages=1,
            has_one_writer=True,
            is_plain=passphrase is None,
        )
        try:
            set_up(connection)
        except BaseException:
            database.close()
            raise
        return database


def _set_up_export(connection: driver.Connection, passphrase: str | None) -> None:
    connection.execute("PRAGMA cipher_log_level=NONE")
    if passphrase is not None:
        quoted = passphrase.replace("'", "''")
        connection.execute(f"PRAGMA key='{quoted}'")
    for pragma in ("temp_store=MEMORY", "journal_mode=DELETE", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}").fetchall()
    connection.execute("SELECT count(*) FROM sqlite_master").fetchall()


def _set_up(
    connection: driver.Connection, key: DatabaseKey, cache_kib: int, autocheckpoint_pages: int
) -> None:
    for statement in (
        # SQLCipher would write about a wrong key to standard error; ``damage`` logs it once.
        "PRAGMA cipher_log_level=NONE",
        # Raw key plus salt: no PBKDF2, the key is already uniformly random.
        f"PRAGMA key=\"x'{key.key.hex()}{key.salt.hex()}'\"",
        f"PRAGMA cipher_hmac_algorithm={_HMAC}",
        "PRAGMA cipher_memory_security=OFF",
        "PRAGMA temp_store=MEMORY",
        f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}",
        "PRAGMA journal_mode=WAL",
        f"PRAGMA wal_autocheckpoint={autocheckpoint_pages}",
        "PRAGMA synchronous=FULL",
        "PRAGMA secure_delete=ON",
        "PRAGMA foreign_keys=ON",
        f"PRAGMA cache_size=-{cache_kib}",
        "PRAGMA recursive_triggers=OFF",
        "PRAGMA trusted_schema=OFF",
    ):
        connection.execute(statement).fetchall()
