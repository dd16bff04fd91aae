"""A database that is written anew has the same in it, in less space, and takes the old one's place whole."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from transfer_world import NONE, PASSWORD, SEEN, TINY, TransferWorld

from mailstore import integrity, rewriting
from mailstore.account import account_paths, open_directory
from mailstore.account_database import account_database, owners_mail_key
from mailstore.errors import Busy, DatabaseDamaged, NoSuchAccount, StorageFailed
from mailstore.ops import metadata
from mailstore.ops.contents import contents
from mailstore.rewriting import NoRoomToRewrite, vacuum_account

BODY = b"Subject: %d\r\n\r\n" + b"".join(b"line %d of some text\r\n" % at for at in range(3000))
FEW = metadata.AnnotationLimits(max_entries=100, max_bytes=1000, quota_bytes=None)


@pytest.fixture
def world(tmp_path: Path) -> TransferWorld:
    """Ada has had much more mail than she has."""
    world = TransferWorld(tmp_path / "data")
    mail = [(BODY % at + os.urandom(40_000).hex().encode(), SEEN if at % 2 else NONE, at) for at in range(30)]
    world.fill("ada", {"INBOX": mail, "A/B": mail[:3]})
    with world.opened("ada") as account:
        account.database.write(0, metadata.set_values, None, {"/private/comment": b"one"}, FEW)
        account.database.write(0, metadata.set_values, None, {"/shared/comment": b"two"}, FEW)
        account.database.write(0, metadata.set_values, None, {"/private/comment": b"three"}, FEW)
        account.database.write(
            0,
            lambda txn: (
                txn.run("DELETE FROM placed WHERE uid > 5"),
                txn.run("DELETE FROM message WHERE id NOT IN (SELECT message_id FROM placed)"),
                txn.run("DELETE FROM content WHERE id >> 16 NOT IN (SELECT id FROM message)"),
            ),
        )
    return world


def paths_of(world: TransferWorld):
    """Ada's files, and the key of her database."""
    directory = open_directory(world.root)
    try:
        record = directory.login("ada@example.org")
        assert record is not None
        key = owners_mail_key(world.root, directory, record, PASSWORD, TINY)
        return account_paths(world.root, record.account_id), key
    finally:
        directory.close()


def vacuumed(world: TransferWorld, secret: bytes = PASSWORD, patience_s: float = 0.0):
    """As the command does it."""
    directory = open_directory(world.root)
    try:
        record = directory.login("ada@example.org")
        assert record is not None
        return vacuum_account(world.root, directory, record, secret, TINY, patience_s)
    finally:
        directory.close()


def everything(world: TransferWorld):
    """What is in the database."""
    with world.opened("ada") as account:
        return account.database.read(0, contents), world.contents("ada")


def test_all_is_there_and_the_free_pages_are_gone(world: TransferWorld) -> None:
    """Numbers of rows too, which annotations use as their versions."""
    before = everything(world)
    done = vacuumed(world)
    paths, key = paths_of(world)
    assert done.after_bytes * 2 < done.before_bytes
    assert paths.mail_db.stat().st_size == done.after_bytes
    assert paths.mail_db.stat().st_mode & 0o777 == 0o600
    assert everything(world) == before
    with account_database(paths, key) as database:
        assert database.pragma("PRAGMA freelist_count") == [(0,)]
    assert not list(paths.folder.glob("mail.db-*"))
    assert not paths.leave.exists()


def test_the_checksums_tell_any_change(world: TransferWorld) -> None:
    """A value, its type, its row's number, a row, a table, the version."""
    changes = [
        "UPDATE mailbox SET uid_next = uid_next + 1 WHERE id = 1",
        "UPDATE annotation SET value = CAST('one' AS BLOB) WHERE rowid = (SELECT max(rowid) FROM annotation)",
        "UPDATE annotation SET rowid = rowid + 100",
        "DELETE FROM content WHERE id = (SELECT max(id) FROM content)",
        "DELETE FROM placed WHERE uid = 1 AND mailbox_id = 1",
        "INSERT INTO subscription VALUES('x')",
        "CREATE TABLE more(x)",
        "DROP INDEX placed_deleted",
        "PRAGMA user_version = 99",
    ]
    for change in changes:
        with world.opened("ada") as account:
            before = account.database.read(0, contents)
            with pytest.raises(RuntimeError):
                account.database.write(0, _changed_and_undone, change, before)


