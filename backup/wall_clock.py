"""Whether the wall clock can be trusted: age decides what is deleted, and the clock may be wrong.

A machine may start in 1970, or days ahead, and run like that until its clock is set. So the course of
the clock is noted in a file: after a jump, and after a gap between two runs, it has to run evenly for a day.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mailstore.durable import replace_file, storage_errors

log = logging.getLogger("sealbox.backup")

FILE = "clock"
"""Name of the file in the backup folder."""

JUMP_S = 3600.0
"""A wall clock that moves this much (s) more or less than time passes has jumped."""

GAP_S = 86_400.0
"""Longest time (s) without a look at the clock; after a longer one it may as well be wrong."""

DISTRUST_S = 86_400.0
"""Seconds for which a clock in doubt has to run evenly before it is trusted again."""


@dataclass(frozen=True, slots=True)
class Clocks:
    """Wall clock for what is written down, monotonic clock for waiting. Seconds."""

    wall: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic


@dataclass(frozen=True, slots=True)
class Look:
    """The result of a look at the wall clock. Times in seconds since the epoch."""

    wall_s: float
    doubt_s: float
    """Seconds for which it still has to run evenly before it is trusted."""

    sure_s: float
    """The latest time at which it was trusted; an earlier time cannot be right."""

    def next(self, wall_s: float, passed_s: float | None) -> Look:
        """The look after this one, ``passed_s`` later by another clock; None: after a restart."""
        gap_s = wall_s - self.wall_s
        least_s, most_s = (0.0, GAP_S - JUMP_S) if passed_s is None else (passed_s, passed_s)
        uneven = not least_s - JUMP_S <= gap_s <= most_s + JUMP_S
        doubt_s = DISTRUST_S if uneven else max(0.0, self.doubt_s - (passed_s or 0.0))
        return Look(wall_s, doubt_s, self.sure_s if doubt_s else max(self.sure_s, wall_s))


def read_look(file: Path) -> Look | None:
    """The last look in the file; None when there is none or it makes no sense. Raises StorageFailed."""
    with storage_errors():
        try:
            wall_s, doubt_s, sure_s = map(int, file.read_bytes().split())
        except (FileNotFoundError, ValueError):
            return None
    return Look(wall_s, doubt_s, sure_s)


class ClockWatch:
    """Looks at the wall clock, and compares it with the monotonic one and with earlier runs."""

    def __init__(
        self,
        file: Path,
        wall: Callable[[], float],
        monotonic: Callable[[], float],
        newest_ms: int | None = None,
    ) -> None:
        """``newest_ms`` (since the epoch) has certainly passed; it is used when no look was noted.

        Raises StorageFailed.
        """
        self._file = file
        self._wall = wall
        self._monotonic = monotonic
        self._looked_s = monotonic()
        before = read_look(file)
        if before is None and newest_ms is not None:
            before = Look(newest_ms / 1000, 0.0, newest_ms / 1000)
        # A clock of which nothing is known is not trusted at once.
        self._look = before.next(wall(), None) if before else Look(wall(), DISTRUST_S, wall())
        if before is not None:
            self._tell(before)

    @property
    def doubt_s(self) -> float:
        """Seconds for which the clock has to run evenly before it is trusted; 0 when it is."""
        return self._look.doubt_s

    @property
    def sure_ms(self) -> int:
        """The latest time at which the clock was trusted, in ms since the epoch."""
        return int(self._look.sure_s * 1000)

    def look(self) -> None:
        """Compare how the clocks have moved since the last look."""
        before, monotonic_s = self._look, self._monotonic()
        self._look = before.next(self._wall(), monotonic_s - self._looked_s)
        self._looked_s = monotonic_s
        self._tell(before)

    def _tell(self, before: Look) -> None:
        if self._look.doubt_s > before.doubt_s:
            hours = (self._look.wall_s - before.wall_s) / 3600
            log.error("the clock jumped by %.1f h: nothing expires until it has run evenly for a day", hours)

    def note(self) -> None:
        """Write the last look down for the next run. Raises StorageFailed, StorageFull."""
        look = self._look
        with storage_errors():
            replace_file(self._file, f"{int(look.wall_s)} {int(look.doubt_s)} {int(look.sure_s)}\n".encode())
