"""A restore to an earlier time does not quietly bring old secrets back."""

from __future__ import annotations

from pathlib import Path

import pytest
from commands_world import CommandsWorld
from store_world import NAME, PASSWORD, World

from mailstore.account import open_directory
from mailstore.errors import AuthenticationFailed

NEW_PASSWORD = b"another secret altogether"
ADDRESS = NAME.decode()


class Changed(CommandsWorld):
    """An account with a snapshot, after which its password was changed and an app password revoked."""

    def __init__(self, place: Path) -> None:
        super().__init__(place)
        self.objects.mkdir()
        old = PASSWORD.decode()
        added = self.answer(
            *("app-password", "add", ADDRESS, "--label", "old phone", "--password-stdin"), stdin=f"{old}\n"
        )
        assert self.answer("backup", "run")["stored"]
        self.then = self.answer("backup", "list", ADDRESS)["points"][-1]["time"]
        slot = added["keyslot"]["id"] if "keyslot" in added else added["id"]
        self.answer(*("app-password", "revoke", ADDRESS, slot, "--password-stdin"), stdin=f"{old}\n")
        both = f"{old}\n{NEW_PASSWORD.decode()}\n"
        self.answer("account", "passwd", ADDRESS, "--password-stdin", stdin=both)

    def opens(self, root: Path, secret: bytes) -> bool:
        """Whether a secret opens the account."""
        mail = World(root)
        try:
            mail.login(secret).release()
        except AuthenticationFailed:
            return False
        finally:
            mail.close()
        return True


@pytest.fixture
def world(tmp_path: Path) -> Changed:
    """See ``Changed``."""
    return Changed(tmp_path)


def only_then(restored: dict[str, list[str]]) -> list[str]:
    """Without the day of making."""
    return sorted(one.rpartition(" of ")[0] for one in restored["keyslots_only_then"])


def test_todays_keyslots_stay_and_what_is_left_out_is_named(world: Changed) -> None:
    """The default: the mail of then, the secrets of now."""
    restore = ("restore", ADDRESS, "--at", world.then, "--replace")
    (restored,) = world.answer(*restore)["restored"]
    assert restored["trouble"] is None and restored["keyslots"] == "now"
    assert only_then(restored) == ["app password 'old phone'", "password"]
    assert world.opens(world.root, NEW_PASSWORD) and not world.opens(world.root, PASSWORD)
    said = world.run(*restore)[1]
    assert "revoked or replaced since and left out: " in said and "'old phone'" in said


def test_the_keyslots_of_then_come_back_when_asked_for_and_are_named(world: Changed) -> None:
    """For an account whose password was changed by somebody else."""
    restore = ("restore", ADDRESS, "--at", world.then, "--replace", "--keyslots", "then")
    (restored,) = world.answer(*restore)["restored"]
    assert restored["keyslots"] == "then" and only_then(restored) == ["app password 'old phone'", "password"]
    assert world.opens(world.root, PASSWORD) and not world.opens(world.root, NEW_PASSWORD)


@pytest.mark.parametrize("keyslots", ["now", "then"])
def test_on_a_new_machine_the_newest_header_is_in_a_later_snapshot(
    world: Changed, tmp_path: Path, keyslots: str
) -> None:
    """Also for an account that has been deleted since."""
    assert world.answer("backup", "run")["stored"]
    world.answer("account", "delete", ADDRESS, "--yes")
    key = ("--private-key", world.private_key_file, "--at", world.then, "--keyslots", keyslots)
    for arguments, root in (
        (("--all", "--into", tmp_path / "new"), tmp_path / "new"),
        ((ADDRESS,), world.root),
    ):
        (restored,) = world.answer("restore", *arguments, *key)["restored"]
        assert restored["trouble"] is None and restored["keyslots"] == keyslots
        assert only_then(restored) == ["app password 'old phone'", "password"]
        assert world.opens(root, NEW_PASSWORD) == (keyslots == "now")
        assert world.opens(root, PASSWORD) == (keyslots == "then")


@pytest.mark.parametrize(("ahead", "keyslots"), [(1, "now"), (0, "now"), (-1, "then")])
def test_a_header_that_is_newer_than_the_directory_knows_is_todays(
    world: Changed, ahead: int, keyslots: str
) -> None:
    """A crash may come between writing it and noting it, and a login takes it; an older one was put back."""
    directory = open_directory(world.root)
    (record,) = directory.accounts()
    directory.set_header(record.account_id, record.public_key, record.header_generation - ahead)
    directory.close()
    (restored,) = world.answer("restore", ADDRESS, "--at", world.then, "--replace")["restored"]
    assert restored["keyslots"] == keyslots
    assert world.opens(world.root, NEW_PASSWORD) == (keyslots == "now")
    assert world.opens(world.root, PASSWORD) == (keyslots == "then")


def test_a_header_that_the_directory_does_not_know_is_not_kept(world: Changed) -> None:
    """Put back on the disk, or damaged: the snapshot's is the sound one."""
    keys = next((world.root / "accounts").glob("*/*/keys"))
    keys.write_bytes(b"damaged")
    said = world.run("restore", ADDRESS, "--at", world.then, "--replace")[1]
    assert "it opens with the snapshot's secrets" in said
    assert world.opens(world.root, PASSWORD)
