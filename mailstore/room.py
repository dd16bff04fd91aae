"""Free space on the volume, checked before SQLite maps memory that the disk may not be able to back.

SQLite maps the index of its log (``-shm``). When it lengthens that file it writes one octet in each 4096, so
that a full disk is an error and not a page fault (os_unix.c, ``unixShmMap``). On file systems with smaller
blocks, or that copy on write, the rest of a page is allocated only when it is first written to; if that fails
the kernel sends SIGBUS, and everybody's session ends with the process. So the space is checked first.
Something else that fills the disk at that very moment can still take it.
"""

from __future__ import annotations

import os
from pathlib import Path

from mailstore.errors import StorageFull

ROOM_TO_OPEN_BYTES = 96 * 1024
"""Least free space to open a database that nobody has open: its index, and the file system's overhead."""

ROOM_TO_WRITE_BYTES = 256 * 1024
"""Least free space to begin a write transaction, so that logins still work when writing stops."""

ROOM_TO_FILE_BYTES = 2 * ROOM_TO_WRITE_BYTES
"""Least free space that filing leaves, so that others can still delete, and log in for the first time."""

MARGIN_SHARE = 16
"""On a small volume, new mail leaves this fraction of it free: one part in so many."""

INDEX_BYTES = 32 * 1024
"""Size of a WAL's index for the first, and every further, ``_WAL_BYTES`` of WAL."""

_WAL_BYTES = 4096 * 4096
_STAT_BLOCK_BYTES = 512


def free_bytes(folder: Path) -> int | None:
    """Free bytes for unprivileged users on the volume of ``folder``; None if unknown. Raises OSError."""
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize if found.f_blocks else None


def require_room(folder: Path, needed_bytes: int) -> None:
    """Raises StorageFull when fewer octets are free on the volume of ``folder``. Raises OSError."""
    free = free_bytes(folder)
    if free is not None and free < needed_bytes:
        raise StorageFull("the disk is full")


def require_margin(folder: Path, margin_bytes: int, new_bytes: int) -> None:
    """Raises StorageFull when ``new_bytes`` would not leave the margin free. Raises OSError.

    New mail stops there, so that logins, filing and deleting still have room.
    """
    found = os.statvfs(folder)
    margin_bytes = min(margin_bytes, found.f_blocks * found.f_frsize // MARGIN_SHARE)
    require_room(folder, margin_bytes + new_bytes)


def log_bytes(database: Path) -> int:
    """Size of a database's WAL; a checkpoint may need as much in its main file. Raises OSError."""
    found = _stat(database, "-wal")
    return 0 if found is None else found.st_size


def is_full(folder: Path) -> bool:
    """Whether so little is free that SQLite's I/O errors are due to that. Raises OSError."""
    free = free_bytes(folder)
    return free is not None and free < ROOM_TO_OPEN_BYTES


def volume_of(path: Path) -> str:
    """The mount point of the volume of ``path`` and its free space, for the operator."""
    folder = path.absolute()
    while not folder.is_dir() or not (folder.is_mount() or folder == folder.parent):
        folder = folder.parent
    try:
        free = free_bytes(folder)
    except OSError:
        free = None
    return str(folder) if free is None else f"{folder}, {free // 1024} KiB free"


def require_room_to_open(database: Path) -> None:
    """Raises StorageFull if there may be too little space to open a database. Raises OSError.

    An index that another connection has created needs none.
    """
    index = _stat(database, "-shm")
    needed = INDEX_BYTES * (1 + log_bytes(database) // _WAL_BYTES)
    if index is None or index.st_blocks * _STAT_BLOCK_BYTES < needed:
        require_room(database.parent, ROOM_TO_OPEN_BYTES - INDEX_BYTES + needed)


def _stat(database: Path, ending: str) -> os.stat_result | None:
    try:
        return database.with_name(database.name + ending).stat()
    except FileNotFoundError:
        return None
