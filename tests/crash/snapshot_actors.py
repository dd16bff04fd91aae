"""The actors of ``test_snapshot_interleavings``: writers of a database and the snapshot job, as processes.

``python snapshot_actors.py writer|job PLACE SEED``; they work until they are killed, or for ``LIFE_S``.
``python snapshot_actors.py second PLACE 0`` is the one of ``test_killed_writers``, which does as it is told.

What the database holds follows from one number: transaction n changes the rows that ``step(n)`` says. So
a restored database is right when its rows are those of a model that took the same steps.
"""

from __future__ import annotations

import hashlib
import random
import sys
import time
from pathlib import Path

from backup.errors import ObjectExists
from backup.limits import BackupLimits
from backup.segment import SegmentName
from backup.signing import Signer
from backup.snapshot import Snapshotter
from backup.staging import staged_name
from backup.state import State
from backup.store_file import FileStore
from mailstore import engine
from mailstore.account import account_paths, exclusive_lock
from mailstore.engine import Database, DatabaseKey, Txn, close_all, open_connection
from mailstore.errors import Busy
from mailstore.keys import AccountId, load_private_key

ACCOUNT = AccountId("5a" * 16)
KEY = DatabaseKey(b"k" * 32, b"s" * 16)
SERVER_KEY = b"a key of the server, for testing"
LIMITS = BackupLimits(chain_max_segments=8, lock_wait_s=5.0)
ROWS = 60
LIFE_S = 600.0
"""An actor whose test has died ends by itself after this."""


def step(number: int) -> dict[int, int | None]:
    """What transaction ``number`` does: row to the size of its new content, None to delete it."""
    chance = random.Random(number)
    found: dict[int, int | None] = {}
    for _ in range(chance.randint(1, 4)):
        size = chance.choice((None, 10, 500, 3_000, 9_000, 40_000))
        found[chance.randrange(ROWS)] = size
    return found


def content(number: int, row: int, size: int) -> bytes:
    """What transaction ``number`` writes into a row."""
    return random.Random(number * 1_000 + row).randbytes(size)


class Model:
    """The rows after any transaction; going forward costs only the steps between."""

    def __init__(self) -> None:
        self._number = 0
        self._rows: dict[int, tuple[int, int]] = {}

    def rows(self, number: int) -> dict[int, bytes]:
        """The rows after transaction ``number``."""
        if number < self._number:
            self._number, self._rows = 0, {}
        while self._number < number:
            self._number += 1
            for row, size in step(self._number).items():
                self._rows.pop(row, None)
                if size is not None:
                    self._rows[row] = self._number, size
        return {row: content(one, row, size) for row, (one, size) in self._rows.items()}


def make(place: Path) -> None:
    """An account folder with an empty database, and the folders of the job."""
    paths = account_paths(place / "root", ACCOUNT)
    paths.inbox.mkdir(parents=True)
    for path in (paths.lock, paths.keys):
        path.write_bytes(b"keys")
    for folder in ("backup", "staging", "objects", "scratch"):
        (place / folder).mkdir()
    database = open_connection(paths.mail_db, KEY)
    database.write(0, lambda txn: txn.run("CREATE TABLE t(id INTEGER PRIMARY KEY, x BLOB)"))
    database.write(0, lambda txn: txn.run("CREATE TABLE n(number INTEGER)"))
    database.write(0, lambda txn: txn.run("INSERT INTO n VALUES(0)"))
    with exclusive_lock(paths):
        close_all([database])


def advance(txn: Txn) -> int:
    """The next transaction."""
    number = int(txn.value("SELECT number FROM n")) + 1
    for row, size in step(number).items():
        txn.run("DELETE FROM t WHERE id=?", (row,))
        if size is not None:
            txn.run("INSERT INTO t VALUES(?, ?)", (row, content(number, row, size)))
    txn.run("UPDATE n SET number=?", (number,))
    return number


def write(place: Path, seed: int) -> None:
    """Commit, checkpoint, read for a while, close and open again, at random."""
    chance = random.Random(seed)
    engine.CHECKPOINT_PATIENCE_MS = 20  # disturbed checkpoints shall be many, not long
    paths = account_paths(place / "root", ACCOUNT)
    database, reader = (open_connection(paths.mail_db, KEY) for _ in range(2))
    until = time.monotonic() + LIFE_S
    while time.monotonic() < until:
        match chance.randrange(20):
            case 0 | 1 | 2:
                _checkpoint(database, chance)
            case 3:
                reader.read(0, _look_long, database, chance)
            case 4:
                try:
                    with exclusive_lock(paths, 1.0):
                        close_all([reader, database])
                except Busy:
                    continue
                database, reader = (open_connection(paths.mail_db, KEY) for _ in range(2))
            case _:
                database.write(0, advance)
        time.sleep(chance.choice((0, 0, 0.001, 0.01)))


def _checkpoint(database: Database, chance: random.Random) -> None:
    try:
        with exclusive_lock(account_paths(Path(sys.argv[2]) / "root", ACCOUNT), chance.choice((0.0, 0.05))):
            database.checkpoint()
    except Busy:
        return


def _look_long(txn: Txn, database: Database, chance: random.Random) -> None:
    """A reader that is in the way of checkpoints."""
    txn.value("SELECT count(*) FROM t")
    database.write(0, advance)
    _checkpoint(database, chance)


def job(place: Path, seed: int) -> None:
    """Take snapshots, merge some, store them, at random."""
    chance = random.Random(seed)
    private = load_private_key((place / "private").read_bytes())
    state = State(place / "backup", SERVER_KEY)
    store = FileStore(place / "objects")
    snapshotter = Snapshotter(
        place / "root", state, place / "staging", private.public, Signer(bytes(32)), LIMITS
    )
    snapshotter.clean()
    until = time.monotonic() + LIFE_S
    while time.monotonic() < until:
        try:
            snapshotter.take(ACCOUNT, merge=chance.random() < 0.2)
        except Busy:
            continue
        if chance.random() < 0.7:
            for segment in state.waiting():
                _put(store, place, segment.name, segment.sha256)
                state.stored(segment.name)
                (place / "staging" / staged_name(segment.name)).unlink()
        time.sleep(chance.choice((0, 0.002, 0.02)))


def second(_place: Path, _seed: int) -> None:
    """Has a database open and does what each line says, a word and a place; answers with a line."""
    database: Database | None = None
    for line in sys.stdin:
        what, place = line.split()
        paths = account_paths(Path(place) / "root", ACCOUNT)
        if database is None:
            database = open_connection(paths.mail_db, KEY)
        match what:
            case "write":
                database.write(0, lambda txn: txn.run("INSERT INTO t(x) VALUES(randomblob(5000))"))
            case "checkpoint":
                with exclusive_lock(paths):
                    database.checkpoint()
            case "close":
                with exclusive_lock(paths):
                    close_all([database])
                database = None
        print(digest(database) if database is not None else "closed", flush=True)


def digest(database: Database) -> str:
    """What tells one state of the whole database from another."""
    rows = database.read(0, lambda txn: txn.rows("SELECT id, x FROM t UNION ALL SELECT -1, number FROM n"))
    return hashlib.sha256(repr(sorted(rows)).encode()).hexdigest()


def _put(store: FileStore, place: Path, name: SegmentName, sha256: bytes) -> None:
    try:
        store.put(str(name), place / "staging" / staged_name(name), sha256)
    except ObjectExists:
        return  # killed behind the put


if __name__ == "__main__":
    {"writer": write, "job": job, "second": second}[sys.argv[1]](Path(sys.argv[2]), int(sys.argv[3]))
