"""Close an account in all processes, and keep it closed, while its files are exchanged.

The file ``leave`` in the account's folder asks for it; it counts only while its creator holds a lock on it,
so a crash locks nobody out. Deliveries continue: they need only the inbox. The file ``moving``
(``mailstore.move_mark``) asks for it, too, and stays when its creator has died.
"""

from __future__ import annotations

import fcntl
import os
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager

from mailstore.account import AccountPaths, exclusive_lock
from mailstore.durable import storage_errors
from mailstore.errors import Busy
from mailstore.locks import HeldLock, locked

_POLL_S = 0.05
_FLOCK = "hhqqi4x"
"""struct flock on 64-bit Linux: type, whence, start, length, process."""

_SQLITE_LOCKS = 0x40000000, 512
"""The octets of a database that SQLite locks: part of its file format."""


def asked_to_leave(paths: AccountPaths) -> bool:
    """Whether the account is to be closed, or to stay closed, now. Raises StorageFailed."""
    with storage_errors():
        if paths.moving.exists():
            return True
        if not paths.leave.exists():
            return False
    try:
        with locked(paths.leave, exclusive=False, timeout_s=0.0):
            return False  # its creator is dead
    except Busy:
        return True


@contextmanager
def evicted(paths: AccountPaths, timeout_s: float) -> Iterator[HeldLock]:
    """Inside, no process has the account open, and its lock is held. Not for a process that has it open
    itself, but for what it opens and closes inside; the held lock is the account's.

    Raises:
        Busy: sessions, or a snapshot, did not end in time. StorageFailed, StorageFull.
    """
    temporary = paths.leave.with_name(f".{paths.leave.name}.{os.urandom(4).hex()}.tmp")
    # Locked before anybody can see it.
    with locked(temporary, exclusive=True), storage_errors():
        try:
            temporary.rename(paths.leave)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        try:
            until = time.monotonic() + timeout_s
            while True:
                _wait_until_closed(paths, until)
                with exclusive_lock(paths) as held:
                    # Whoever checked before ``leave`` existed may have opened it since, under that lock.
                    if not _is_open(paths):
                        yield held
                        return
        finally:
            paths.leave.unlink(missing_ok=True)


def is_closed(paths: AccountPaths) -> bool:
    """Whether nobody has the account open, and nobody opens it as long as ``moving`` is there.

    Not for a process that opens accounts. Raises StorageFailed, NoSuchAccount.
    """
    try:
        # Whoever checked before ``moving`` existed has opened it under that lock, or will not.
        with exclusive_lock(paths, 0.0), storage_errors():
            return not _is_open(paths)
    except Busy:
        return False


def _wait_until_closed(paths: AccountPaths, until: float) -> None:
    while _is_open(paths):
        if time.monotonic() > until:
            raise Busy
        time.sleep(_POLL_S)


def _is_open(paths: AccountPaths) -> bool:
    """Whether any other process has the database open: SQLite then holds a shared lock on it (POSIX)."""
    try:
        descriptor = os.open(paths.mail_db, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        query = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, *_SQLITE_LOCKS, 0)
        answer = struct.unpack(_FLOCK, fcntl.fcntl(descriptor, fcntl.F_GETLK, query))
        return bool(answer[0] != fcntl.F_UNLCK)
    finally:
        os.close(descriptor)
