"""Commands that restore at the same time do not take each other's work for their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from commands_world import CommandsWorld
from store_world import NAME, PASSWORD

from backup.restore import Restorer

EXIT_BUSY = 5
EXIT_STORAGE = 6
ADDRESS = NAME.decode()
MESSAGES = ("restore", ADDRESS, "--messages", "INBOX", "--password-stdin")


@pytest.fixture
def world(tmp_path: Path) -> CommandsWorld:
    """An account with mail and a snapshot."""
    made = CommandsWorld(tmp_path)
    made.append("one")
    made.objects.mkdir()
    assert made.answer("backup", "run")["stored"]
    return made


def work(world: CommandsWorld) -> dict[str, bytes]:
    """What lies in the folder in which restores work."""
    folder = world.root / "backup" / "scratch" / "restore"
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("other", ["a restore", "of one mailbox"])
def test_a_restore_leaves_the_work_of_another_alone(
    world: CommandsWorld, monkeypatch: pytest.MonkeyPatch, other: str
) -> None:
    """The second comes when the first has rebuilt the account and waits for sessions to end."""
    said: list[tuple[int, str, str]] = []
    install = Restorer.install

    def waits(self: Restorer, *arguments: Any) -> Path | None:
        before = work(world)
        assert before
        monkeypatch.setattr(Restorer, "install", install)
        if other == "a restore":
            said.append(world.run("restore", ADDRESS, "--replace"))
        else:
            said.append(world.run(*MESSAGES, stdin=f"{PASSWORD.decode()}\n"))
        assert work(world) == before
        return install(self, *arguments)

    monkeypatch.setattr(Restorer, "install", waits)
    (restored,) = world.answer("restore", ADDRESS, "--replace")["restored"]
    assert restored["trouble"] is None
    ((code, _out, err),) = said
    if other == "a restore":
        assert code == EXIT_BUSY and "another restore is running in this data root" in err
        assert world.answer("restore", ADDRESS, "--replace")["restored"][0]["trouble"] is None
    else:
        assert code == 0


def test_nothing_is_left_in_scratch_but_the_lock(world: CommandsWorld) -> None:
    """Neither by a restore nor by one of a mailbox."""
    world.answer("restore", ADDRESS, "--replace")
    assert world.run(*MESSAGES, stdin=f"{PASSWORD.decode()}\n")[0] == 0
    assert list((world.root / "backup" / "scratch").iterdir()) == []


def test_a_restore_that_met_trouble_goes_on_when_it_is_called_again(world: CommandsWorld) -> None:
    """What it had fetched and applied before the damaged object is not fetched again."""
    world.append("two")
    assert world.answer("backup", "run")["stored"]
    newest = world.objects / world.answer("backup", "list", ADDRESS)["points"][-1]["object"]
    good = newest.read_bytes()
    newest.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    (failed,) = world.answer("restore", ADDRESS, "--replace", codes=(EXIT_STORAGE,))["restored"]
    assert failed["trouble"]
    assert any(name.endswith("/restoring") for name in work(world))
    newest.write_bytes(good)
    (restored,) = world.answer("restore", ADDRESS, "--replace")["restored"]
    assert restored["trouble"] is None and restored["pages"] > 0
    assert work(world) == {}
