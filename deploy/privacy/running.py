"""Checks of the server's processes: core dumps, swap, connections to others."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from deploy.privacy.finding import Check, Finding, listed
from deploy.privacy.processes import Address, Connection, Process
from deploy.texts import counted

SNAPSHOT_PROCESS = "snapshots"
"""The one process that may open connections, see deploy/supervisor.py."""

AS_ROOT = "run it as root, which may look into the server's processes"

_CORES = Check("core dumps", (1,))
_SWAPPED = Check("memory in swap", (1, 2))
_CONNECTIONS = Check("outgoing connections", (16,))


def core_dumps(processes: Sequence[Process]) -> Finding:
    """No process may leave its memory, with keys and mail in it, on the disk when it crashes."""
    allowed = [str(one.pid) for one in processes if one.core_limits not in (None, ("0", "0"))]
    if allowed:
        return _CORES.broken(
            f"process {listed(allowed)} may write a core dump with mail and keys in it",
            "restart the server: it forbids them at its start; somebody has raised the limit since",
        )
    if any(one.core_limits is None for one in processes):
        return _CORES.unseen("the limits of the server's processes cannot be read", AS_ROOT)
    return _CORES.holds(f"forbidden in every process of the server ({len(processes)})")


def swapped_memory(processes: Sequence[Process], swap_is_plain: bool) -> Finding:
    """Memory of the server may be on the disk only where swap is encrypted."""
    swapped = [one for one in processes if one.swapped_kib]
    size_kib = sum(one.swapped_kib or 0 for one in swapped)
    if swapped and swap_is_plain:
        return _SWAPPED.broken(
            f"{size_kib} KiB of process {listed([str(one.pid) for one in swapped])} lie in swap that is not"
            " encrypted",
            "switch swap off (swapoff -a) or encrypt it, overwrite the device, and restart the server",
        )
    if any(one.swapped_kib is None for one in processes):
        return _SWAPPED.unseen("the kernel does not say how much of a process is swapped out", AS_ROOT)
    of = counted(len(processes), "process", "processes")
    return _SWAPPED.holds(f"{size_kib} KiB of {of}{', encrypted' if swapped else ''}")


def outgoing_connections(
    processes: Sequence[Process], allowed: Collection[Address], allowed_all: Collection[Address] = ()
) -> Finding:
    """Nobody is called but the object store, by the process that takes snapshots alone, directory and nodes.

    ``allowed`` are the store's addresses and those of the name servers that tell them, ``allowed_all`` are
    those of the directory in PostgreSQL and of other nodes.
    """
    hidden = [str(one.pid) for one in processes if one.connections is None]
    doors = {one.local[1] for process in processes for one in process.connections or () if one.listens}
    strange = [
        f"{_text(one)} by process {process.pid}"
        for process in processes
        for one in process.connections or ()
        if is_outgoing(one, doors) and one.remote not in allowed_all
        if process.name != SNAPSHOT_PROCESS or one.remote not in allowed
    ]
    if strange:
        return _CONNECTIONS.broken(
            f"there is {listed(strange)}",
            "find out what opened it: the program itself calls nobody but the object store,"
            " its directory in PostgreSQL and the nodes in it",
        )
    if hidden:
        return _CONNECTIONS.unseen(f"the sockets of process {listed(hidden)} cannot be seen", AS_ROOT)
    count = sum(len(one.connections or ()) for one in processes)
    of = counted(len(processes), "process", "processes")
    return _CONNECTIONS.holds(f"{counted(count, 'socket')} of {of}, none to anybody else")


def called_by_snapshots(processes: Sequence[Process]) -> set[Address]:
    """Whom the process that takes snapshots is connected to by TCP."""
    return {
        one.remote
        for process in processes
        if process.name == SNAPSHOT_PROCESS
        for one in process.connections or ()
        if one.table.startswith("tcp") and not one.listens
    }


def is_outgoing(one: Connection, doors: Collection[int]) -> bool:
    """Whether a socket is neither one of the server's doors nor came in by one of these ports."""
    return not (one.table.startswith("tcp") and (one.listens or one.local[1] in doors))


def _text(one: Connection) -> str:
    host, port = one.remote
    return f"a {one.table} socket to {f'[{host}]' if host.version == 6 else host}:{port}"
