"""What the machine offers, as far as defaults depend on it."""

from __future__ import annotations

import os
from pathlib import Path

_MIB = 1024 * 1024


def memory_mib(proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")) -> int:
    """MiB of memory that this process and its children may use: the machine's, or its cgroup's if less."""
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min([machine, *_cgroup_limits(proc, cgroups)]) // _MIB


def _cgroup_limits(proc: Path, cgroups: Path) -> list[int]:
    """Memory limits of our cgroup and those above it (cgroup v2; without it none are visible)."""
    try:
        lines = (proc / "self/cgroup").read_text("ascii").splitlines()
    except (OSError, UnicodeDecodeError):
        return []
    ours = next((line.removeprefix("0::/") for line in lines if line.startswith("0::/")), None)
    if ours is None:
        return []
    found = []
    folder = cgroups / ours
    while folder.is_relative_to(cgroups):
        try:
            text = (folder / "memory.max").read_text("ascii").strip()
        except (OSError, UnicodeDecodeError):
            text = "max"
        if text.isdecimal():
            found.append(int(text))
        folder = folder.parent
    return found
