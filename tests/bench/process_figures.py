"""Memory and CPU time of a process and all that descend from it, out of /proc (Linux; may need root)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


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
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it ended while we looked
        parents[int(path.parent.name)] = int(fields[1])
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


def cpu_ms(pids: list[int]) -> float:
    """Milliseconds that all threads of these processes have run so far, in user and kernel mode."""
    ran_ns = 0
    for one in pids:
        for path in Path(f"/proc/{one}/task").glob("*/schedstat"):
            try:
                ran_ns += int(path.read_text().split()[0])
            except OSError:
                continue  # it ended while we looked
    return ran_ns / 1e6
