"""Points in time as commands print and take them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backup.moment import utc_ms
from deploy.cli.root import Refusal
from deploy.cli.snapshot_store import parse_time


@given(st.integers(0, 4_000_000_000_000))
def test_what_is_printed_is_taken_for_the_same_moment(ms: int) -> None:
    """To the millisecond: a point in time that was listed is the one that is restored."""
    assert parse_time(utc_ms(ms)) == ms


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        (None, None),
        ("2026-11-21T08:30:00Z", 1_795_249_800_000),
        ("2026-11-21T08:30:00", 1_795_249_800_000),
        ("2026-11-21T09:30:00.250+01:00", 1_795_249_800_250),
        ("2026-11-21", 1_795_219_200_000),
    ],
)
def test_times_that_people_write(text: str | None, ms: int | None) -> None:
    """Without a zone it is UTC, without a time the beginning of the day."""
    assert parse_time(text) == ms


@pytest.mark.parametrize("text", ["", "yesterday", "2026-13-01", "08:30"])
def test_what_is_no_time_is_refused(text: str) -> None:
    """With an example of how to write it."""
    with pytest.raises(Refusal, match="2026"):
        parse_time(text)
