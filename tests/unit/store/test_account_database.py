"""No checkpoint without the account's lock, however a connection comes to its end."""

from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from store_world import World, make_database, now

from mailstore import account_database as owner
from mailstore.account import AccountPaths, exclusive_lock, shared_lock
from mailstore.databases import UNCLOSED_RETRY_S
from mailstore.engine import DatabaseKey, Txn, close_all
from mailstore.errors import Busy, StorageFailed, StorageFull, TooNew
from mailstore.locks import locked
from mailstore.model import NewMessage
from mailstore.schema import SCHEMA_VERSION

KEY = DatabaseKey(bytes(32), bytes(16))
WRONG = DatabaseKey(bytes([1]) * 32, bytes(16))

ENDS_WITH_AN_OPEN_DATABASE = """
import sys
from pathlib import Path
from mailstore.account import AccountPaths
from mailstore.account_database import open_database
from mailstore.engine import DatabaseKey

folder, key, salt, change = sys.argv[1:]
key = DatabaseKey(bytes.fromhex(key), bytes.fromhex(salt))
database = open_database(AccountPaths(Path(folder)), key, give_up=print)
database.write(0, lambda txn: txn.run(change))
"""


IS_OPEN = """
import sys
from pathlib import Path
from mailstore.account import AccountPaths
from mailstore.eviction import _is_open

sys.exit(not _is_open(AccountPaths(Path(sys.argv[1]))))
"""


def change_and_end(paths: AccountPaths, key: DatabaseKey, change: str) -> None:
    """Have another process make a change and end without closing the database."""
    arguments = (str(paths.folder), key.key.hex(), key.salt.hex(), change)
    subprocess.run([sys.executable, "-c", ENDS_WITH_AN_OPEN_DATABASE, *arguments], check=True, timeout=60)


@pytest.fixture
def paths(tmp_path: Path) -> AccountPaths:
    """An account's folder with a small database and an empty log."""
    made = AccountPaths(tmp_path)
    make_database(made, KEY)
    with owner.account_database(made, KEY) as database:
        database.write(0, lambda txn: txn.run("CREATE TABLE t(x)"))
    assert not made.wal.exists()
    return made


@pytest.fixture(autouse=True)
def nothing_kept() -> Iterator[None]:
    """What a test could not close is closed after it."""
    yield
    assert owner.close_kept()


def insert(txn: Txn) -> None:
    """A change."""
    txn.run("INSERT INTO t VALUES(1)")


def rows(paths: AccountPaths) -> int:
    """How many changes there are."""
    with owner.account_database(paths, KEY) as database:
        return int(database.read(0, lambda txn: txn.value("SELECT count(*) FROM t")))


def test_a_connection_that_is_forgotten_is_not_checkpointed(paths: AccountPaths) -> None:
    """The garbage collector closes nothing."""
    main = paths.mail_db.read_bytes()
    database = owner.open_database(paths, KEY, give_up=print)
    database.write(0, insert)
    forgotten = [database._connection]
    del database
    gc.collect()
    assert paths.mail_db.read_bytes() == main and paths.wal.stat().st_size > 0
    forgotten.pop()
    gc.collect()
    assert paths.mail_db.read_bytes() == main and paths.wal.stat().st_size > 0
    assert rows(paths) == 1


@pytest.mark.parametrize("lock", ["none", "shared", "let go", "another account's"])
@pytest.mark.parametrize("how", ["checkpoint", "close", "close_all"])
def test_no_checkpoint_without_the_lock(paths: AccountPaths, tmp_path: Path, lock: str, how: str) -> None:
    """Whoever has a connection in hand: it is refused before anything is written."""
    main = paths.mail_db.read_bytes()
    database = owner.open_database(paths, KEY, give_up=print)
    database.write(0, insert)
    (tmp_path / "other").mkdir()
    with exclusive_lock(paths) as let_go:
        pass
    with shared_lock(paths) as shared, exclusive_lock(AccountPaths(tmp_path / "other")) as another:
        held = {"none": None, "shared": shared, "let go": let_go, "another account's": another}[lock]
        with pytest.raises(RuntimeError):
            if how == "close_all":
                close_all([database], held)
            else:
                getattr(database, how)(held)
    assert paths.mail_db.read_bytes() == main and paths.wal.stat().st_size > 0
    assert not database.closed
    assert owner.close_databases(paths, [database])
    assert rows(paths) == 1


def test_a_process_that_ends_with_an_open_database_leaves_its_log(paths: AccountPaths) -> None:
    """A snapshot may be copying it; nothing that was committed is lost."""
    main = paths.mail_db.read_bytes()
    with shared_lock(paths):
        change_and_end(paths, KEY, "INSERT INTO t VALUES(1)")
        assert paths.mail_db.read_bytes() == main and paths.wal.stat().st_size > 0
    assert rows(paths) == 1


