"""Files that somebody else has put into a folder: only ordinary ones are read, and no link is followed."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from mailstore.transfer.source import Reason, Unusable

LARGEST_LIST_BYTES = 256 * 1024 * 1024
"""Largest file of names (keywords, UIDs, subscriptions) that is read."""


class NotUsable(Exception):
    """The file cannot be used; ``reason`` says why."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.value)
        self.reason = reason


def open_ordinary(path: Path) -> int:
    """A descriptor for an ordinary file. Raises NotUsable."""
    try:
        # A FIFO would make open() wait for a writer, so it must not block.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        reason = Reason.NO_FILE if path.is_symlink() else Reason.UNREADABLE
        raise NotUsable(reason) from None
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise NotUsable(Reason.NO_FILE)


def read_ordinary(path: Path, at_most_bytes: int) -> tuple[bytes, int]:
    """A file's content and when it was last changed (epoch s). Raises NotUsable."""
    descriptor = open_ordinary(path)
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        status = os.fstat(descriptor)
        if status.st_size > at_most_bytes:
            raise NotUsable(Reason.TOO_LARGE)
        try:
            data = file.read(at_most_bytes + 1)
        except OSError:
            raise NotUsable(Reason.UNREADABLE) from None
    if len(data) > at_most_bytes:
        raise NotUsable(Reason.TOO_LARGE)  # it grows
    return data, int(status.st_mtime)


def read_list(path: Path) -> bytes:
    """The content of a file of names; empty where there is none that can be used."""
    try:
        return read_ordinary(path, LARGEST_LIST_BYTES)[0]
    except NotUsable:
        return b""


def unusable(root: Path, path: Path, reason: Reason, source_bytes: int = 0) -> Unusable:
    """What to say of a file below ``root`` that cannot be imported."""
    return Unusable(ascii(os.fspath(path.relative_to(root))), reason, source_bytes)
