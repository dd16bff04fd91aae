"""How much disk space new mail must leave free."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mailstore.damage import TELL_AGAIN_S, disk_full
from mailstore.durable import storage_errors
from mailstore.errors import StorageFull
from mailstore.keys import AccountId
from mailstore.room import require_margin


class Margin:
    """For all deliveries and APPENDs of a worker; used in threads."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._tell_from_s = time.monotonic()

    @contextmanager
    def kept(self, account_id: AccountId, margin_bytes: int, new_bytes: int) -> Iterator[None]:
        """Check on entry that ``new_bytes`` fit beside the margin. Raises StorageFull, StorageFailed."""
        try:
            with storage_errors():
                require_margin(self._root, margin_bytes, new_bytes)
            yield
        except StorageFull:
            self._tell(account_id)
            raise

    def _tell(self, account_id: AccountId) -> None:
        # It does no harm if two threads log it at once.
        now_s = time.monotonic()
        if now_s >= self._tell_from_s:
            self._tell_from_s = now_s + TELL_AGAIN_S
            disk_full(f"account {account_id}: new mail is refused", self._root)
