"""Fixtures of the store's tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from store_world import World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A fresh store with one account."""
    made = World(tmp_path / "root")
    yield made
    made.close()


@pytest.fixture
def beside(world: World) -> Iterator[World]:
    """Another worker over the same data."""
    made = World(world.root)
    yield made
    made.close()
