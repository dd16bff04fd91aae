"""A database that is gone is never taken for a first login: the user would find an empty mailbox."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from store_world import World, now

from mailstore.account import shared_lock
from mailstore.account_database import open_database
from mailstore.engine import Database, DatabaseKey
from mailstore.errors import Busy, DatabaseDamaged
from mailstore.model import Flags, NewMessage

KEY = DatabaseKey(bytes(32), bytes(16))
MAIL = b"Subject: x\r\n\r\ntext\r\n"


@pytest.mark.parametrize("lose", [Path.unlink, lambda path: os.truncate(path, 0)], ids=["missing", "empty"])
def test_a_lost_database_is_not_made_anew(
    tmp_path: Path, lose: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    """The log names the account; mail goes on waiting in the inbox, and a restore finds it there."""
    world = World(tmp_path)
    now(world.login().append("INBOX", [NewMessage(MAIL, Flags(), None)]))
    folder, mail_db = world.paths.folder, world.paths.mail_db
    world.close()
    lose(mail_db)
    world = World(tmp_path)
    world.deliver(MAIL)
    for _ in range(2):
        with pytest.raises(DatabaseDamaged):
            world.login()
    assert f"account {folder.name}: mail.db is lost" in caplog.text
    assert not mail_db.exists() or mail_db.stat().st_size == 0
    assert len(list(world.paths.inbox.iterdir())) == 1
    world.close()


def test_an_account_whose_first_login_was_cut_short_gets_its_database(tmp_path: Path) -> None:
    """Until the database was whole once there is nothing to lose."""
    world = World(tmp_path)
    world.paths.mail_db.touch()
    # Making it writes the main file directly, which a snapshot must not see half done.
    with shared_lock(world.paths), pytest.raises(Busy):
        open_database(world.paths, KEY, give_up=Database.close, wait_s=0.0, may_create=True)
    assert now(world.login().status("INBOX")).messages == 0
    world.close()
    world = World(tmp_path)
    assert now(world.login().status("INBOX")).messages == 0
    world.close()
