"""What commands say to people in one way: counts and times. Sizes: ``tests/unit/test_account_cli.py``."""

from __future__ import annotations

import pytest

from deploy.texts import counted, size_text, utc_s


@pytest.mark.parametrize(
    ("number", "words", "text"),
    [
        (0, ("session",), "0 sessions"),
        (1, ("session",), "1 session"),
        (2, ("session",), "2 sessions"),
        (1, ("mailbox", "mailboxes"), "1 mailbox"),
        (3, ("mailbox", "mailboxes"), "3 mailboxes"),
    ],
)
def test_one_is_no_plural(number: int, words: tuple[str, ...], text: str) -> None:
    """Whatever is counted."""
    assert counted(number, *words) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [(9 * 2**20, "9.00 MiB"), (2**40 - 1, "1024 GiB"), (100 * 2**30, "100 GiB"), (3 * 2**60, "3072 PiB")],
)
def test_units_are_those_of_powers_of_1024(size: int, text: str) -> None:
    """A GB is something else."""
    assert size_text(size) == text


def test_times_are_those_of_snapshots_without_their_milliseconds() -> None:
    """So that they can be compared, and sorted."""
    assert utc_s(1_700_000_000) == "2023-11-14T22:13:20Z"
