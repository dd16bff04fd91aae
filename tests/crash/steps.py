"""One run of a function per step of it, each killed before that step, each on fresh files."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import stepper

MOST_STEPS = 1000
"""More than any function here takes; a run that needs more is a run away."""

Say = Callable[[bytes], object]
Begin = Callable[[], None]


def each_step(
    template: Path,
    place: Path,
    function: Callable[[Path, Say, Begin], None],
    check: Callable[[Path, bytes], None],
) -> int:
    """Kill ``function`` before each of its steps, on a copy of ``template`` each; how many there are."""
    for step in range(1, MOST_STEPS):
        root = place / f"step{step}"
        shutil.copytree(template, root)
        outcome = stepper.run(lambda say, begin, root=root: function(root, say, begin), step)  # type: ignore[misc]  # bound at once
        try:
            check(root, outcome.said)
        except AssertionError as error:
            raise AssertionError(f"killed before step {step}") from error
        shutil.rmtree(root)
        if not outcome.killed:
            return step - 1
    raise AssertionError("too many steps")
