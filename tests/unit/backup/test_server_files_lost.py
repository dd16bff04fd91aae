"""The server's own files are lost or damaged beside accounts: they are named, and not made anew."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
from commands_world import CommandsWorld
from store_world import NAME, PASSWORD, World

from deploy import serving

EXIT_USAGE, EXIT_REFUSED, EXIT_STORAGE = 2, 3, 6
READ_ON = 'see deploy/OPERATIONS.md, "The server\'s own files are damaged"'
NO_DIRECTORY = f"directory.db is missing, though there are accounts: {READ_ON}"
NO_KEY = f"server.key is missing or damaged, though there is a directory or accounts: {READ_ON}"

Harm = Callable[[Path], None]


@pytest.fixture
def world(tmp_path: Path) -> CommandsWorld:
    """Two accounts in the store, and an alias in the directory."""
    made = CommandsWorld(tmp_path)
    made.add_account("bob@example.org")
    made.objects.mkdir()
    assert made.run("alias", "add", "al@example.org", NAME.decode())[0] == 0
    assert made.answer("backup", "run")["stored"]
    return made


def without_directory(root: Path) -> None:
    """As after a mistyped rm."""
    for path in root.glob("directory.db*"):
        path.unlink()


def without_key(root: Path) -> None:
    """As above."""
    (root / "server.key").unlink()


def half_a_key(root: Path) -> None:
    """As a dying disk may leave it."""
    (root / "server.key").write_bytes(bytes(65))


LOST: dict[str, tuple[Harm, str]] = {
    "no directory": (without_directory, NO_DIRECTORY),
    "no key": (without_key, NO_KEY),
    "half a key": (half_a_key, NO_KEY),
}


@pytest.mark.parametrize("what", list(LOST))
def test_a_lost_file_of_the_server_is_named_and_not_made_anew(world: CommandsWorld, what: str) -> None:
    """A new directory would hide all accounts, a new key open nothing; whichever command comes first."""
    harm, sentence = LOST[what]
    harm(world.root)
    before = sorted(path.name for path in world.root.iterdir())
    for command in (
        ("account", "list"),
        ("account", "add", "first@example.org", "--password-stdin"),
        ("domain", "add", "example.net"),
        ("backup", "status"),
        ("backup", "run"),
    ):
        code, _out, err = world.run(*command, stdin="a password of some length\n")
        assert (code, err) == (EXIT_STORAGE, f"sealbox: {sentence}\n"), command
    code, _out, err = world.run("check-config")
    assert (code, err) == (EXIT_USAGE, f"sealbox: {world.config}: {sentence}\n")
    assert sorted(path.name for path in world.root.iterdir()) == before


def test_an_empty_data_root_still_asks_for_the_first_account(tmp_path: Path) -> None:
    """Nothing was there, so nothing is lost."""
    world = CommandsWorld(tmp_path)
    empty = tmp_path / "empty"
    empty.mkdir()
    code, _out, err = world.run("account", "list", "--data", str(empty))
    assert code == EXIT_REFUSED and f"there is no data in {empty} yet" in err
    assert world.run("check-config")[0] == 0


def test_what_would_keep_the_server_from_starting_is_a_mistake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A volume without LUKS, plain swap, a folder for a socket that is missing: each a line with the file."""
    world = CommandsWorld(tmp_path)
    text = world.config.read_text("utf-8")
    world.config.write_text(
        text.replace("allow_unencrypted_volume = true\n", "").replace(
            f"{tmp_path}/lmtp", f"{tmp_path}/run/lmtp"
        )
    )
    monkeypatch.setattr(serving, "plain_swaps", lambda: ["/dev/sdz9"])
    monkeypatch.setattr(serving, "is_on_luks", lambda path: not path.exists())
    code, out, err = world.run("check-config")
    assert (code, out) == (EXIT_USAGE, "")
    assert err.splitlines() == [
        f"sealbox: {world.config}: {serving.UNENCRYPTED}",
        f"sealbox: {world.config}: {serving.PLAIN_SWAP % '/dev/sdz9'}",
        f"sealbox: {world.config}: listen.lmtp: the folder {tmp_path}/run is not there, so no socket can be"
        " made in it: make it, for the server's user (install -d -o sealbox -g sealbox)",
    ]
    world.config.write_text(text)
    assert world.run("check-config")[:2] == (0, f"{world.config} is in order\n")


