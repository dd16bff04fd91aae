"""kill -9 or a power cut at any step of writing a database anew: the account has the same mail in it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import stepper
from copies import syncs_told, without_syncs_of_sqlite
from file_operations import Record
from power import each_cut
from recorder import record
from steps import Begin, Say, each_step
from transfer_world import NONE, PASSWORD, TINY, TransferWorld

from mailstore.account import account_paths, open_directory
from mailstore.model import Flags
from mailstore.rewriting import vacuum_account

pytestmark = [
    pytest.mark.crash,
    pytest.mark.skipif(not stepper.to_be_tried(), reason="this machine does not allow ptrace"),
]
Contents = dict[str, list[tuple[bytes, Flags, int]]]
MAIL = [(b"Subject: %d\r\n\r\n" % at + b"text " * 4000, NONE, at) for at in range(4)]


def filled(folder: Path) -> Contents:
    """Make an account whose database has free pages; its mail."""
    world = TransferWorld(folder / "data")
    world.fill("ada", {"INBOX": MAIL})
    with world.opened("ada") as account:
        account.database.write(0, lambda txn: txn.run("DELETE FROM placed WHERE uid = 1"))
    return world.contents("ada")


def rewrite(folder: Path, say: Say, begin: Begin) -> None:
    """As ``sealbox account vacuum`` does it."""
    directory = open_directory(folder / "data")
    ada = directory.login("ada@example.org")
    assert ada is not None
    begin()
    vacuum_account(folder / "data", directory, ada, PASSWORD, TINY, 0.0)
    say(b"done")
    directory.close()


def opens_whole(folder: Path, mail: Contents) -> TransferWorld:
    """See that all the mail is there, and that nothing is left over of what was interrupted."""
    again = TransferWorld.again(folder / "data")
    assert again.contents("ada") == mail
    with again.opened("ada") as account:
        assert not account.paths.rewritten.exists()
        assert account.database.pragma("PRAGMA integrity_check") == [("ok",)]
    return again


def test_an_account_survives_being_rewritten(tmp_path: Path, place: Path) -> None:
    """It opens with all its mail, nothing is left over, and the command works when it is run again."""
    mail = filled(tmp_path / "template")

    def check(folder: Path, _said: bytes) -> None:
        again = opens_whole(folder, mail)
        rewrite(folder, lambda _: None, lambda: None)
        assert again.contents("ada") == mail
        directory = open_directory(folder / "data")
        ada = directory.login("ada@example.org")
        directory.close()
        assert ada is not None
        left = {one.name for one in account_paths(folder / "data", ada.account_id).folder.iterdir()}
        assert not {name for name in left if name.startswith(("mail.db-new", "leave"))}

    assert each_step(tmp_path / "template", place / "steps", rewrite, check) > 20


def rewrite_and_tell_syncs(folder: Path, say: Say, begin: Begin) -> None:
    """The same; see ``copies``."""
    with syncs_told(say):
        rewrite(folder, say, begin)


@pytest.mark.parametrize("change", [without_syncs_of_sqlite, lambda made: made], ids=["few syncs", "all"])
def test_power_cut_in_rewriting_an_account(place: Path, change: Callable[[Record], Record]) -> None:
    """The new file takes the old one's name when all of it is on the disk, and not before; see ``power``."""
    root = place / "root"
    mail = filled(root)
    made, _ = record(root, lambda say, begin: rewrite_and_tell_syncs(root, say, begin))

    def check(folder: Path, _said: bytes) -> None:
        opens_whole(folder, mail)

    assert each_cut(change(made), place, check) > 20
