"""Imports of the days: the running server comes from the integration tests."""

from __future__ import annotations

import sys
from pathlib import Path

_TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(_TESTS / "clients"), str(_TESTS / "integration")]
