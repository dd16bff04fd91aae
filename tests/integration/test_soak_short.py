"""A short soak: all of ``python -m tests.soak`` for a few seconds."""

from __future__ import annotations

import pytest

from tests.soak.__main__ import main

pytestmark = [pytest.mark.integration, pytest.mark.crash]


def test_nothing_is_lost_under_load_while_workers_die(capsys: pytest.CaptureFixture[str]) -> None:
    """Fifteen seconds of everything, three kills; afterwards every message answered for is there."""
    code = main(["--seconds", "15", "--idle", "40", "--kill-every", "4"])
    said = capsys.readouterr().out
    assert code == 0, said
    assert "all is well" in said
