"""The delay between two POP3 logins of one account (RFC 2449 sections 6.5 and 8.1.1).

The time of the last one is that of a file in the account's folder, so it holds over workers and restarts.
"""

from __future__ import annotations

import os
from pathlib import Path

from mailstore.durable import storage_errors
from mailstore.locks import locked

FILE_NAME = "pop3-login"


def may_log_in(folder: Path, delay_s: int, now: float) -> bool:
    """Whether ``delay_s`` have passed since the last POP3 login; if so this one, at ``now``, is the last.

    ``now`` is in seconds since the epoch. If several ask at once, one gets True. Blocks.
    Raises Busy, StorageFull, StorageFailed.
    """
    path = folder / FILE_NAME
    with locked(path, exclusive=True), storage_errors():
        found = path.stat()
        # Locking creates the file, so an empty one means nothing yet. A time in the future means that the
        # clock was set back: nobody has to wait because of that.
        if found.st_size and 0 <= now - found.st_mtime < delay_s:
            return False
        if not found.st_size:
            path.write_bytes(b"\n")
        os.utime(path, (now, now))
    return True
