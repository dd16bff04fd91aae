"""flock between processes and threads, with a time limit."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mailstore.durable import FILE_MODE, storage_errors
from mailstore.errors import Busy

LOCK_TIMEOUT_S = 30.0
_POLL_FIRST_S, _POLL_MAX_S = 0.0005, 0.01


@dataclass(slots=True)
class HeldLock:
    """Proof that its holder has a lock file locked, for as long as ``is_held``."""

    path: Path
    exclusive: bool
    is_held: bool = True


@contextmanager
def locked(path: Path, *, exclusive: bool, timeout_s: float = LOCK_TIMEOUT_S) -> Iterator[HeldLock]:
    """Hold the lock file ``path``. Blocks: call it in a thread.

    Each call has an open file of its own, so threads of one process exclude each other as well.
    Raises Busy after ``timeout_s``, StorageFailed if the file cannot be opened.
    """
    with storage_errors():
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
    held: HeldLock | None = None
    try:
        _acquire(descriptor, fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH, timeout_s)
        held = HeldLock(path, exclusive)
        yield held
    finally:
        if held is not None:
            held.is_held = False
        os.close(descriptor)


def _acquire(descriptor: int, operation: int, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    pause_s = _POLL_FIRST_S
    while True:
        try:
            fcntl.flock(descriptor, operation | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise Busy from None
            time.sleep(pause_s)
            pause_s = min(pause_s * 2, _POLL_MAX_S)
        else:
            return
