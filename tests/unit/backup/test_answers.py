"""What commands about snapshots answer is true, and names what was typed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from commands_world import CommandsWorld
from store_world import NAME

from backup.keypair import generate

EXIT_REFUSED, EXIT_STORAGE = 3, 6
EVE = "eve@example.org"


@pytest.fixture
def world(tmp_path: Path) -> CommandsWorld:
    """Two accounts that are stored."""
    made = CommandsWorld(tmp_path)
    made.add_account(EVE)
    made.objects.mkdir()
    assert made.answer("backup", "run")["stored"]
    return made


def test_copies_that_restores_have_kept_are_not_called_accounts(world: CommandsWorld) -> None:
    """Three restores of one account keep three copies of one."""
    for _ in range(3):
        assert world.run("restore", NAME.decode(), "--replace")[0] == 0
    assert "kept aside by restores: 3 copies of 1 account, " in world.run("backup", "status")[1]


def test_a_time_without_snapshots_is_told_by_the_name_that_was_typed(world: CommandsWorld) -> None:
    """The id says nothing to whoever typed the address."""
    code, out, _err = world.run("restore", NAME.decode(), "--replace", "--at", "2020-01-01T00:00:00Z")
    assert code == EXIT_STORAGE
    said = (
        f"{NAME.decode()}  NOT restored: there is no snapshot of this account at that time: the oldest is of "
    )
    assert out.startswith(said)
    oldest = out.removeprefix(said).removesuffix("\n")
    assert oldest == world.answer("backup", "list", NAME.decode())["points"][0]["time"]
    code, out, _err = world.run("restore", NAME.decode(), "--replace", "--at", oldest)
    assert (code, f"restored as of {oldest}" in out) == (0, True)


def test_a_drill_says_what_it_has_compared(world: CommandsWorld) -> None:
    """Somebody who has never logged in has no database; of others the pages are counted."""
    world.append("one")
    assert world.answer("backup", "run")["stored"]
    code, out, _err = world.run("backup", "drill", "--accounts", "2")
    lines = sorted(out.splitlines())
    assert code == 0
    assert lines[1] == f"{EVE}  proven: its keys are restored; it has no mail database yet"
    compared = r"proven: \d+ pages restored, \d+ equal to the living database"
    assert re.fullmatch(rf"{NAME.decode()}  {compared}", lines[0])


def test_nothing_restored_is_no_success(world: CommandsWorld) -> None:
    """Named accounts that are all there already; a restore of everybody may have come that far before."""
    code, out, err = world.run("restore", NAME.decode(), EVE)
    assert code == EXIT_REFUSED
    assert out.count("already exists, left alone") == 2 and "--replace replaces them" in err
    assert world.run("restore", "--all")[0] == 0


def test_snapshots_of_a_deleted_account_are_not_said_to_be_none(world: CommandsWorld) -> None:
    """Without the private key nobody knows its address; with it, it is listed, and can be brought back."""
    assert "no way back" not in world.run("account", "delete", "--help")[1]
    assert world.run("account", "delete", EVE, "--yes")[0] == 0
    code, _out, err = world.run("backup", "list", EVE)
    assert code == EXIT_REFUSED
    assert "there are no snapshots of that account that this server can name: of one that was deleted" in err
    key = ("--private-key", world.private_key_file)
    assert len(world.answer("backup", "list", EVE, *key)["points"]) == 1
    assert world.run("restore", EVE, *key)[0] == 0


def test_keygen_says_where_the_public_key_is(
    world: CommandsWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Written into the configuration, a relative path is one from wherever the server was started."""
    monkeypatch.chdir(tmp_path)
    code, out, _err = world.run("backup", "keygen", "--private", "a.key", "--public", "b.key")
    assert code == 0
    assert f"public key:  {tmp_path / 'b.key'}  (set backup.public_key to it)" in out


def test_a_wrong_key_leaves_no_data_root_behind(world: CommandsWorld, tmp_path: Path) -> None:
    """Nothing was restored there, so nothing is there."""
    generate(tmp_path / "other", tmp_path / "other.pub")
    new = tmp_path / "new"
    key = ("--private-key", tmp_path / "other", "--store", f"file://{world.objects}")
    code, _out, err = world.run("restore", "--all", *key, "--into", new)
    assert code == EXIT_REFUSED and "belong to another key pair" in err
    assert not new.exists()


def test_a_damaged_key_header_is_told_with_the_next_step(world: CommandsWorld) -> None:
    """It was restored, and harmed before anybody logged in; the class of the error tells nobody anything."""
    assert world.run("restore", NAME.decode(), "--replace")[0] == 0
    account = next(one for one in world.answer("account", "list")["accounts"] if one["name"] == NAME.decode())
    keys = world.root / "accounts" / account["account"][:2] / account["account"] / "keys"
    keys.write_bytes(bytes(100))
    code, out, _err = world.run("restore", NAME.decode())
    assert code == EXIT_STORAGE
    assert out == (
        f"{NAME.decode()}  NOT restored: its key header is damaged or was exchanged: --replace restores it\n"
    )
