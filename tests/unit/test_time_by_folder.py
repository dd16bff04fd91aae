"""The table at the end of a test run."""

from __future__ import annotations

import pytest
from time_by_folder import table


def report(nodeid: str, seconds: float) -> pytest.TestReport:
    """One phase of a test."""
    return pytest.TestReport(nodeid, ("", None, ""), {}, "passed", None, "call", duration=seconds)


def test_time_is_told_by_folder_the_slowest_first() -> None:
    """A test is counted once, whatever its set-up and its end took."""
    phases = [
        report("tests/unit/test_a.py::test_one", 0.25),
        report("tests/unit/test_a.py::test_one", 0.5),
        report("tests/unit/test_b.py::test_one[a/b::c]", 0.25),
        report("tests/unit/imap/test_c.py::test_one", 10.0),
    ]
    assert table(phases) == [
        "    10.0 s       1 tests  tests/unit/imap",
        "     1.0 s       2 tests  tests/unit",
    ]


def test_a_run_of_one_folder_has_no_table() -> None:
    """There pytest's --durations says more."""
    assert table([report("tests/unit/test_a.py::test_one", 0.5)] * 2) == []
