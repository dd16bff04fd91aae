"""A short run of every fuzz target: all seeds, a fixed number of fixed mutations, and all earlier finds."""

from __future__ import annotations

import itertools

import pytest

from tests.fuzz.mutation import inputs
from tests.fuzz.target import Target, finds_of
from tests.fuzz.targets import TARGETS

MUTATIONS = 60


@pytest.mark.parametrize("target", TARGETS.values(), ids=lambda one: one.name)
def test_seeds_and_some_mutations(target: Target) -> None:
    """No input makes a target fail; the same inputs in every run, so that a failure can be repeated."""
    count = len(target.seeds()) + MUTATIONS
    for data in itertools.islice(inputs(target, 1), count):
        target.run(data)


@pytest.mark.parametrize(
    ("target", "path"),
    [(target, path) for target in TARGETS.values() for path in finds_of(target)],
    ids=lambda one: one.name,
)
def test_earlier_finds(target: Target, path) -> None:  # type: ignore[no-untyped-def]  # a Path
    """What failed once does not fail again."""
    target.run(path.read_bytes())
