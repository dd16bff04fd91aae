"""Crash tests use the worlds of the store's tests and of the integration tests."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

_TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(_TESTS / name) for name in ("integration", "unit", "unit/store", "unit/transfer")]

_IN_MEMORY = Path("/dev/shm")


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A folder for hundreds of data roots, in memory where there is such a place.

    Only what is in it counts here, not what its disk keeps. States that failed are left in ``tmp_path``.
    """
    if not os.access(_IN_MEMORY, os.W_OK):
        yield tmp_path
        return
    folder = Path(tempfile.mkdtemp(prefix="sealbox-", dir=_IN_MEMORY))
    try:
        yield folder
        for left in folder.glob("cut*"):
            shutil.copytree(left, tmp_path / left.name)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
