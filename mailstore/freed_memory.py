"""Memory of logins and closed databases goes back to the system, not only to the C library's heaps."""

from __future__ import annotations

import ctypes

from mailstore.clock import Clock
from mailstore.executor import Executor

AFTER_S = 5.0
"""Seconds from the first login, or account that falls asleep: what comes meanwhile is done in the same go."""

_libc = ctypes.CDLL(None)


class FreedMemory:
    """For one worker. All methods run on the reactor's thread."""

    def __init__(self, clock: Clock, executor: Executor) -> None:
        self._clock = clock
        self._executor = executor
        self._is_due = False

    def soon(self) -> None:
        """Much has been freed: give it back, in a thread."""
        if not self._is_due:
            self._is_due = True
            self._clock.callLater(AFTER_S, self._now)

    def _now(self) -> None:
        self._is_due = False
        self._executor.call(give_back).addErrback(lambda _failure: None)  # the worker is stopping


def give_back() -> None:
    """Have the heaps of all threads return whole pages of free memory; does nothing without glibc."""
    trim = getattr(_libc, "malloc_trim", None)
    if trim is not None:
        trim(0)
