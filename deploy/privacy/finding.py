"""What a check has found. No text in it names an account, an address or a mailbox: ids and inodes at most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

MENTIONED = 5
"""Things that a finding names one by one; the rest is counted."""


class State(StrEnum):
    """How a promise was found, as far as one check looks."""

    HOLDS = "holds"
    BROKEN = "NOT KEPT"
    UNSEEN = "not seen"


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check.

    ``promises`` are the numbers in the table of SECURITY.md; ``said`` is what was looked at and how it was
    found; ``step`` is what the operator does next, empty where nothing is to be done.
    """

    promises: tuple[int, ...]
    check: str
    state: State
    said: str
    step: str = ""


@dataclass(frozen=True, slots=True)
class Check:
    """Makes the findings of one check: its name and the promises that it is about."""

    name: str
    promises: tuple[int, ...]

    def holds(self, said: str) -> Finding:
        """All that was looked at is as promised."""
        return Finding(self.promises, self.name, State.HOLDS, said)

    def broken(self, said: str, step: str) -> Finding:
        """It is not as promised."""
        return Finding(self.promises, self.name, State.BROKEN, said, step)

    def unseen(self, said: str, step: str) -> Finding:
        """It could not be looked at, so nothing is known."""
        return Finding(self.promises, self.name, State.UNSEEN, said, step)


def listed(things: Sequence[str]) -> str:
    """The first of ``things``, and how many more there are."""
    more = len(things) - MENTIONED
    return ", ".join(things[:MENTIONED]) + (f" and {more} more" if more > 0 else "")
