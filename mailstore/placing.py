"""One at a time put the folder of an account in its place before the directory gives this node the account.

Moves and recoveries do that, in processes of their own. Each looks inside the lock whether the directory
still means what it has built, so that neither takes away what the other one was given. Nor does a move that
puts away what has gone from here: the account may have come back meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mailstore.durable import make_folder, storage_errors
from mailstore.locks import LOCK_TIMEOUT_S, locked
from mailstore.set_aside import SCRATCH

_LOCK = SCRATCH.with_name("placing.lock")


@contextmanager
def placing(root: Path, timeout_s: float = LOCK_TIMEOUT_S) -> Iterator[None]:
    """Nobody else places or takes away a folder meanwhile. Raises Busy, StorageFailed, StorageFull."""
    with storage_errors():
        make_folder(root / _LOCK.parent)
    with locked(root / _LOCK, exclusive=True, timeout_s=timeout_s):
        yield
