"""`sealbox backup check`: whether a point in time is sound, by the owner's secret and without a change."""

from __future__ import annotations

from pathlib import Path

import pytest
from commands_world import CommandsWorld
from store_world import NAME, PASSWORD, World

from backup.segment import PAGE_BYTES
from mailstore.account import AccountPaths

EXIT_SECRET, EXIT_STORAGE = 4, 6
TYPED = PASSWORD.decode() + "\n"


@pytest.fixture
def world(tmp_path: Path) -> CommandsWorld:
    """An account with mail and a sound snapshot."""
    made = CommandsWorld(tmp_path)
    made.objects.mkdir()
    made.append("one")
    assert made.answer("backup", "run")["stored"]
    return made


def change_octet(world: CommandsWorld, page: int) -> None:
    """Change one octet of the living database, which nothing but its key can tell."""
    mail = World(world.root)
    paths: AccountPaths = mail.paths
    mail.close()
    with paths.mail_db.open("r+b") as file:
        file.seek((page - 1) * PAGE_BYTES + 99)
        octet = file.read(1)
        file.seek(-1, 1)
        file.write(bytes([octet[0] ^ 1]))


def content(folder: Path) -> dict[str, bytes]:
    """Every file of the accounts."""
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("by_key", [False, True])
def test_the_sound_point_is_found_without_touching_the_account(world: CommandsWorld, by_key: bool) -> None:
    """The newest is not sound, and why; the one before is. The living account is damaged all the while."""
    sound = world.answer("backup", "list", NAME.decode())["points"][0]["time"]
    change_octet(world, 3)
    assert world.answer("backup", "run")["stored"]
    before = content(world.root / "accounts")
    key = ("--private-key", world.private_key_file) if by_key else ()
    command = ("backup", "check", NAME.decode(), "--password-stdin", *key)
    code, out, _err = world.run(*command, stdin=TYPED)
    assert code == EXIT_STORAGE
    assert "NOT sound as of " in out and ": page 3 is not authentic: choose an earlier time with --at" in out
    code, out, _err = world.run(*command, "--at", sound, stdin=TYPED)
    assert code == 0, out
    assert f"sound as of {sound}: " in out and "NOT" not in out
    assert content(world.root / "accounts") == before
    assert list((world.root / "backup" / "scratch").iterdir()) == []


def test_a_first_page_that_is_damaged_is_no_sound_point(world: CommandsWorld) -> None:
    """Then SQLite opens nothing at all; that is an answer, not a failure of the command."""
    change_octet(world, 1)
    assert world.answer("backup", "run")["stored"]
    code, out, _err = world.run("backup", "check", NAME.decode(), "--password-stdin", stdin=TYPED)
    assert code == EXIT_STORAGE and ": its first page is not authentic: choose" in out


def test_a_key_header_of_zeros_is_no_sound_point(world: CommandsWorld) -> None:
    """The database is sound, but whoever has lost today's header could open it with nothing."""
    mail = World(world.root)
    keys = mail.paths.keys
    mail.close()
    good = keys.read_bytes()
    keys.write_bytes(bytes(len(good)))
    assert world.answer("backup", "run")["stored"]
    keys.write_bytes(good)
    code, out, _err = world.run("backup", "check", NAME.decode(), "--password-stdin", stdin=TYPED)
    assert code == EXIT_STORAGE and ": the key header is damaged: choose an earlier time" in out


def test_a_wrong_secret_checks_nothing(world: CommandsWorld) -> None:
    """It is the owner who has to type it."""
    code, _out, err = world.run("backup", "check", NAME.decode(), "--password-stdin", stdin="wrong secret\n")
    assert code == EXIT_SECRET and "wrong name or secret" in err


def test_an_account_that_has_never_been_opened_is_sound(world: CommandsWorld) -> None:
    """It has no database yet; there is nothing to be wrong."""
    world.add_account("bob@example.org")
    assert world.answer("backup", "run")["stored"]
    code, out, _err = world.run("backup", "check", "bob@example.org", "--password-stdin", stdin=TYPED)
    assert code == 0 and "sound as of" in out
