"""Fixtures of the door's tests."""

from __future__ import annotations

import pytest
from https_world import HttpsWorld


@pytest.fixture
def world() -> HttpsWorld:
    """A door."""
    return HttpsWorld()
