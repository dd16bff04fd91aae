"""How far an account's search index has come, for an operator, who has no key to look into it.

``search.db-progress`` holds two counts: how many messages are in the index, and how many there are. Both are
0 when nothing was left to index. Without the file, or with other content, nothing is known.
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
"""Of one length, so that it is written over in one step, and on a full disk too."""

_COMPLETE = b"%012d %012d\n" % (0, 0)
_UNKNOWN = b"-" * (len(_COMPLETE) - 1) + b"\n"


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
        _write(paths, b"%012d %012d\n" % (indexed, messages), os.O_CREAT)


def note_complete(paths: AccountPaths) -> None:
    """All messages are in the index."""
    note_progress(paths, 0, 0)


def note_change(paths: AccountPaths) -> None:
    """There may be more to index than was known: from now on nobody is told that all is in it."""
    with suppress(OSError):
        if paths.search_progress.read_bytes() == _COMPLETE:
            _write(paths, _UNKNOWN, 0)


def _write(paths: AccountPaths, record: bytes, flags: int) -> None:
    descriptor = os.open(paths.search_progress, os.O_WRONLY | os.O_CLOEXEC | flags, FILE_MODE)
    try:
        os.pwrite(descriptor, record, 0)
    finally:
        os.close(descriptor)


def index_progress(paths: AccountPaths) -> IndexProgress:
    """What is known of an account's index. Raises StorageFailed."""
    with storage_errors():
        if not paths.search_db.exists():
            return IndexProgress(IndexState.NONE)
        try:
            record = paths.search_progress.read_bytes()
        except FileNotFoundError:
            record = _UNKNOWN
    if record == _COMPLETE:
        return IndexProgress(IndexState.COMPLETE)
    found = _RECORD.fullmatch(record)
    if found is None:
        return IndexProgress(IndexState.PARTIAL)
    return IndexProgress(IndexState.PARTIAL, int(found[1]), int(found[2]))