@pytest.mark.parametrize("what", ["no directory", "no key", "both"])
def test_lost_files_of_the_server_come_back_and_the_accounts_stay(world: CommandsWorld, what: str) -> None:
    """By the private key; what lives is left alone, and the snapshots go on where they were."""
    points = world.answer("backup", "status")["accounts"]
    if what != "no key":
        without_directory(world.root)
    if what != "no directory":
        without_key(world.root)
    code, out, err = world.run("restore", "--all", "--private-key", world.private_key_file)
    assert code == 0, (out, err)
    assert out.count("already exists, left alone") == 2
    listed = world.answer("account", "list")["accounts"]
    assert sorted(one["name"] for one in listed) == [NAME.decode(), "bob@example.org"]
    assert world.answer("alias", "list")["aliases"]
    assert world.answer("backup", "run")["stored"]
    assert world.answer("backup", "status")["accounts"] == points
    mail = World(world.root)
    mail.login(PASSWORD).release()
    mail.close()


def test_a_restore_of_everybody_that_finds_nobody_says_so(world: CommandsWorld, tmp_path: Path) -> None:
    """A data root with another directory: accounts of the snapshots are unknown there, and it is said."""
    other = tmp_path / "other"
    for command in (("account", "add", "first@example.org", "--password-stdin"),):
        assert world.run(*command, "--data", str(other), stdin="a password of some length\n")[0] == 0
    key = ("--private-key", world.private_key_file, "--signed-by", "anybody")
    code, out, err = world.run("restore", "--all", *key, "--into", str(other))
    assert (code, out) == (EXIT_REFUSED, "")
    assert "not in this directory: 2 accounts of the snapshots" in err
    assert "'sealbox backup list --private-key' names them" in err
    assert "there is nothing to restore" in err


def test_a_damaged_directory_is_named(world: CommandsWorld, caplog: pytest.LogCaptureFixture) -> None:
    """Its first page, or one behind it: the log says which file, the command where to read on."""
    path = world.root / "directory.db"
    content = path.read_bytes()
    path.write_bytes(bytes(4096) + content[4096:])
    with caplog.at_level(logging.ERROR):
        code, _out, err = world.run("account", "list")
    assert code == EXIT_STORAGE
    assert "a database is damaged, the line above says which: see deploy/OPERATIONS.md" in err
    said = f"root/directory.db is damaged (code 26), or server.key is not the one it was made with: {READ_ON}"
    assert [record.getMessage() for record in caplog.records] == [said]


def test_a_damaged_state_of_the_snapshots_is_named_and_begun_anew(
    world: CommandsWorld, caplog: pytest.LogCaptureFixture
) -> None:
    """The log says which file; moved away, the store is taken over and everything is stored again."""
    path = world.root / "backup" / "state.db"
    content = path.read_bytes()
    path.write_bytes(bytes(4096) + content[4096:])
    with caplog.at_level(logging.ERROR):
        code, _out, err = world.run("backup", "run")
    assert code == EXIT_STORAGE and "a database is damaged, the line above says which" in err
    said = f"backup/state.db is damaged (code 26): {READ_ON}"
    assert [record.getMessage() for record in caplog.records] == [said]
    for left in path.parent.glob("state.db*"):
        left.rename(world.root.parent / left.name)
    assert world.answer("backup", "run", "--take-over")["stored"]
    assert {one["points"] for one in world.answer("backup", "status")["accounts"] if one["name"]} == {1}
