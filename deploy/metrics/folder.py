"""Where the workers keep their numbers: one file a worker and kind, in memory where systemd offers it.

A file belongs to a worker's number, not to its process: a worker that takes the place of a dead one goes on
counting where that has stopped, so no total ever falls and there are never more files than workers need.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from prometheus_client import values

from mailstore.errors import StorageFull
from mailstore.room import require_margin

NAME = "metrics"

SIZES = {
    "counter": 256 * 1024,
    "histogram": 1024 * 1024,
    "gauge_livesum": 64 * 1024,
    "gauge_livemax": 64 * 1024,
    "gauge_livemin": 64 * 1024,
}
"""Bytes that each file gets at once. They are written to as memory: on a full disk, a file that had to grow
then would not raise an error, but kill the worker (SIGBUS, mmap(2))."""

_NOTHING = bytes(8)
"""How a file of the library begins that has nothing in it yet."""

_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"


def folder_for(data: Path, environment: Mapping[str, str] = os.environ) -> Path:
    """The folder of the server on this data root: in systemd's runtime directory if there is one."""
    runtime = environment.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    return (Path(runtime) if runtime else data) / NAME


def make_empty(folder: Path, workers: int, margin_bytes: int) -> None:
    """Make the folder, for its owner alone, without what another start has left.

    Raises OSError; and StorageFull, with the folder gone, where the numbers of so many workers would not
    leave the margin free: mail and logins need that room more.
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    for left in folder.glob("*.db"):
        left.unlink()
    try:
        require_margin(folder, margin_bytes, workers * sum(SIZES.values()))
    except StorageFull:
        folder.rmdir()
        raise


def slot_name(number: int) -> str:
    """The worker of this number, as its files are called."""
    return f"worker-{number}"


def begin(folder: Path, slot: str) -> None:
    """From now on whatever metrics this process makes are kept in the slot's files.

    Call it after the fork, before the first metric is made. Raises OSError: there is no room for them.
    """
    for kind, size_bytes in SIZES.items():
        handle = os.open(folder / f"{kind}_{slot}.db", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(handle, 0, size_bytes)
        finally:
            os.close(handle)
    os.environ[_VARIABLE] = str(folder)
    # The library chooses when it is imported, which was before the fork.
    values.ValueClass = values.MultiProcessValue(lambda: slot)  # type: ignore[no-untyped-call]  # untyped


def forget(folder: Path, slot: str) -> None:
    """The slot's process is dead: what it had open counts no more, its totals stay. Raises OSError.

    The library's ``mark_process_dead`` would remove the files, which a full disk would not let be made again.
    """
    for kind in SIZES:
        path = folder / f"{kind}_{slot}.db"
        if kind.startswith("gauge") and path.exists():
            with path.open("r+b") as file:
                file.write(_NOTHING)
