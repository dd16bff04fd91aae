"""Afterwards everything is as before: a fresh login is prompt, memory is back, nobody else has noticed."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

from healthy import healthy
from imap_wire import session
from running import Server, eventually

FRESH_LOGIN_S = 1.0
"""What a fresh login may take beyond a slow machine's usual time."""

GROWTH_KIB = 96 * 1024
BACK_S = 60.0


def login_s(server: Server) -> float:
    """Seconds that connecting, logging in and selecting take."""
    began = time.monotonic()
    session(server).close()
    return time.monotonic() - began


def resident_kib(pid: int) -> int:
    """Memory of a process now; 0 when it may not be read."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in text.splitlines() if line.startswith("VmRSS:")), 0)


@contextlib.contextmanager
def unharmed(server: Server, peak_kib: int = 256 * 1024) -> Iterator[None]:
    """Fail when what is done inside leaves a trace; ``peak_kib`` is what a worker may take meanwhile."""
    usual_s = statistics.median(login_s(server) for _ in range(5))
    before = {pid: resident_kib(pid) for pid in server.workers()}
    with healthy(server, peak_kib):
        yield
    # How long a login takes here is this machine's affair; that it takes no second longer is ours.
    eventually(lambda: login_s(server) < 5 * usual_s + FRESH_LOGIN_S, BACK_S)
    eventually(lambda: all(resident_kib(pid) < size + GROWTH_KIB for pid, size in before.items()), BACK_S)