def _changed_and_undone(txn, change, before):
    txn.run(change)
    assert contents(txn) != before, change
    raise RuntimeError("roll back")


def test_an_open_account_is_waited_for_and_then_left_alone(world: TransferWorld) -> None:
    """Another process has it open: sessions that do not end, or a long search."""
    paths, _ = paths_of(world)
    size = paths.mail_db.stat().st_size
    told, go_on = os.pipe(), os.pipe()
    pid = os.fork()
    if not pid:
        with world.opened("ada"):
            os.write(told[1], b"x")
            os.read(go_on[0], 1)
        os._exit(0)
    os.read(told[0], 1)
    try:
        with pytest.raises(Busy):
            vacuumed(world)
    finally:
        os.write(go_on[1], b"x")
        os.waitpid(pid, 0)
    assert paths.mail_db.stat().st_size == size
    assert not paths.leave.exists()


def test_no_room_is_refused_beforehand(world: TransferWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is begun, and it is said how much there has to be."""
    paths, _ = paths_of(world)
    size = paths.mail_db.stat().st_size
    monkeypatch.setattr(rewriting, "free_bytes", lambda _folder: size)
    monkeypatch.setattr(rewriting, "_copy", lambda *_: pytest.fail("a copy was begun"))
    with pytest.raises(NoRoomToRewrite) as refused:
        vacuumed(world)
    assert refused.value.needed_bytes > size


def test_a_damaged_database_stays_as_it_is(world: TransferWorld) -> None:
    """What is left might be taken for all."""
    paths, _ = paths_of(world)
    whole = bytearray(paths.mail_db.read_bytes())
    for page in range(20, len(whole) // 4096, 20):  # most are free, some hold ends of messages
        whole[page * 4096 + 100] ^= 1
    paths.mail_db.write_bytes(whole)
    with pytest.raises(DatabaseDamaged):
        vacuumed(world)
    assert paths.mail_db.read_bytes() == whole
    assert not paths.rewritten.exists()


def test_a_copy_that_is_another_is_thrown_away(world: TransferWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old database stays."""
    before = everything(world)
    paths, _ = paths_of(world)
    inode = paths.mail_db.stat().st_ino
    seen = []

    def other_each_time(txn):
        seen.append(txn)
        return len(seen)

    monkeypatch.setattr(integrity, "contents", other_each_time)
    with pytest.raises(StorageFailed):
        vacuumed(world)
    assert not list(paths.folder.glob("mail.db-new*"))
    assert paths.mail_db.stat().st_ino == inode
    assert everything(world) == before


@pytest.mark.parametrize("name", ["mail.db-wal", "mail.db-new-wal"])
def test_a_log_that_was_not_copied_back_stops_it(
    world: TransferWorld, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The old one holds changes that the copy's place would lose, the new one a part of the copy."""
    paths, _ = paths_of(world)
    inode = paths.mail_db.stat().st_ino
    copy = rewriting._copy

    def leaving_a_log(*arguments) -> None:
        copy(*arguments)
        (paths.folder / name).write_bytes(b"x")

    monkeypatch.setattr(rewriting, "_copy", leaving_a_log)
    with pytest.raises(StorageFailed, match="not copied back"):
        vacuumed(world)
    assert paths.mail_db.stat().st_ino == inode
    assert not paths.rewritten.exists()


def test_the_old_file_is_overwritten_unless_it_has_another_name(world: TransferWorld) -> None:
    """Deleted mail leaves the disk; what somebody has linked is theirs."""
    paths, _ = paths_of(world)
    with paths.mail_db.open("rb") as old:
        vacuumed(world)
        assert not any(old.read())
    other = paths.folder / "linked"
    other.hardlink_to(paths.mail_db)
    before = other.read_bytes()
    vacuumed(world)
    assert other.read_bytes() == before


def test_what_an_interrupted_run_has_left_goes_with_the_next_opening(world: TransferWorld) -> None:
    """It is a copy of the mail, of which none may stay when mail is deleted."""
    paths, _ = paths_of(world)
    for ending in ("", "-wal", "-journal"):
        paths.rewritten.with_name(f"mail.db-new{ending}").write_bytes(b"x")
    with world.opened("ada"):
        assert not list(paths.folder.glob("mail.db-new*"))


def test_an_account_without_a_database_is_refused(tmp_path: Path) -> None:
    """Nobody has logged in yet."""
    with pytest.raises(NoSuchAccount):
        vacuumed(TransferWorld(tmp_path / "data"))