def test_a_database_is_not_made_while_a_snapshot_is_copied(tmp_path: Path) -> None:
    """Making one writes the main file directly, and a snapshot would have half of it."""
    paths = AccountPaths(tmp_path)
    with shared_lock(paths), pytest.raises(Busy):
        owner.open_database(paths, KEY, give_up=print, wait_s=0.0, may_create=True)
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]
    make_database(paths, KEY)
    with owner.account_database(paths, KEY) as database:
        database.write(0, lambda txn: txn.run("CREATE TABLE t(x)"))
    assert rows(paths) == 0


def test_what_cannot_be_closed_now_is_closed_later(paths: AccountPaths) -> None:
    """The work is done all the same; the log waits until the lock is free."""
    main = paths.mail_db.read_bytes()
    with shared_lock(paths):
        with owner.account_database(paths, KEY, wait_s=0.0) as database:
            database.write(0, insert)
        del database
        gc.collect()
        assert not owner.close_kept()
        assert paths.mail_db.read_bytes() == main and paths.wal.stat().st_size > 0
    assert owner.close_kept()
    assert not paths.wal.exists()
    assert rows(paths) == 1


def test_a_database_that_does_not_open_is_not_checkpointed_either(paths: AccountPaths) -> None:
    """Another key: the connection ends without the lock being free."""
    change_and_end(paths, KEY, "INSERT INTO t VALUES(1)")
    main, log = paths.mail_db.read_bytes(), paths.wal.read_bytes()
    with shared_lock(paths):
        with pytest.raises(StorageFailed), owner.account_database(paths, WRONG, wait_s=0.0):
            pytest.fail("it opened")
        gc.collect()
        assert (paths.mail_db.read_bytes(), paths.wal.read_bytes()) == (main, log)
    assert owner.close_kept()
    assert rows(paths) == 1


def test_a_database_that_does_not_open_is_closed_at_once(paths: AccountPaths) -> None:
    """Not while the lock is held under which it was opened: that would be in its own way."""
    with pytest.raises(StorageFailed), owner.account_database(paths, WRONG, wait_s=0.0):
        pytest.fail("it opened")
    assert owner._kept == []


def test_what_a_full_disk_kept_open_is_closed_when_there_is_room(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise its log would stay for as long as the process runs, and its files be open."""
    account = world.login()
    now(account.append("INBOX", [NewMessage(b"Subject: x\r\n\r\n")]))
    account.release_at_once()
    with monkeypatch.context() as full:
        full.setattr(owner, "close_all", _no_room)
        world.clock.advance(0)
        assert world.paths.wal.stat().st_size > 0
        world.clock.advance(UNCLOSED_RETRY_S + 1)
    assert world.paths.wal.stat().st_size > 0
    world.clock.advance(UNCLOSED_RETRY_S + 1)
    assert not world.paths.wal.exists()


def _no_room(*_: object) -> None:
    raise StorageFull


@pytest.mark.parametrize("database", ["there", "made"])
def test_an_open_database_is_seen_from_its_first_moment(paths: AccountPaths, database: str) -> None:
    """A restore looks for it in the next one, under the lock under which it was opened."""
    if database == "made":
        paths.mail_db.unlink()

    def look() -> bool:
        command = [sys.executable, "-c", IS_OPEN, str(paths.folder)]
        return subprocess.run(command, check=False, timeout=60).returncode == 0

    assert not look()
    opened = owner.open_database(paths, KEY, give_up=print, may_create=True)
    assert look()
    assert owner.close_databases(paths, [opened])
    assert not look()


def test_an_account_being_restored_is_not_opened(paths: AccountPaths) -> None:
    """By no command either: what it would write would go away with what is replaced."""
    refused = pytest.raises(Busy, match="being restored")
    with locked(paths.leave, exclusive=True), refused, owner.account_database(paths, KEY):
        pytest.fail("it opened")
    assert rows(paths) == 0


def test_a_reader_waits_for_nobody_who_has_the_lock(world: World) -> None:
    """The writer's connection keeps restores away from all others of its process."""
    account = world.login()
    with exclusive_lock(world.paths):
        assert now(account.status("INBOX")).messages == 0
    account.release()


def test_an_account_of_a_newer_program_is_left_alone_while_a_snapshot_is_copied(world: World) -> None:
    """The login is refused for its reason, at once; the connection is closed when the lock is free."""
    account = world.login()
    now(account.append("Drafts", [NewMessage(b"Subject: x\r\n\r\n")]))
    key = world.store._open[account.account_id]._rest._databases.connections.key()
    account.release_at_once()
    world.clock.advance(0)
    with owner.account_database(world.paths, key) as database:
        database.pragma(f"PRAGMA user_version={SCHEMA_VERSION + 1}")
    change_and_end(world.paths, key, "UPDATE mailbox SET name=name")
    world.store.limits = replace(world.store.limits, checkpoint_lock_wait_s=0.0)
    main = world.paths.mail_db.read_bytes()
    with shared_lock(world.paths):
        with pytest.raises(TooNew):
            world.login()
        gc.collect()
        assert world.paths.mail_db.read_bytes() == main and world.paths.wal.stat().st_size > 0
    world.clock.advance(UNCLOSED_RETRY_S + 1)
    assert not world.paths.wal.exists()
