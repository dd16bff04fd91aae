"""``sealbox account vacuum`` between snapshots: those before it and those after it bring the mail back."""

from __future__ import annotations

from pathlib import Path

import pytest
from commands_world import CommandsWorld
from store_world import NAME, PASSWORD, World, now

from mailstore import rewriting
from mailstore.errors import Busy, DatabaseDamaged, NoSuchAccount

ADDRESS = NAME.decode()


@pytest.fixture
def world(tmp_path: Path) -> CommandsWorld:
    """An account with some mail, and room for snapshots."""
    made = CommandsWorld(tmp_path)
    made.objects.mkdir()
    made.append("before")
    return made


def messages(world: CommandsWorld) -> int:
    """How many INBOX has."""
    mail = World(world.root)
    account = mail.login()
    count = now(account.status("INBOX")).messages
    account.release()
    mail.close()
    return count


def vacuum(world: CommandsWorld, *more: str, secret: str = PASSWORD.decode()) -> tuple[int, str, str]:
    """Run it."""
    return world.run("account", "vacuum", ADDRESS, "--password-stdin", *more, stdin=f"{secret}\n")


def test_snapshots_of_both_files_are_whole(world: CommandsWorld) -> None:
    """The one after it is of another file, and does not build on pages of the first."""
    assert world.answer("backup", "run")["stored"]
    then = world.answer("backup", "list", ADDRESS)["points"][-1]["time"]
    code, said, _ = vacuum(world)
    assert (code, "the next snapshot takes all of it once more" in said) == (0, True)
    assert messages(world) == 1
    world.append("after")
    assert world.answer("backup", "run")["stored"]
    world.append("later")
    assert world.answer("backup", "run")["stored"]
    newest = world.answer("backup", "list", ADDRESS)["points"][-1]["time"]
    assert world.answer("backup", "check", ADDRESS, "--password-stdin", stdin=PASSWORD.decode() + "\n")
    world.answer("restore", ADDRESS, "--at", then, "--replace")
    assert messages(world) == 1
    world.answer("restore", ADDRESS, "--at", newest, "--replace")
    assert messages(world) == 3


def test_what_is_refused_changes_nothing(world: CommandsWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong secret, no room, a session that does not end, no database, damage: a sentence and a code."""
    no_room = rewriting.NoRoomToRewrite(5 * 2**30)
    code, _, said = vacuum(world, secret="wrong")
    assert (code, said) == (4, "sealbox: wrong name or secret: check both and try again\n")
    for error, expected, words in (
        (no_room, 6, "a copy of the account needs 5.00 GiB"),
        (Busy(), 5, "did not end within a minute"),
        (NoSuchAccount(), 3, "has no database yet"),
        (DatabaseDamaged(), 6, "the database is damaged, nothing was changed"),
    ):

        def refuses(*_arguments: object, error: Exception = error) -> None:
            raise error

        monkeypatch.setattr(rewriting, "vacuum", refuses)
        code, _, said = vacuum(world)
        assert (code, words in said) == (expected, True), said
    assert messages(world) == 1
