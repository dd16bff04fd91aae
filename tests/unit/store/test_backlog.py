"""How much sealed mail waits, told from names alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from mailstore.backlog import Backlog, sealed_everywhere
from mailstore.sealed import arrived_s, new_sealed_id


def put(root: Path, account: str, *names: str) -> None:
    """Files in the inbox of an account."""
    inbox = root / "accounts" / account[:2] / account / "inbox"
    inbox.mkdir(parents=True, exist_ok=True)
    for name in names:
        (inbox / name).touch()


def sealed(seconds: int) -> str:
    """The name of a message that arrived then."""
    return new_sealed_id(clock_ns=lambda: seconds * 1_000_000_000) + ".sealed"


def test_messages_of_all_accounts_and_the_oldest(tmp_path: Path) -> None:
    """What is being delivered, damaged or no message does not count."""
    put(tmp_path, "ab" * 16, sealed(3000), sealed(2000))
    put(tmp_path, "cd" * 16, sealed(2500), ".0000000000000001-0000000000000001.tmp", "x.damaged")
    put(tmp_path, "ef" * 16)
    assert sealed_everywhere(tmp_path) == Backlog(3, 2, 2000.0)


def test_no_accounts(tmp_path: Path) -> None:
    """A new server, or one whose folders somebody has replaced by files."""
    assert sealed_everywhere(tmp_path) == Backlog()
    (tmp_path / "accounts" / "ab" / ("ab" * 16)).mkdir(parents=True)
    (tmp_path / "accounts" / "ab" / ("ab" * 16) / "inbox").touch()
    assert sealed_everywhere(tmp_path) == Backlog()


@pytest.mark.parametrize("name", ["", "x", "0123.sealed", "g" * 16 + "-" + "0" * 16])
def test_a_name_that_tells_no_time(name: str) -> None:
    """It is taken for very old, so that somebody looks."""
    assert arrived_s(name) == 0.0
