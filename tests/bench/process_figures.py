"""Memory and CPU time of a process and its descendants, and about the machine; from /proc (may need root)."""

from __future__ import annotations

import os
import platform
import time
from dataclasses import dataclass
from pathlib import Path

_CPUCLOCK_SCHED = 2


@dataclass(frozen=True, slots=True)
class Memory:
    """MiB over a family of processes: proportional set size now, and peaks of resident memory."""

    processes: int
    pss: float
    largest_peak: float
    """VmHWM of the process that has the largest."""


def family(pid: int) -> list[int]:
    """The process and its descendants that live now."""
    parents: dict[int, int] = {}
    for name in os.listdir("/proc"):  # Path.glob() fails when a process ends while it looks
        if not name.isdecimal():
            continue
        try:
            fields = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it ended while we looked
        parents[int(name)] = int(fields[1])
    found = [pid]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found


def _kib(text: str, name: str) -> int:
    for line in text.splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1])
    return 0


def memory(pid: int) -> Memory:
    """Memory of ``family(pid)``."""
    pss = peak = count = 0
    for one in family(pid):
        folder = Path("/proc") / str(one)
        try:
            pss += _kib((folder / "smaps_rollup").read_text(), "Pss")
            peak = max(peak, _kib((folder / "status").read_text(), "VmHWM"))
        except OSError:
            continue  # it ended while we looked
        count += 1
    return Memory(count, pss / 1024, peak / 1024)


def cpu_ms(pid: int) -> float:
    """Milliseconds that ``family(pid)`` has run so far, in user and kernel mode.

    Threads and processes that have ended count: a process's own clock goes on for those of its threads, and
    the children that it has waited for are in its ``cutime`` and ``cstime``, in hundredths of a second.
    """
    tick_ms = 1000 / os.sysconf("SC_CLK_TCK")
    ran = 0.0
    for one in family(pid):
        try:
            # The clock of another process has its number made of the process's; see clock_getcpuclockid(3).
            own_s = time.clock_gettime((~one << 3) | _CPUCLOCK_SCHED)
            fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it ended while we looked
        ran += own_s * 1000 + (int(fields[13]) + int(fields[14])) * tick_ms
    return ran


def machine() -> str:
    """One line about where this ran, and how busy it was with other things."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.machine(),
    )
    return (
        f"{os.cpu_count()} x {model}, Linux {platform.release()}, Python {platform.python_version()},"
        f" load {os.getloadavg()[0]:.1f} before"
    )
