"""A transaction that lies whole in the log and that SQLite never knew: its writer was killed just then.

Writers put the last frame of a transaction into the log, wait for the disk, and only then let others see it.
Killed in between, they leave a transaction that is there for everybody who reads the file, as recovery does
and as the snapshot job does; a process that has the database open meanwhile writes its next one over it.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from backup.limits import BackupLimits
from backup.rebuild import Rebuilder
from backup.restore import list_store
from backup.retention import chains
from backup.segment import Kind
from backup.signing import Signer
from backup.snapshot import Snapshotter
from backup.source import Source
from backup.staging import staged_name
from backup.state import Segment, State
from backup.store_file import FileStore
from mailstore.account import AccountPaths, account_paths
from mailstore.engine import Database, DatabaseKey, Txn, close_all, open_connection
from mailstore.keys import AccountId, load_private_key, new_private_key

KEY = DatabaseKey(b"k" * 32, b"s" * 16)
ACCOUNT = AccountId("5a" * 16)
Rows = dict[int, int]


class Living:
    """An account whose database is open, and the snapshot job over it."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.paths: AccountPaths = account_paths(place / "root", ACCOUNT)
        self.paths.inbox.mkdir(parents=True)
        self.paths.keys.write_bytes(b"keys")
        for folder in ("backup", "staging", "objects", "scratch"):
            (place / folder).mkdir()
        private = load_private_key(new_private_key())
        self.state = State(place / "backup", b"a key of the server, for testing")
        self.store = FileStore(place / "objects")
        self._source = lambda: Source(self.store, lambda _name: private, list_store(self.store).sizes)
        self._snapshotter = Snapshotter(
            place / "root", self.state, place / "staging", private.public, Signer(bytes(32)), BackupLimits()
        )
        self.database = open_connection(self.paths.mail_db, KEY)
        self.database.write(0, lambda txn: txn.run("CREATE TABLE t(id INTEGER PRIMARY KEY, x BLOB)"))
        add(self.database, 1, 20_000)
        self.database.checkpoint()

    def take(self) -> Segment | None:
        """One snapshot, stored."""
        taken = self._snapshotter.take(ACCOUNT)
        for segment in self.state.waiting():
            path = self.place / "staging" / staged_name(segment.name)
            self.store.put(str(segment.name), path, segment.sha256)
            self.state.stored(segment.name)
            path.unlink()
        return taken

    def restored(self) -> Rows:
        """The rows of the newest snapshot, which is sound by both checks."""
        folder = self.place / f"restored{len(list(self.place.glob('restored*')))}"
        names = [name for found in list_store(self.store).streams.values() for name in found]
        chain = chains(names)[-1].segments
        Rebuilder(self._source(), self.place / "scratch", 1).rebuild(chain, folder)
        database = open_connection(folder / "mail.db", KEY)
        try:
            assert database.pragma("PRAGMA integrity_check") == [("ok",)]
            assert database.pragma("PRAGMA cipher_integrity_check") == []
            return rows(database)
        finally:
            database.close()

    def leave_unseen_commit(self) -> None:
        """What a writer leaves that is killed when its transaction is in the log and in nobody's view.

        It is made on a copy, by what recovers the same log, and its frames are added to this one.
        """
        size = self.paths.wal.stat().st_size
        copy = self.place / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        copy.mkdir()
        for path in (self.paths.mail_db, self.paths.wal):
            shutil.copy(path, copy)
        writer = open_connection(copy / "mail.db", KEY)
        add(writer, 7, 30_000)
        frames = (copy / "mail.db-wal").read_bytes()[size:]
        writer.close()
        with self.paths.wal.open("r+b") as log:
            log.seek(size)
            log.write(frames)

    def close(self) -> None:
        """Close everything."""
        close_all([self.database])
        self.state.close()


def add(database: Database, row: int, size: int) -> None:
    """One transaction."""

    def insert(txn: Txn) -> None:
        txn.run("INSERT OR REPLACE INTO t VALUES(?, randomblob(?))", (row, size))

    database.write(0, insert)


def rows(database: Database) -> Rows:
    """Every row and the size of its content."""
    return database.read(0, lambda txn: dict(txn.rows("SELECT id, length(x) FROM t")))


def disturbed_checkpoint(database: Database) -> None:
    """All of the log is copied back and it is not cut, because a reader is in the way."""

    def look(txn: Txn) -> bool:
        txn.value("SELECT count(*) FROM t")
        return database.checkpoint()

    reader = open_connection(database._path, KEY)
    assert reader.read(0, look) is False
    reader.close()


@pytest.fixture
def living(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Living]:
    """An account with one snapshot, and a transaction in its log since."""
    monkeypatch.setattr("mailstore.engine.CHECKPOINT_PATIENCE_MS", 10)
    made = Living(tmp_path)
    made.take()
    add(made.database, 2, 100)
    yield made
    made.close()


def write_less(living: Living) -> None:
    """The next transaction is shorter than the one it is written over."""
    add(living.database, 3, 10)


def write_more(living: Living) -> None:
    """The next ones are longer together."""
    add(living.database, 3, 10)
    add(living.database, 4, 90_000)


def checkpoint(living: Living) -> None:
    """Nothing is written; the log is copied back, as far as SQLite knows it, and cut."""
    assert living.database.checkpoint()


def begin_anew(living: Living) -> None:
    """The log is copied back and not cut, and the next writer begins it anew."""
    disturbed_checkpoint(living.database)
    add(living.database, 3, 10)


def begin_anew_slowly(living: Living) -> None:
    """The same with the job coming twice between."""
    disturbed_checkpoint(living.database)
    living.take()
    assert living.take() is None
    add(living.database, 3, 10)


@pytest.mark.parametrize("go_on", [write_less, write_more, checkpoint, begin_anew, begin_anew_slowly])
def test_what_nobody_ever_saw_does_not_stay_in_the_snapshots(
    living: Living, go_on: Callable[[Living], None]
) -> None:
    """A snapshot may hold it; the next one is what everybody sees, to the last page."""
    living.leave_unseen_commit()
    assert 7 not in rows(living.database)
    living.take()
    assert living.restored()[7] == 30_000, "this is what recovery would have found"
    go_on(living)
    taken = living.take()
    assert taken is not None and taken.name.kind is Kind.FULL
    assert living.restored() == rows(living.database)
    add(living.database, 5, 10)
    taken = living.take()
    assert taken is not None and taken.name.kind is Kind.CHANGES
    assert living.restored() == rows(living.database)


@pytest.mark.parametrize("go_on", [write_less, write_more, begin_anew, begin_anew_slowly])
def test_what_everybody_saw_costs_no_full_snapshot(living: Living, go_on: Callable[[Living], None]) -> None:
    """However the log goes on: what was read from it is known to have become part of the database."""
    living.take()
    go_on(living)
    taken = living.take()
    assert taken is not None and taken.name.kind is Kind.CHANGES
    assert living.restored() == rows(living.database)
    assert living.database.checkpoint()
    assert living.take() is None
    add(living.database, 5, 10)
    taken = living.take()
    assert taken is not None and taken.name.kind is Kind.CHANGES
    assert living.restored() == rows(living.database)
