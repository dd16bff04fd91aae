"""Removes what restores have set aside when it expires, on servers without a snapshot process."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from backup.wall_clock import FILE as CLOCK_FILE
from backup.wall_clock import ClockWatch
from mailstore.set_aside import remove_expired


class Leftovers:
    """For one data root. The methods block; call them in threads, one at a time."""

    def __init__(
        self, root: Path, wall: Callable[[], float], monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._root = root
        self._wall = wall
        self._monotonic = monotonic
        self._watch: ClockWatch | None = None

    def _looked(self) -> ClockWatch:
        if self._watch is None:
            self._watch = ClockWatch(self._root / CLOCK_FILE, self._wall, self._monotonic)
        self._watch.look()
        return self._watch

    def remove(self, kept_s: float) -> int:
        """Remove what is older than ``kept_s``; returns how many, 0 while the clock is in doubt.

        Raises StorageFailed, StorageFull.
        """
        watch = self._looked()
        watch.note()
        return 0 if watch.doubt_s else remove_expired(self._root, self._wall(), kept_s)

    def stop(self) -> None:
        """Note the course of the clock, for the next start. Raises StorageFailed, StorageFull."""
        self._looked().note()
