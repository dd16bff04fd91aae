"""Where the time of a test run went: a small table at its end, by folder."""

from __future__ import annotations

from collections.abc import Iterable

import pytest


def table(reports: Iterable[pytest.TestReport]) -> list[str]:
    """One line per folder with its tests and seconds, the slowest first; nothing where one folder ran.

    The seconds are those of the tests with their fixtures; importing and collecting them is not in it.
    """
    seconds: dict[str, float] = {}
    tests: dict[str, set[str]] = {}
    for report in reports:
        folder = report.nodeid.partition("::")[0].rpartition("/")[0]
        seconds[folder] = seconds.get(folder, 0.0) + report.duration
        tests.setdefault(folder, set()).add(report.nodeid)
    if len(seconds) < 2:
        return []
    slowest_first = sorted(seconds, key=lambda folder: (-seconds[folder], folder))
    return [f"{seconds[one]:8.1f} s  {len(tests[one]):6d} tests  {one}" for one in slowest_first]
