"""kill -9 before every single step of writing a database anew: the account has the same mail in it."""

from __future__ import annotations

from pathlib import Path

import pytest
import stepper
from steps import Begin, Say, each_step
from transfer_world import NONE, PASSWORD, TINY, TransferWorld

from mailstore.account import account_paths, open_directory
from mailstore.rewriting import vacuum_account

pytestmark = [
    pytest.mark.crash,
    pytest.mark.skipif(not stepper.to_be_tried(), reason="this machine does not allow ptrace"),
]
MAIL = [(b"Subject: %d\r\n\r\n" % at + b"text " * 4000, NONE, at) for at in range(4)]


def test_an_account_survives_being_rewritten(tmp_path: Path, place: Path) -> None:
    """It opens with all its mail, nothing is left over, and the command works when it is run again."""
    world = TransferWorld(tmp_path / "template" / "data")
    world.fill("ada", {"INBOX": MAIL})
    with world.opened("ada") as account:
        account.database.write(0, lambda txn: txn.run("DELETE FROM placed WHERE uid = 1"))
    mail = world.contents("ada")

    def rewritten(root: Path, begin: Begin) -> None:
        directory = open_directory(root)
        record = directory.login("ada@example.org")
        assert record is not None
        begin()
        vacuum_account(root, directory, record, PASSWORD, TINY, 0.0)
        directory.close()

    def check(folder: Path, _said: bytes) -> None:
        again = TransferWorld.again(folder / "data")
        assert again.contents("ada") == mail
        with again.opened("ada") as account:
            assert not account.paths.rewritten.exists()
            assert account.database.pragma("PRAGMA integrity_check") == [("ok",)]
        rewritten(folder / "data", lambda: None)
        assert again.contents("ada") == mail
        directory = open_directory(folder / "data")
        record = directory.login("ada@example.org")
        directory.close()
        assert record is not None
        left = {one.name for one in account_paths(folder / "data", record.account_id).folder.iterdir()}
        assert not {name for name in left if name.startswith(("mail.db-new", "leave"))}

    def act(folder: Path, _say: Say, begin: Begin) -> None:
        rewritten(folder / "data", begin)

    assert each_step(tmp_path / "template", place / "steps", act, check) > 20
