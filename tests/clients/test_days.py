"""A whole working day of each mail program that needs no screen; Thunderbird's is ``run.py thunderbird``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from day import DayFailed, evening, spend
from run import DAYS, missing

from tests.ports import free_port_base

pytestmark = pytest.mark.integration

WITHOUT_SCREEN = [name for name in DAYS if name != "thunderbird"]
AT_ONCE = 4
"""Days at the same time: the programs wait more than they work."""

Days = dict[str, Future[float]]


@pytest.fixture(scope="module")
def days(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Days]:
    """The days of all programs that are installed, each against a server of its own."""
    begun: Days = {}
    base = free_port_base()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for name in WITHOUT_SCREEN:
            if not missing(name):
                begun[name] = pool.submit(spend, name, DAYS[name][1], tmp_path_factory.mktemp(name), base)
                base = free_port_base(base)
        yield begun


@pytest.mark.parametrize("name", WITHOUT_SCREEN)
def test_a_working_day(name: str, days: Days) -> None:
    """Folders, subscriptions, flags and messages at the end are what the day leads to; no unexplained NO."""
    if name not in days:
        assert not os.environ.get("CI"), "deploy/test has to install the mail programs where CI runs"
        pytest.skip(f"not installed: {', '.join(missing(name))}")
    assert days[name].result() > 0


def test_an_unplanned_evening_fails(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A day on which nobody works is noticed: the comparison with the plan can fail."""
    folder = tmp_path_factory.mktemp("idle")
    with pytest.raises(DayFailed, match="Archive as planned"):
        spend("nobody", lambda day: None, folder)
    assert evening().mailboxes["Archive"]
