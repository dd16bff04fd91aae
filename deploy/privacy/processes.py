"""What the kernel shows of the server's processes: core limits, swapped memory, sockets (proc(5))."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

PROC = Path("/proc")
_BYTE_ORDER = sys.byteorder

_TABLES = ("tcp", "tcp6", "udp", "udp6", "udplite", "udplite6", "raw", "raw6")
_LISTENS = 0x0A
"""TCP_LISTEN (include/net/tcp_states.h)."""

_CORE = re.compile(r"^Max core file size +(\S+) +(\S+)", re.MULTILINE)
_SWAP = re.compile(r"^VmSwap:\s+(\d+) kB", re.MULTILINE)
_SOCKET = re.compile(r"socket:\[(\d+)\]")

IpAddress = IPv4Address | IPv6Address
Address = tuple[IpAddress, int]
"""An IP address and a port."""


@dataclass(frozen=True, slots=True)
class Connection:
    """A socket of a process: its table in /proc/net, both ends, and whether it waits for connections."""

    table: str
    local: Address
    remote: Address
    listens: bool


@dataclass(frozen=True, slots=True)
class Process:
    """One process of the server. What this user may not see is None."""

    pid: int
    name: str
    core_limits: tuple[str, str] | None
    """Soft and hard limit of core dumps, as the kernel writes them."""

    swapped_kib: int | None
    connections: tuple[Connection, ...] | None = field(repr=False)


def lock_holder(lock: Path, proc: Path = PROC) -> int | None:
    """The process that holds the flock of a file alone; None when nobody does. Raises OSError."""
    try:
        found = lock.stat()
    except FileNotFoundError:
        return None
    device = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}"
    by_inode: dict[str, int] = {}
    for line in (proc / "locks").read_text("ascii").splitlines():
        fields = line.split()
        # "->" in the second field marks one that waits for the lock.
        if fields[1] == "FLOCK" and fields[3] == "WRITE" and fields[5].endswith(f":{found.st_ino}"):
            by_inode[fields[5]] = int(fields[4])
    exact = by_inode.get(f"{device}:{found.st_ino}")
    # btrfs and overlay show another device here than stat does.
    return exact if exact is not None else next(iter(by_inode.values()), None)


def processes_of(holder: int, proc: Path = PROC) -> list[Process]:
    """The process ``holder`` and all that descend from it; those that end meanwhile are left out."""
    children: dict[int, list[int]] = {}
    for folder in proc.iterdir():
        if folder.name.isdecimal() and (parent := _parent(folder)) is not None:
            children.setdefault(parent, []).append(int(folder.name))
    found, waiting = list[Process](), [holder]
    while waiting:
        pid = waiting.pop()
        waiting += children.get(pid, [])
        if (one := _look(pid, proc)) is not None:
            found.append(one)
    return sorted(found, key=lambda one: one.pid)


def _parent(folder: Path) -> int | None:
    try:
        # The name in parentheses may hold anything, so count from its end.
        return int((folder / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()[1])
    except (OSError, IndexError):
        return None


def _look(pid: int, proc: Path) -> Process | None:
    folder = proc / str(pid)
    status = _text(folder / "status")
    if status is None:
        return None
    core, swap = _CORE.search(_text(folder / "limits") or ""), _SWAP.search(status)
    return Process(
        pid,
        (_text(folder / "comm") or "").strip(),
        (core[1], core[2]) if core else None,
        int(swap[1]) if swap else None,
        _connections(folder),
    )


def _text(path: Path) -> str | None:
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return None


def _connections(folder: Path) -> tuple[Connection, ...] | None:
    """The process's sockets of the internet families; None if this user may not see them."""
    try:
        names = [*(folder / "fd").iterdir()]
        inodes = set[str]()
        for name in names:
            try:
                found = _SOCKET.fullmatch(str(name.readlink()))
            except FileNotFoundError:
                continue  # closed meanwhile
            if found:
                inodes.add(found[1])
    except OSError:
        return None
    return tuple(one for table in _TABLES for one in _rows(folder / "net" / table, inodes))


def _rows(table: Path, inodes: set[str]) -> Iterator[Connection]:
    for line in (_text(table) or "").splitlines()[1:]:
        fields = line.split()
        if len(fields) > 9 and fields[9] in inodes:
            listens = table.name.startswith("tcp") and int(fields[3], 16) == _LISTENS
            yield Connection(table.name, _address(fields[1]), _address(fields[2]), listens)


def _address(text: str) -> Address:
    """``0100007F:1F90``: words of four octets in the machine's order, and the port."""
    words, _, port = text.partition(":")
    raw = b"".join(int(words[at : at + 8], 16).to_bytes(4, _BYTE_ORDER) for at in range(0, len(words), 8))
    return ip_of(raw), int(port, 16)


def ip_of(text: str | bytes) -> IpAddress:
    """An address, written or packed; IPv4 in IPv6 (RFC 4291, 2.5.5.2) as IPv4. Raises ValueError."""
    found = ip_address(text)
    return (found.ipv4_mapped or found) if isinstance(found, IPv6Address) else found
