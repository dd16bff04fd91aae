"""`sealbox backup` and `sealbox restore` as the operator meets them."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from commands_world import CommandsWorld
from store_world import NAME, PASSWORD, World, now

from mailstore.room import ROOM_TO_OPEN_BYTES

EXIT_REFUSED = 3
EXIT_BUSY = 5
EXIT_STORAGE = 6


@pytest.fixture
def world(tmp_path: Path) -> CommandsWorld:
    """One account, and no server has run."""
    return CommandsWorld(tmp_path)


def test_the_first_run_needs_no_server(world: CommandsWorld) -> None:
    """Nobody has made the folder backup/ yet; the command does."""
    world.objects.mkdir()
    assert world.answer("backup", "run")["stored"]
    assert world.answer("backup", "status")["accounts"][0]["points"] == 1


def test_a_folder_that_is_not_there_is_named_with_the_next_step(world: CommandsWorld) -> None:
    """In what the run says, in what the status says, and the exit code says to try again."""
    failed = world.answer("backup", "run", codes=(EXIT_BUSY,))
    assert not failed["stored"]
    assert failed["trouble"] == (
        f"the folder for snapshots {world.objects} is not there: make it, or mount the disk it is on"
    )
    assert world.answer("backup", "status")["trouble"] == failed["trouble"]
    world.objects.mkdir()
    assert world.answer("backup", "run")["trouble"] is None


def test_an_empty_folder_where_the_store_was_is_named_with_the_next_step(world: CommandsWorld) -> None:
    """Also when nothing has changed since: nothing is stored there, whatever the last run said."""
    world.objects.mkdir()
    assert world.answer("backup", "run")["stored"]
    disk = world.objects.rename(world.objects.with_name("disk"))
    world.objects.mkdir()
    failed = world.answer("backup", "run", codes=(EXIT_BUSY,))
    assert not failed["stored"] and not list(world.objects.iterdir())
    assert failed["trouble"].startswith(f"file://{world.objects} does not hold what was stored there: mount")
    assert world.answer("backup", "status")["trouble"] == failed["trouble"]
    world.objects.rmdir()
    disk.rename(world.objects)
    assert world.answer("backup", "run")["trouble"] is None


def test_messages_of_a_mailbox_that_was_not_there_make_no_mailbox(world: CommandsWorld) -> None:
    """The answer says that there was none, and what to try; no empty mailbox is left behind."""
    world.objects.mkdir()
    assert world.answer("backup", "run")["stored"]
    code, _out, err = world.run(
        *("restore", NAME.decode(), "--messages", "Later", "--password-stdin"),
        stdin=f"{PASSWORD.decode()}\n",
    )
    assert code == EXIT_REFUSED and "there was no mailbox of that name then" in err
    mail = World(world.root)
    account = mail.login()
    names = [one.name for one in now(account.list_mailboxes()).mailboxes]
    account.release()
    mail.close()
    assert "INBOX" in names and not [name for name in names if name.startswith("Restored")]


@pytest.mark.parametrize("left", ["a database", "mail that waits"])
def test_an_account_that_lost_its_keys_is_not_replaced_unasked(world: CommandsWorld, left: str) -> None:
    """Its mail may be newer than any snapshot: the answer says what --replace does, and nothing happens."""
    world.objects.mkdir()
    assert world.answer("backup", "run")["stored"]
    mail = World(world.root)
    paths = mail.paths
    if left == "a database":
        mail.login().release()
    else:
        mail.deliver(b"Subject: waits\r\n\r\n")
    mail.close()
    paths.keys.unlink()
    before = {path: path.read_bytes() for path in paths.folder.rglob("*") if path.is_file()}
    (refused,) = world.answer("restore", NAME.decode(), codes=(EXIT_STORAGE,))["restored"]
    assert refused["trouble"].startswith("its key header is missing, but its mail is there: with --replace")
    assert {path: path.read_bytes() for path in paths.folder.rglob("*") if path.is_file()} == before
    (restored,) = world.answer("restore", NAME.decode(), "--replace")["restored"]
    assert restored["trouble"] is None and bool(restored["kept"]) == (left == "a database")
    assert paths.keys.exists() and len(list(paths.inbox.iterdir())) == (left == "mail that waits")


def test_a_data_root_that_is_none_is_said_to_be_none(world: CommandsWorld) -> None:
    """And nothing is made in it."""
    for path in world.root.iterdir():
        if path.is_file():
            path.unlink()
    code, _out, err = world.run("backup", "run")
    assert code != 0 and "check the disk" not in err
    assert not (world.root / "backup").exists()


def test_commands_that_only_read_need_no_room_to_write(
    world: CommandsWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The status is never needed more than when the disk is nearly full; when it is full that is said."""
    world.objects.mkdir()
    assert world.answer("backup", "run")["stored"]
    free = ROOM_TO_OPEN_BYTES
    volume = SimpleNamespace(f_blocks=1 << 30, f_bavail=free // 4096, f_frsize=4096)
    monkeypatch.setattr(os, "statvfs", lambda _path: volume)
    assert world.answer("backup", "status")["accounts"][0]["points"] == 1
    world.answer("backup", "verify")
    volume.f_bavail = 0
    code, _out, err = world.run("backup", "status")
    assert code == EXIT_STORAGE and "the disk is full: make room" in err and ", 0 KiB free)" in err
