"""How far an account's search index has come, for an operator, who has no key to look into it.

While messages are left to be indexed, ``search.db-progress`` holds two counts: how many are in the index, and
how many there are. It is removed when all are.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum

from mailstore.account import AccountPaths
from mailstore.durable import FILE_MODE, storage_errors

_RECORD = re.compile(rb"(\d{12}) (\d{12})\n")
"""Of one length, so that it is written over in one step."""


class IndexState(Enum):
    """What can be known of a search index without its key."""

    NONE = "none"
    """It is made while the account is open."""
    PARTIAL = "partial"
    """Not all messages are in it, or were not when the account was closed."""
    COMPLETE = "complete"
    """Nothing was left to index when it was last looked at."""


@dataclass(frozen=True, slots=True)
class IndexProgress:
    """How many messages are in the index, and how many there are; None where that is not known."""

    state: IndexState
    indexed: int | None = None
    messages: int | None = None


def note_progress(paths: AccountPaths, indexed: int, messages: int) -> None:
    """Say that so many of the messages are in the index. That it cannot be written matters to nobody."""
    with suppress(OSError):
        descriptor = os.open(paths.search_progress, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
        try:
            os.pwrite(descriptor, b"%012d %012d\n" % (indexed, messages), 0)
        finally:
            os.close(descriptor)


def note_complete(paths: AccountPaths) -> None:
    """All messages are in the index."""
    with suppress(OSError):
        paths.search_progress.unlink(missing_ok=True)


def index_progress(paths: AccountPaths) -> IndexProgress:
    """What is known of an account's index. Raises StorageFailed."""
    with storage_errors():
        if not paths.search_db.exists():
            return IndexProgress(IndexState.NONE)
        try:
            found = _RECORD.fullmatch(paths.search_progress.read_bytes())
        except FileNotFoundError:
            return IndexProgress(IndexState.COMPLETE)
    if found is None:
        return IndexProgress(IndexState.PARTIAL)
    return IndexProgress(IndexState.PARTIAL, int(found[1]), int(found[2]))
