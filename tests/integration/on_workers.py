"""Which worker serves which connection, and sessions on all of them."""

from __future__ import annotations

import os
from pathlib import Path

from imap_wire import Wire, connect
from running import Server

ATTEMPTS = 300


def worker_of(server: Server, wire: Wire) -> int:
    """The worker at the other end of a connection, found by the socket's inode."""
    host, port = wire.socket.getsockname()
    theirs = f"0100007F:{wire.socket.getpeername()[1]:04X} 0100007F:{port:04X}"
    assert host == "127.0.0.1"
    line = next(one for one in Path("/proc/net/tcp").read_text().splitlines() if theirs in one)
    inode = f"socket:[{line.split()[9]}]"
    for pid in server.workers():
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            try:
                if os.readlink(descriptor) == inode:
                    return pid
            except FileNotFoundError:
                continue
    raise AssertionError("no worker has this connection")


def one_on_each(server: Server, mailbox: bytes = b"INBOX") -> dict[int, Wire]:
    """A session with a mailbox selected on every worker, by the worker's process id."""
    found: dict[int, Wire] = {}
    spare: list[Wire] = []
    workers = set(server.workers())
    for _ in range(ATTEMPTS):
        wire = connect(server)
        pid = worker_of(server, wire)
        if pid in found:
            spare.append(wire)
            continue
        found[pid] = wire
        secret = f'LOGIN "{server.user}" "{server.password}"'.encode()
        assert wire.command(secret).status == b"OK"
        assert wire.command(b"SELECT " + mailbox).status == b"OK"
        if set(found) == workers:
            break
    for wire in spare:
        wire.close()
    assert set(found) == workers, "no connection came to one of the workers"
    return found
