"""How loaded a worker is: the reactor's lag, and how much waits for threads.

``is_high`` decides; it is pure. What can wait for a day is put off then
(``protocols.imap.commands.shedding``).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from protocols.limits import LoadLimits

MEASURE_EVERY_S = 1.0
"""Seconds between two looks at the reactor's lag."""

MEASUREMENTS = 10
"""How many of them the lag averages: one long garbage collection is not load."""


@dataclass(frozen=True, slots=True)
class Load:
    """A worker at one moment. ``lag_s`` is a mean over the last ``MEASUREMENTS``, in seconds."""

    lag_s: float = 0.0
    waiting_jobs: int = 0
    """Database work that waits for a thread."""
    waiting_logins: int = 0
    """Logins that wait for a thread or for memory."""


def idle() -> Load:
    """No load, for workers that are not measured."""
    return Load()


def is_high(load: Load, limits: LoadLimits) -> bool:
    """Whether the load is high enough that background work should be refused."""
    return (
        load.lag_s >= limits.lag_s
        or load.waiting_jobs >= limits.waiting_jobs
        or load.waiting_logins >= limits.waiting_logins
    )


class LoadMeter:
    """Measures one worker. ``clock`` is the reactor."""

    def __init__(
        self, clock: Any, waiting_jobs: Callable[[], int], waiting_logins: Callable[[], int]
    ) -> None:
        self._clock = clock
        self._waiting_jobs, self._waiting_logins = waiting_jobs, waiting_logins
        self._lags: deque[float] = deque(maxlen=MEASUREMENTS)
        self._due_s = 0.0
        self._call: Any = None

    def start(self) -> None:
        """Begin to measure."""
        self._due_s = self._clock.seconds() + MEASURE_EVERY_S
        self._call = self._clock.callLater(MEASURE_EVERY_S, self._measure)

    def stop(self) -> None:
        """Stop measuring; does nothing if it has not begun."""
        call, self._call = self._call, None
        if call is not None:
            call.cancel()

    def _measure(self) -> None:
        self._lags.append(max(self._clock.seconds() - self._due_s, 0.0))
        self.start()

    def load(self) -> Load:
        """The current load."""
        # Missing measurements count as zero, so a new worker does not look busy.
        return Load(sum(self._lags) / MEASUREMENTS, self._waiting_jobs(), self._waiting_logins())
