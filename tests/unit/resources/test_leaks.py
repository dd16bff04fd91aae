"""Whatever the store and the snapshot job do, over and over: they hold no more afterwards than before."""

from __future__ import annotations

import ctypes
import functools
import gc
import logging
import os
import re
import sys
import weakref
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from everything import Everything, Operation, room
from operations import OPERATIONS

WARM_ROUNDS, ROUNDS, TRIES = 5, 50, 4
OBJECTS, OCTETS = 2, 500
"""A leak is as many objects of Python's, or as many octets of C's, in each round, or more."""


_FIELDS = (
    *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
    *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
)


class _Mallinfo(ctypes.Structure):
    """``struct mallinfo2`` of glibc."""

    _fields_ = [(name, ctypes.c_size_t) for name in _FIELDS]


_libc = ctypes.CDLL(None)


@dataclass(frozen=True)
class Held:
    """What this process holds."""

    files: tuple[str, ...]
    objects: int
    octets: int


@pytest.fixture(scope="module")
def world() -> Iterator[Everything]:
    """One world for all operations: each ends where it began. No disk is needed for this."""
    logging.disable(logging.CRITICAL)  # pytest keeps what is logged
    with room() as place:
        made = Everything(place)
        yield made
        made.close()
    logging.disable(logging.NOTSET)


def open_files() -> tuple[str, ...]:
    """What this process has open."""
    found = []
    for number in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{number}"))
        except FileNotFoundError:
            continue  # the one that lists them
    return tuple(sorted(found))


def _room_of(function: object) -> str:
    return str(getattr(function, "__module__", "")).partition(".")[0]


def held() -> Held:
    """What is held, but for the library's caches: they have a bound, and grow until they reach it."""
    re.purge()
    for one in gc.get_objects():
        if isinstance(one, functools._lru_cache_wrapper) and _room_of(one) in sys.stdlib_module_names:
            one.cache_clear()
    gc.collect()
    octets = 0
    if hasattr(_libc, "mallinfo2"):
        _libc.mallinfo2.restype = _Mallinfo
        info = _libc.mallinfo2()
        octets = info.uordblks + info.hblkhd
    # SQLite's driver keeps a weak reference to each cursor, and drops the useless ones now and then.
    objects = sum(type(one) is not weakref.ref for one in gc.get_objects())
    return Held(open_files(), objects, octets)


def rounds(world: Everything, operation: Operation, count: int) -> Held:
    """Do it so often; what is held then."""
    for _ in range(count):
        operation.prepare(world)
        operation.run(world)
        operation.undo(world)
    return held()


@pytest.mark.parametrize("operation", OPERATIONS, ids=str)
def test_fifty_rounds_leave_nothing_open_and_nothing_in_memory(
    world: Everything, operation: Operation
) -> None:
    """Memory goes up and down; what leaks goes up each time, by something for every round."""
    before = rounds(world, operation, WARM_ROUNDS)
    grown = []
    for _ in range(TRIES):
        after = rounds(world, operation, ROUNDS)
        assert after.files == before.files
        grown.append((after.objects - before.objects, after.octets - before.octets))
        if grown[-1][0] < OBJECTS * ROUNDS and grown[-1][1] < OCTETS * ROUNDS:
            return
        before = after
    pytest.fail(f"objects and octets in use have grown, each time: {grown}")
