"""A server without snapshots removes what restores have set aside, and not for a clock that is wrong."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from backup.leftovers import Leftovers
from backup.limits import DAY_S

KEPT_S = 10.0 * DAY_S
HOUR_S = 3600


class Machine:
    """A data root with one copy, on a machine whose clock may be wrong by ``jump_s``."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.now_s = 1_800_000_000.0
        self.jump_s = 0.0
        self.copy = root / "replaced" / "x"
        self.copy.mkdir(parents=True)
        os.utime(self.copy, (self.now_s, self.now_s))
        self.start()

    def start(self) -> None:
        """The server starts, which looks for what is due."""
        self.leftovers = Leftovers(self.root, lambda: self.now_s + self.jump_s, lambda: self.now_s)
        self.leftovers.remove(KEPT_S)

    def pass_days(self, days: int) -> None:
        """It looks again every day."""
        for _ in range(days):
            self.now_s += DAY_S
            self.leftovers.remove(KEPT_S)


def test_a_copy_goes_when_its_time_is_over_and_no_sooner(tmp_path: Path) -> None:
    """With a restart every night, too."""
    machine = Machine(tmp_path)
    for _ in range(10):
        machine.pass_days(0)
        assert machine.copy.exists()
        machine.now_s += DAY_S - HOUR_S
        machine.leftovers.stop()
        machine.now_s += HOUR_S
        machine.start()
    machine.now_s += 1
    machine.leftovers.remove(KEPT_S)
    assert not machine.copy.exists()


def test_a_server_that_was_killed_knows_how_the_clock_went_until_the_last_look(tmp_path: Path) -> None:
    """So that what is due is removed at its next start, not a day later."""
    machine = Machine(tmp_path)
    machine.pass_days(10)
    assert machine.copy.exists()
    machine.now_s += HOUR_S
    machine.start()
    assert not machine.copy.exists()


def test_a_start_with_a_clock_that_is_ahead_removes_no_copy(tmp_path: Path) -> None:
    """Nor does one that is right again, each after a server that was killed."""
    machine = Machine(tmp_path)
    machine.pass_days(2)
    for jump_s in (30 * DAY_S, 30 * DAY_S, 0):
        machine.jump_s = jump_s
        machine.start()
        machine.now_s += HOUR_S
        machine.leftovers.remove(KEPT_S)
    machine.pass_days(7)
    assert machine.copy.exists()
    machine.pass_days(2)
    assert not machine.copy.exists()


@pytest.mark.parametrize("wrong_s", [0, 4_000_000_000], ids=["1970", "ahead"])
def test_a_copy_made_while_the_clock_was_wrong_is_kept_its_time(tmp_path: Path, wrong_s: int) -> None:
    """A machine without a clock of its own starts in 1970: what a restore replaces then has that time."""
    machine = Machine(tmp_path)
    machine.pass_days(2)
    copy = machine.root / "replaced" / "y"
    copy.mkdir()
    os.utime(copy, (wrong_s, wrong_s))
    machine.pass_days(11)
    assert copy.exists()
    machine.pass_days(1)
    assert not copy.exists()
