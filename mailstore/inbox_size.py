"""How many bytes of sealed mail wait in an inbox, known without looking at every file.

The file ``inbox-size`` beside the inbox says it, under a lock of its own. Whoever adds sealed messages, or
takes some away, does so inside :func:`changing`, which empties the file first and writes the new sum last. A
process that is killed in between leaves it empty, and whoever asks next counts anew. It is not synced, so
what another boot has left is not believed; nor is what is older than a day, because somebody may have moved
files by hand. FORMAT.md section 10.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from mailstore.durable import storage_errors
from mailstore.errors import NoSuchAccount
from mailstore.locks import HeldLock, locked

SIZE_FILE = "inbox-size"
SUFFIX = ".sealed"
"""Of a sealed message's file."""

FORMER_KEY = "0000000000000000-"
"""What the name of a file begins with that is no message; see ``mailstore.former_key``."""

BELIEVED_S = 86_400
"""Seconds for which a sum is taken for true before all is counted again."""

_LINE = re.compile(rb"([0-9a-f-]{36}) ([0-9]{1,15}) ([0-9]{1,18})\n")


Admit = Callable[[int], None]
"""Told how many bytes of sealed mail wait, while nobody can add any; raises where nothing may be added."""


@dataclass(slots=True)
class SizeChange:
    """What comes to the sum, in bytes."""

    added_bytes: int = 0


@contextmanager
def changing(inbox: Path, admit: Admit | None = None) -> Iterator[SizeChange]:
    """Add or remove sealed messages inside, and say how many bytes; after an error the sum is unknown.

    Where the sum is known, ``admit`` is told it first, and may raise: then it stays known.

    Raises NoSuchAccount, Busy, StorageFull, StorageFailed, and what ``admit`` does.
    """
    path = inbox.with_name(SIZE_FILE)
    with _lock(path):
        with storage_errors():
            known = _read(path)
        if admit is not None and known is not None:
            admit(known[1])
        with storage_errors():
            if path.stat().st_size:
                path.write_bytes(b"")  # also what is not believed now: a clock set right would revive it
        change = SizeChange()
        yield change
        if known is not None:
            counted_s, waiting_bytes = known
            _write(path, counted_s, waiting_bytes + change.added_bytes)


def waiting_bytes(inbox: Path) -> int:
    """The size of all sealed messages that wait. Raises NoSuchAccount, Busy, StorageFailed."""
    path = inbox.with_name(SIZE_FILE)
    with _lock(path), storage_errors():
        known = _read(path)
        if known is not None:
            return known[1]
        found = _counted(inbox)
        _write(path, int(time.time()), found)
        return found


def _lock(path: Path) -> AbstractContextManager[HeldLock]:
    with storage_errors():
        if not path.parent.is_dir():
            raise NoSuchAccount
    return locked(path, exclusive=True)


def _read(path: Path) -> tuple[int, int] | None:
    """When all was counted (epoch s), and the sum since; None where it has to be counted again."""
    found = _LINE.fullmatch(path.read_bytes())
    if found is None or found[1] != _boot():
        return None
    counted_s = int(found[2])
    return (counted_s, int(found[3])) if 0 <= time.time() - counted_s < BELIEVED_S else None


def _write(path: Path, counted_s: int, waiting: int) -> None:
    if waiting < 0:
        return  # somebody has changed the inbox by hand: it stays unknown
    with suppress(OSError):  # on a full disk it stays unknown
        path.write_bytes(b"%b %d %d\n" % (_boot(), counted_s, waiting))


def _counted(inbox: Path) -> int:
    total = 0
    for path in inbox.glob("*" + SUFFIX):
        with suppress(FileNotFoundError):
            total += path.stat().st_size
    return total


@cache
def _boot() -> bytes:
    """Which run of the kernel this is."""
    return Path("/proc/sys/kernel/random/boot_id").read_bytes().strip()
