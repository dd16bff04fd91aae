"""The embedded directory: one file that nobody else may read, its versions, several processes at once."""

import multiprocessing
import os
import stat
from pathlib import Path

import pytest
from directory_worlds import ANN, JOE, record

from mailstore import locks, room
from mailstore.account import init_root, open_directory, read_server_key
from mailstore.directory import AccountRecord, Doors, Node, embedded
from mailstore.directory.embedded import embedded_directory
from mailstore.engine import DatabaseKey, close_all, open_connection
from mailstore.errors import AccountExists, NotInitialised, ServerKeyLost, StorageFailed, TooNew
from mailstore.keys import PublicKey, ServerKeyLabel, derive
from mailstore.model import Pop3Settings


@pytest.fixture
def root(tmp_path):
    """An empty data root."""
    init_root(tmp_path)
    return tmp_path


@pytest.fixture
def directory(root):
    """A directory with one account."""
    directory = open_directory(root)
    directory.add_account(record())
    yield directory
    directory.close()


def test_nothing_readable_on_disk(directory, root):
    """No file of the root shows an address, and nobody else may read any."""
    for path in root.rglob("*"):
        if path.is_file():
            assert b"joe" not in path.read_bytes()
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path.name
        else:
            assert stat.S_IMODE(path.stat().st_mode) == 0o700, path.name


def test_wrong_server_key(directory, root):
    """Another key does not open the directory, and does not damage it."""
    with pytest.raises(StorageFailed):
        embedded_directory(root, bytes(32))
    assert directory.login("joe") is not None


def test_lost_server_key(root):
    """A missing key is not replaced beside an existing directory; a malformed one is refused."""
    (root / "server.key").rename(root / "elsewhere")
    with pytest.raises(StorageFailed):
        init_root(root)
    with pytest.raises(ServerKeyLost):
        open_directory(root)
    (root / "elsewhere").rename(root / "server.key")
    (root / "directory.db").rename(root / "elsewhere")
    with pytest.raises(NotInitialised):
        open_directory(root)
    (root / "server.key").write_bytes(b"short\n")
    with pytest.raises(StorageFailed):
        read_server_key(root)


def test_init_root_twice(root):
    """Initialising again keeps key and directory."""
    key = read_server_key(root)
    init_root(root)
    assert read_server_key(root) == key
    assert not list(root.glob(".*"))


def test_newer_directory(root):
    """A directory of a newer program is left alone."""
    directory = open_directory(root)
    directory._write(lambda txn: txn.run("PRAGMA user_version = 99"))
    directory.close()
    with pytest.raises(TooNew):
        open_directory(root)


VERSION_1 = """
CREATE TABLE setting (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE domain (name TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;
CREATE TABLE account (
    id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, public_key BLOB NOT NULL,
    header_generation INTEGER NOT NULL, quota_bytes INTEGER, created INTEGER NOT NULL,
    disabled INTEGER NOT NULL DEFAULT 0) STRICT, WITHOUT ROWID;
CREATE TABLE address (
    name TEXT PRIMARY KEY, domain TEXT NOT NULL REFERENCES domain(name),
    account_id TEXT NOT NULL REFERENCES account(id) ON DELETE CASCADE) STRICT, WITHOUT ROWID;
CREATE INDEX address_domain ON address(domain);
CREATE INDEX address_account ON address(account_id);
INSERT INTO domain VALUES('example.org');
INSERT INTO account VALUES('aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 'joe@example.org', x'0102', 3, 1000, 5, 1);
INSERT INTO account VALUES('bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb', 'ann@example.org', x'03', 1, NULL, 6, 0);
INSERT INTO address VALUES('joe@example.org', 'example.org', 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa');
INSERT INTO address VALUES('ann@example.org', 'example.org', 'bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb');
PRAGMA user_version = 1
"""


@pytest.fixture
def version_1(tmp_path):
    """The file of a directory as version 1 left it, and its server's key."""
    key = os.urandom(32)
    salted = DatabaseKey(
        derive(key, ServerKeyLabel.DIRECTORY, 32), derive(key, ServerKeyLabel.DIRECTORY_SALT, 16)
    )
    database = open_connection(tmp_path / "directory.db", salted)
    database.write(0, lambda txn: [txn.run(statement) for statement in VERSION_1.split(";")])
    close_all([database])
    return tmp_path, key


def test_a_directory_of_version_1_is_migrated(version_1):
    """All that was there is there; everybody uses POP3 as before, until it is set otherwise."""
    directory = embedded_directory(*version_1)
    assert directory.accounts() == [
        AccountRecord(ANN, "ann@example.org", PublicKey(b"\x03"), 1, None, 6, False),
        AccountRecord(JOE, "joe@example.org", PublicKey(b"\x01\x02"), 3, 1000, 5, True),
    ]
    assert directory.resolve("joe@example.org").account_id == JOE
    assert directory.account(JOE).pop3 == Pop3Settings()
    directory.set_pop3(JOE, Pop3Settings("Lists", True, True, 60))
    directory.close()
    directory = embedded_directory(*version_1)
    assert directory.login("joe@example.org").pop3 == Pop3Settings("Lists", True, True, 60)
    assert directory.account(ANN).pop3 == Pop3Settings()
    directory.close()


