"""An export into one SQLite file: everything is in it, and any SQLite, or the sqlcipher shell, opens it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from sqlcipher3 import dbapi2 as sqlcipher
from transfer_world import ALL_FLAGS, NONE, TransferWorld, difficult_mail

from mailstore.model import Flags, SystemFlag
from mailstore.ops import messages
from mailstore.transfer import sqlite_target
from mailstore.transfer.sqlite_target import SqliteTarget
from mailstore.transfer.target import TargetUnusable
from mailstore.uidset import UidSet

NAMES = {"\\Seen": 1, "\\Answered": 2, "\\Flagged": 4, "\\Deleted": 8, "\\Draft": 16}


def take_out(world: TransferWorld, path: Path, passphrase: str | None = None, **more):
    """Export, and close the file as the command does."""
    with closing(SqliteTarget(path, passphrase)) as target:
        return world.take_out(more.pop("name", "ada"), target, **more)


def contents(path: Path, passphrase: str | None = None):
    """What the file holds, in the form of ``TransferWorld.contents``, and the subscriptions."""
    with closing((sqlite3 if passphrase is None else sqlcipher).connect(path)) as database:
        if passphrase is not None:
            quoted = passphrase.replace("'", "''")
            database.execute(f"PRAGMA key='{quoted}'")
        found = {name: [] for (name,) in database.execute("SELECT name FROM mailbox WHERE complete")}
        for name, data, flags, keywords, date in database.execute(
            "SELECT b.name, m.data, m.flags, m.keywords, m.internal_date FROM message AS m"
            " JOIN mailbox AS b ON b.id = m.mailbox_id ORDER BY b.id, m.uid"
        ):
            system = SystemFlag(sum(NAMES[one] for one in flags.split()))
            found[name].append((bytes(data), Flags(system, tuple(keywords.split())), date))
        return found, {name for (name,) in database.execute("SELECT name FROM subscription")}


@pytest.mark.parametrize("passphrase", [None, 'it\'s a secret; "ü"'])
def test_everything_is_in_the_file(
    world: TransferWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, passphrase: str | None
) -> None:
    """Bytes, flags, keywords, dates, order, names and subscriptions; only its owner can read it."""
    monkeypatch.setattr(sqlite_target, "BATCH_BYTES", 50)
    world.fill("ada", difficult_mail())
    path = tmp_path / "out.db"
    done = take_out(world, path, passphrase)
    assert done.written == done.messages == sum(map(len, world.contents("ada").values()))
    assert contents(path, passphrase) == (world.contents("ada"), world.subscriptions("ada"))
    assert [one.name for one in tmp_path.iterdir() if one.name.startswith("out")] == ["out.db"]
    assert path.stat().st_mode & 0o777 == 0o600
    assert (path.read_bytes()[:15] == b"SQLite format 3") == (passphrase is None)


def test_a_file_is_brought_up_to_date(world: TransferWorld, tmp_path: Path) -> None:
    """Only what is new is written; what was expunged or deleted goes."""
    three = [(b"Subject: %d\r\n\r\n" % at, NONE, at) for at in range(3)]
    world.fill("ada", {"A": three, "B": three, "Gone": three})
    path = tmp_path / "out.db"
    take_out(world, path)
    with pytest.raises(TargetUnusable):
        take_out(world, path)
    with pytest.raises(TargetUnusable):
        take_out(world, path, name="bob", update=True)
    assert contents(path)[0] == world.contents("ada")

    def change(txn) -> None:
        ids = dict(txn.rows("SELECT name, id FROM mailbox"))
        messages.expunge_unconditionally(txn, ids["B"], UidSet.of([1]))
        txn.run("UPDATE placed SET flags = 5 WHERE mailbox_id = ? AND uid = 2", (ids["B"],))
        messages.remove_all(txn, ids["Gone"])
        txn.run("DELETE FROM mailbox WHERE name = 'Gone'")

    with world.opened("ada") as account:
        account.database.write(0, change)
    world.fill("ada", {"B": [(b"new", ALL_FLAGS, 9)]})
    done = take_out(world, path, update=True)
    assert (done.written, done.messages) == (1, 6)
    assert contents(path) == (world.contents("ada"), world.subscriptions("ada"))


def test_a_restored_account_is_written_anew(world: TransferWorld, tmp_path: Path) -> None:
    """Its UIDs may mean other messages than those in the file."""
    world.fill("ada", {"A": [(b"Subject: a\r\n\r\n", NONE, 0)]})
    path = tmp_path / "out.db"
    take_out(world, path)

    def restored(txn) -> None:
        txn.run("UPDATE mailbox SET uid_validity = uid_validity + 1000")
        messages.remove_all(txn, txn.value("SELECT id FROM mailbox WHERE name = 'A'"))
        txn.run("UPDATE mailbox SET uid_next = 1")

    with world.opened("ada") as account:
        account.database.write(0, restored)
    world.fill("ada", {"A": [(b"Subject: b\r\n\r\n", NONE, 0)]})
    take_out(world, path, update=True)
    assert contents(path)[0] == world.contents("ada")


def test_a_file_that_was_not_finished_has_another_name(world: TransferWorld, tmp_path: Path) -> None:
    """And is gone on with; a mailbox that was not whole is not counted."""
    world.fill("ada", {"A": [(b"a", NONE, 0)], "B": [(b"b", NONE, 0)]})
    path = tmp_path / "out.db"

    class Dying(SqliteTarget):
        def mailbox(self, leaving):
            if leaving.name == "B":
                raise KeyboardInterrupt
            return super().mailbox(leaving)

    with pytest.raises(KeyboardInterrupt), closing(Dying(path)) as target:
        world.take_out("ada", target)
    assert not path.exists()
    assert "A" in contents(tmp_path / "out.db.partial")[0]
    assert take_out(world, path).written == 1
    assert contents(path)[0] == world.contents("ada")


@pytest.mark.parametrize("where", ["out.db", "out.db.partial"])
def test_what_is_something_else_stays(world: TransferWorld, tmp_path: Path, where: str) -> None:
    """Another database, a file of something else, a folder, a link, a file with another passphrase."""
    path = tmp_path / where

    def other_database() -> None:
        with closing(sqlite3.connect(path)) as database:
            database.execute("CREATE TABLE export(precious)")

    makers = (
        other_database,
        lambda: path.write_bytes(b"precious" * 1000),
        path.mkdir,
        lambda: path.symlink_to(tmp_path / "nowhere"),
    )
    for make in makers:
        make()
        before = path.read_bytes() if path.is_file() else None
        with pytest.raises(TargetUnusable):
            take_out(world, tmp_path / "out.db", update=True)
        assert before == (path.read_bytes() if path.is_file() else None)
        path.rmdir() if path.is_dir() else path.unlink()
    assert not (tmp_path / "nowhere").exists()
    take_out(world, tmp_path / "other.db", "one")
    with pytest.raises(TargetUnusable):
        take_out(world, tmp_path / "other.db", "two", update=True)
    take_out(world, tmp_path / "other.db", "one", update=True)
