"""How much sealed mail waits in all inboxes of a data root, told from the names of files alone."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from mailstore.inbox_size import FORMER_KEY, SUFFIX
from mailstore.sealed import arrived_s


@dataclass(frozen=True, slots=True)
class Backlog:
    """Sealed messages. Most are of users who have not logged in since: only those can open them."""

    messages: int = 0
    accounts: int = 0
    """Accounts that have any."""
    oldest_s: float | None = None
    """When the oldest arrived, in seconds since the epoch; None where there is none."""


def sealed_everywhere(root: Path) -> Backlog:
    """What waits below ``root``; folders that vanish meanwhile are left out.

    Reads the names in every inbox, and so takes time where there are many. Raises OSError.
    """
    messages = accounts = 0
    oldest: float | None = None
    for inbox in (root / "accounts").glob("*/*/inbox"):
        try:
            everything = os.listdir(inbox)  # noqa: PTH208 - names only
        except (FileNotFoundError, NotADirectoryError):
            continue
        names = [one for one in everything if one.endswith(SUFFIX) and not one.startswith(FORMER_KEY)]
        if names:
            messages += len(names)
            accounts += 1
            first = arrived_s(min(names))
            oldest = first if oldest is None else min(oldest, first)
    return Backlog(messages, accounts, oldest)