def test_a_directory_of_version_2_is_migrated(version_1, monkeypatch):
    """Nobody is limited by a domain until an operator says so."""
    monkeypatch.setattr(embedded, "MIGRATIONS", embedded.MIGRATIONS[:2])
    monkeypatch.setattr(embedded, "SCHEMA_VERSION", 2)
    with pytest.raises(StorageFailed):
        embedded_directory(*version_1).accounts()  # there is no such column yet
    monkeypatch.undo()
    directory = embedded_directory(*version_1)
    assert directory.account(ANN).limit_bytes(None) is None
    assert directory.account(JOE).limit_bytes(None) == 1000
    assert directory.domain_limits() == {}
    directory.limit_domain("example.org", quota_bytes=70)
    assert directory.account(ANN).limit_bytes(None) == 70
    directory.close()


def test_a_directory_of_version_4_is_migrated(version_1, monkeypatch):
    """Its nodes have no doors for a proxy yet."""
    monkeypatch.setattr(embedded, "MIGRATIONS", embedded.MIGRATIONS[:4])
    monkeypatch.setattr(embedded, "SCHEMA_VERSION", 4)
    directory = embedded_directory(*version_1)
    directory._write(lambda txn: txn.run("INSERT INTO node VALUES ('a', '192.0.2.1:24')"))
    directory.close()
    monkeypatch.undo()
    directory = embedded_directory(*version_1)
    assert directory.nodes() == [Node("a", "192.0.2.1:24")]
    directory.put_node(Node("a", "192.0.2.1:24", Doors(imap="192.0.2.1:1143")))
    assert directory.nodes() == [Node("a", "192.0.2.1:24", Doors("192.0.2.1:1143"))]
    directory.close()


def test_a_migration_that_fails_leaves_version_1(version_1, monkeypatch):
    """It is one transaction: the next start does all of it."""
    monkeypatch.setattr(
        embedded, "MIGRATIONS", (VERSION_1, embedded.MIGRATIONS[1] + "CREATE TABLE broken ()")
    )
    with pytest.raises(StorageFailed):
        embedded_directory(*version_1)
    monkeypatch.undo()
    directory = embedded_directory(*version_1)
    assert [one.name for one in directory.accounts()] == ["ann@example.org", "joe@example.org"]
    directory.close()


@pytest.mark.parametrize("found", ["at once", "when it is to be migrated"])
def test_a_directory_of_a_newer_version_is_closed_again(version_1, monkeypatch, found):
    """Whoever is refused it holds neither the file nor a connection that knows the key."""
    if found == "at once":
        monkeypatch.setattr(embedded, "SCHEMA_VERSION", 0)
    else:
        monkeypatch.setattr(embedded, "_migrate", _refuse)  # another process has migrated it further
    with pytest.raises(TooNew):
        embedded_directory(*version_1)
    open_files = [os.readlink(one) for one in Path("/proc/self/fd").iterdir() if one.is_symlink()]
    assert not [name for name in open_files if name.startswith(str(version_1[0]))]


def _refuse(_txn):
    raise TooNew


def _add_aliases(root, first, count):
    init_root(root)
    directory = open_directory(root)
    directory.add_domain("example.org")
    if directory.account(JOE) is None:
        try:
            directory.add_account(record())
        except AccountExists:
            pass  # The other process was faster.
    for number in range(first, first + count):
        directory.add_alias(f"alias{number}@example.org", JOE)
    directory.close()


def test_processes_racing_from_the_first_start(tmp_path):
    """Several processes may create and fill one root at once: one server key, no lost change."""
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_add_aliases, args=(tmp_path / "root", 100 * n, 20)) for n in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(30)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    directory = open_directory(tmp_path / "root")
    assert len(directory.aliases()) == 60
    directory.close()


def test_a_change_is_announced_when_others_can_see_it(directory, root, monkeypatch):
    """Who hears of it looks at once, so the sign (the lock is closed) comes behind the commit."""
    other = open_directory(root)
    closed, seen = os.close, []

    def close(descriptor):
        if not seen and os.readlink(f"/proc/self/fd/{descriptor}").endswith("/write.lock"):
            seen.append(other.account(JOE).disabled)
        closed(descriptor)

    monkeypatch.setattr(locks.os, "close", close)
    directory.set_disabled(JOE, True)
    monkeypatch.undo()
    other.close()
    assert seen == [True]


def test_an_account_can_be_disabled_when_the_disk_is_nearly_full(directory, monkeypatch):
    """Its log is written over from the start, so no room is asked for that mail databases keep free."""
    monkeypatch.setattr(room, "free_bytes", lambda _folder: 0)
    directory.set_disabled(JOE, True)
    assert directory.account(JOE).disabled
