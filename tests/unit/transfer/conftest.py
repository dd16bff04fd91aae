"""Fixtures of the tests of moving in and out."""

from __future__ import annotations

from pathlib import Path

import pytest
from transfer_world import TransferWorld


@pytest.fixture
def world(tmp_path: Path) -> TransferWorld:
    """A data root with two accounts."""
    return TransferWorld(tmp_path / "data")
