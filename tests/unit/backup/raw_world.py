"""A database of one table in an account's folder, open in this process, and the snapshot job over it."""

from __future__ import annotations

from pathlib import Path

from backup.limits import BackupLimits
from backup.rebuild import Rebuilder
from backup.restore import list_store
from backup.retention import chains
from backup.signing import Signer
from backup.snapshot import Snapshotter
from backup.source import Source
from backup.staging import staged_name
from backup.state import Segment, State
from backup.store_file import FileStore
from mailstore.account import AccountPaths, account_paths
from mailstore.engine import Database, DatabaseKey, Txn, close_all, open_connection
from mailstore.keys import (
    MASTER_KEY_BYTES,
    PRIVATE_KEY_BYTES,
    AccountId,
    Header,
    PublicKey,
    load_private_key,
    new_private_key,
)
from mailstore.keys.header import encode_header
from mailstore.keys.hierarchy import NONCE_BYTES, SALT_BYTES, TAG_BYTES
from mailstore.keys.pair import PUBLIC_KEY_BYTES, WrappedKey
from mailstore.model import ScramSetup

KEY = DatabaseKey(b"k" * 32, b"s" * 16)
ACCOUNT = AccountId("5a" * 16)
HEADER = Header(
    ACCOUNT,
    1,
    PublicKey(bytes(PUBLIC_KEY_BYTES)),
    WrappedKey(bytes(NONCE_BYTES), bytes(PRIVATE_KEY_BYTES + TAG_BYTES)),
    ScramSetup(bytes(SALT_BYTES)),
    (),
)
"""Opens nothing, and is one by its form."""

Rows = dict[int, int]


class Living:
    """An account whose database is open, and the snapshot job over it."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.paths: AccountPaths = account_paths(place / "root", ACCOUNT)
        self.paths.inbox.mkdir(parents=True)
        self.paths.keys.write_bytes(encode_header(HEADER, bytes(MASTER_KEY_BYTES)))
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
