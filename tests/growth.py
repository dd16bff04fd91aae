"""How the cost of something grows with its input: in CPU time of this thread, or in lines of Python run."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

TraceFunction = Callable[[FrameType, str, Any], Any]

LINEAR_AT_MOST = 10.0
"""Four times the input costs four times as much where cost is linear, sixteen times where it is quadratic."""

_RUNS = 3


def growth(prepare: Callable[[int], Callable[[], object]], size: int) -> float:
    """How many times as long the work takes for ``4 * size``; the best of some runs of each.

    ``prepare(n)`` makes the work for an input of size ``n``, which should take some milliseconds.
    """
    return _best_s(prepare(4 * size)) / max(_best_s(prepare(size)), 1e-6)


def _best_s(work: Callable[[], object]) -> float:
    taken = []
    for _ in range(_RUNS):
        began = time.thread_time()
        work()
        taken.append(time.thread_time() - began)
    return min(taken)


def lines_run(work: Callable[[], object]) -> int:
    """How many lines of Python ``work()`` goes through: for pure Python the same on every machine."""
    count = 0

    def trace(_frame: FrameType, event: str, _argument: object) -> TraceFunction:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return count
