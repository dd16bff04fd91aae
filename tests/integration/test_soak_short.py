"""A short soak: all of ``python -m tests.soak`` for a few seconds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.integration, pytest.mark.crash]

PROJECT = Path(__file__).resolve().parents[2]


def test_nothing_is_lost_under_load_while_workers_die() -> None:
    """Fifteen seconds of everything, three kills; afterwards every message answered for is there."""
    arguments = ["--seconds", "15", "--idle", "40", "--kill-every", "4"]
    # How soon everybody is back is for the long run to say; here a slow machine may take its time.
    arguments += ["--back-within", "300"]
    done = subprocess.run(
        [sys.executable, "-m", "tests.soak", *arguments],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    assert "all is well" in done.stdout
