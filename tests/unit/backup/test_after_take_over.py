"""What was stored before a --take-over is still listed and found, as long as it is there."""

from __future__ import annotations

from pathlib import Path

import pytest
from commands_world import CommandsWorld
from store_world import NAME

EXIT_STORAGE = 6


@pytest.fixture
def world(tmp_path: Path) -> CommandsWorld:
    """Two points in time, the state of the snapshots lost, taken over, and one more point."""
    made = CommandsWorld(tmp_path)
    made.objects.mkdir()
    for subject in ("one", "two"):
        made.append(subject)
        assert made.answer("backup", "run")["stored"]
    for path in (made.root / "backup").glob("state.db*"):
        path.unlink()
    made.append("three")
    assert made.answer("backup", "run", "--take-over")["stored"]
    return made


def by_key(world: CommandsWorld) -> tuple[object, ...]:
    """What opens all that lies in the store."""
    return ("--private-key", world.private_key_file)


def test_older_points_are_listed(world: CommandsWorld) -> None:
    """In their order, the newest last; without the key those alone that this server knows."""
    points = world.answer("backup", "list", NAME.decode(), *by_key(world))["points"]
    assert len(points) == 3
    assert [one["time"] for one in points] == sorted(one["time"] for one in points)
    (everyone,) = world.answer("backup", "list", *by_key(world))["accounts"]
    assert (everyone["points"], everyone["oldest"]) == (3, points[0]["time"])
    assert world.answer("backup", "list", NAME.decode())["points"] == points[2:]


def test_newest_sound_finds_a_state_from_before(world: CommandsWorld) -> None:
    """Nothing of the present stream is any good; without the key it is said what else there may be."""
    points = world.answer("backup", "list", NAME.decode(), *by_key(world))["points"]
    path = world.objects / points[-1]["object"]
    path.write_bytes(bytes(path.stat().st_size))
    command = ("restore", NAME.decode(), "--replace", "--newest-sound")
    code, out, _err = world.run(*command)
    assert code == EXIT_STORAGE
    assert "no state of this account is sound of those that this server remembers: --private-key" in out
    code, out, err = world.run(*command, *by_key(world))
    assert code == 0, out
    assert f"restored as of {points[1]['time']}" in out
    assert f"passed over {points[-1]['object']}: " in err


def test_status_does_not_call_them_deleted_accounts(world: CommandsWorld) -> None:
    """Whose they are the private key tells."""
    said = world.run("backup", "status")[1]
    assert "(deleted)" not in said
    (line,) = [line for line in said.splitlines() if line.startswith("forgotten-")]
    assert "(from before a --take-over: 'sealbox backup list --private-key' says whose)" in line
