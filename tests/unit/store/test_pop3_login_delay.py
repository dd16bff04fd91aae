"""The delay between POP3 logins: the time of the last one is that of a file."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mailstore.pop3_login import may_log_in

NOW = 1_800_000_000.0


def test_the_first_login_is_free(tmp_path: Path) -> None:
    """Also when it comes within the delay after its file was made."""
    assert may_log_in(tmp_path, 3600, time.time() + 1800)
    assert not may_log_in(tmp_path, 3600, time.time() + 1800)


def test_one_login_each_delay(tmp_path: Path) -> None:
    """The first is free; refused ones do not move the time of the last."""
    asked = [0, 1, 59, 60, 61, 119, 120]
    found = [may_log_in(tmp_path, 60, NOW + second) for second in asked]
    assert found == [True, False, False, True, False, False, True]


def test_a_clock_that_was_set_back_keeps_nobody_out(tmp_path: Path) -> None:
    """The last login cannot have been in the future."""
    assert may_log_in(tmp_path, 60, NOW)
    assert may_log_in(tmp_path, 60, NOW - 86_400)
    assert not may_log_in(tmp_path, 60, NOW - 86_399)


def test_of_logins_at_the_same_time_one_passes(tmp_path: Path) -> None:
    """Also when the account never had one before, and when its last one is long ago."""
    with ThreadPoolExecutor(8) as threads:
        for second in range(0, 600, 60):
            answers = [threads.submit(may_log_in, tmp_path, 60, NOW + second) for _ in range(8)]
            assert sum(answer.result() for answer in answers) == 1
