"""A disk that fails or is full at any step of any operation: the documented error, and nothing half done."""

from __future__ import annotations

import errno
import logging
import re
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import pytest
from everything import Everything, Operation, room
from faulty_disk import FaultyDisk, Step
from operations import OPERATIONS
from test_leaks import open_files

from mailstore.errors import StorageFailed, StorageFull

NOTES = r"\w+ .*/mail-size"
"""Files on which nothing depends."""

EXPECTED = {errno.EIO: StorageFailed, errno.ENOSPC: StorageFull}


@pytest.fixture(scope="module")
def disk() -> Iterator[FaultyDisk]:
    """A disk that is good at first."""
    logging.disable(logging.CRITICAL)
    with pytest.MonkeyPatch.context() as patch:
        made = FaultyDisk()
        made.install(patch)
        yield made
    logging.disable(logging.NOTSET)


class Worlds:
    """One world is used for all operations, since each ends where it began; a new one after a failure."""

    def __init__(self, disk: FaultyDisk, place: Path) -> None:
        self._disk, self._place = disk, place
        self._number = 0
        self.sound: Everything | None = None

    def take(self) -> Everything:
        """A world that is to be given back when everything in it went well."""
        found, self.sound = self.sound, None
        if found is None:
            self._number += 1
            self._disk.place = self._place / str(self._number)
            self._disk.place.mkdir()
            found = Everything(self._disk.place)
        return found


@pytest.fixture(scope="module")
def worlds(disk: FaultyDisk) -> Iterator[Worlds]:
    """Worlds on the disk."""
    with room() as place:
        made = Worlds(disk, place)
        yield made
        if made.sound is not None:
            made.sound.close()


def tried(
    disk: FaultyDisk, world: Everything, operation: Operation, code: int, fails: Step | None
) -> Exception | None:
    """Do it on a disk that fails at one step; the exception, None where it goes on all the same."""
    disk.begin(code, fails)
    try:
        operation.run(world)
    except Exception as error:  # noqa: BLE001  # whatever it is: that is what is looked at
        return error
    finally:
        disk.end()
    return None


def as_documented(operation: Operation, code: int, step: Step, error: Exception | None) -> bool:
    """Whether that is what a fault at this step has to lead to."""
    what = f"{step[0]} {step[1]}"
    if error is None:
        return re.match(f"{operation.goes_on}|{operation.may_go_on}|{NOTES}", what) is not None
    if re.match(operation.goes_on, what):
        return False
    return type(error) is EXPECTED[code] or isinstance(error, operation.others)


@pytest.mark.parametrize("code", list(EXPECTED), ids=["EIO", "ENOSPC"])
@pytest.mark.parametrize("operation", OPERATIONS, ids=str)
def test_a_fault_at_any_step(disk: FaultyDisk, worlds: Worlds, operation: Operation, code: int) -> None:
    """One after the other, to the last: what it leads to is documented, and nothing half done is left.

    The state is that of before or that of afterwards, or the next try on a good disk does the rest; and no
    file stays open.
    """
    world = worlds.take()
    operation.prepare(world)
    before = operation.state(world)
    assert tried(disk, world, operation, code, None) is None
    waiting = deque(disk.steps)
    after = operation.state(world)
    operation.undo(world)
    files = len(open_files())
    known = set(waiting)
    while waiting:
        step = waiting.popleft()
        operation.prepare(world)
        error = tried(disk, world, operation, code, step)
        if disk.failed:
            assert as_documented(operation, code, step, error), f"{step} led to {error!r}"
        else:
            assert error is None, f"{step} was not reached, and yet there was {error!r}"
        # Behind a fault other things may be done than without.
        waiting += [one for one in disk.steps if one not in known]
        known.update(disk.steps)
        if operation.again:
            operation.run(world)
        states = [before] if error is not None and operation.undone else [before, after]
        if not step[0].startswith("unlink "):  # what cannot be removed stays
            assert operation.state(world) in ([after] if operation.again else states), step
        operation.undo(world)
        assert len(open_files()) <= files, step
    worlds.sound = world
