"""The way back from a restore in place, step by step as deploy/OPERATIONS.md has it."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest
from commands_world import CommandsWorld
from store_world import NAME, World, now


def mailbox(world: CommandsWorld) -> tuple[int, int]:
    """Messages and UIDVALIDITY of INBOX, after a login."""
    mail = World(world.root)
    account = mail.login()
    found = now(account.status("INBOX"))
    account.release()
    mail.close()
    return found.messages, int(found.uid_validity)


@pytest.mark.parametrize("keyslots", ["now", "then"])
def test_what_a_restore_has_replaced_can_be_put_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keyslots: str
) -> None:
    """Mail that no snapshot had is there again, and no client trusts a UID that it saw meanwhile."""
    world = CommandsWorld(tmp_path)
    world.objects.mkdir()
    world.append("stored")
    assert world.answer("backup", "run")["stored"]
    world.append("newer")
    command = ("restore", NAME.decode(), "--replace", "--keyslots", keyslots)
    (restored,) = world.answer(*command)["restored"]
    messages, meanwhile = mailbox(world)
    assert messages == 1
    kept, account = Path(restored["kept"]), restored["account"]
    folder = world.root / "accounts" / account[:2] / account
    for name in ("mail.db-wal", "mail.db-shm", "mail.db-checkpoints", "search.db"):
        (folder / name).unlink(missing_ok=True)
    for path in kept.iterdir():
        if path.name != "keys":
            shutil.copy(path, folder / path.name)
    (folder / "restored").write_text("1796000000\n")  # what `date +%s` prints
    with monkeypatch.context() as patch:
        an_hour_later = time.time() + 3600
        patch.setattr(time, "time", lambda: an_hour_later)
        messages, validity = mailbox(world)
    assert messages == 2 and validity > meanwhile
    assert world.answer("backup", "run")["stored"]
    assert world.answer("backup", "drill")["drilled"][0]["trouble"] is None
