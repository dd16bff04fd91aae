"""A copy of a database that is to take its place: the syncs that are SQLite's own are not to be relied on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from unittest.mock import patch

from file_operations import Put, Record, Said, Sync
from steps import Say


@contextmanager
def syncs_told(say: Say) -> Iterator[None]:
    """Each fsync that is not SQLite's is told of, right before it."""
    fsync = os.fsync

    def told(descriptor: int) -> None:
        say(b"fsync")
        fsync(descriptor)

    with patch.object(os, "fsync", told):
        yield


def without_syncs_of_sqlite(made: Record) -> Record:
    """What SQLite does itself to have the copy on the disk, it promises nowhere (lang_vacuum.html)."""
    operations = made.operations
    (new,) = {one.node for one in operations if isinstance(one, Put) and one.name == "mail.db-new"}
    kept = [
        one for at, one in enumerate(operations) if one != Sync(new) or isinstance(operations[at - 1], Said)
    ]
    assert len(kept) < len(operations)
    return replace(made, operations=kept)
