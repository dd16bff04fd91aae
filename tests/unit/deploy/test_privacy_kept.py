"""What restores and deletions have left: in time, past it, and of accounts that are gone."""

from __future__ import annotations

from pathlib import Path

import pytest
from privacy_world import ACCOUNT

from deploy.privacy import kept
from deploy.privacy.finding import MENTIONED, State, listed
from mailstore.set_aside import Copy

DAY_S = 86_400.0
KEPT_S = 10 * DAY_S
NOW_S = 1_800_000_000.0


def aside(days: float, accounts: set[str]) -> State:
    """What is found of a copy of so many days."""
    copy = Copy(Path(f"/data/replaced/{ACCOUNT}-1"), NOW_S - days * DAY_S, 17)
    return kept.set_aside([copy], accounts, KEPT_S, NOW_S).state


def test_a_copy_past_its_time_or_of_a_gone_account_is_seen() -> None:
    """A day after its time at the latest: the server removes by the hour, once it believes the clock."""
    assert aside(0, {ACCOUNT}) is State.HOLDS
    assert aside(10.9, {ACCOUNT}) is State.HOLDS
    assert aside(11.1, {ACCOUNT}) is State.BROKEN
    assert aside(0, set()) is State.BROKEN


@pytest.mark.parametrize(("unfinished", "orphans"), [([ACCOUNT], []), ([], [ACCOUNT])])
def test_a_deletion_that_was_interrupted_is_seen(unfinished: list[str], orphans: list[str]) -> None:
    """By an account without keys, or a folder without an account; the id is told, nothing else is known."""
    found = kept.deletions(unfinished, orphans)
    assert (found.state, found.promises) == (State.BROKEN, (8,))
    assert ACCOUNT in found.said
    assert kept.deletions([], []).state is State.HOLDS


def test_many_things_are_counted() -> None:
    """A finding stays short."""
    assert listed(["a"]) == "a"
    assert listed([str(number) for number in range(MENTIONED + 7)]) == "0, 1, 2, 3, 4 and 7 more"
