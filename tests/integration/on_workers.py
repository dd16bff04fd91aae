"""Which worker serves which connection, and sessions on all of them."""

from __future__ import annotations

import os
from pathlib import Path

from imap_wire import Wire, connect
from running import Server, eventually

WORKERS = os.cpu_count() or 1
"""As many as the quick start begins."""


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


def one_on_each(server: Server, killed: int = 0) -> dict[int, Wire]:
    """A session in INBOX on every worker, by its process id; ``killed`` has to be replaced first."""
    eventually(lambda: killed not in server.workers() and len(server.workers()) == WORKERS)
    found: dict[int, Wire] = {}

    def one_more() -> bool:
        wire = connect(server)
        pid = worker_of(server, wire)
        if pid in found:
            wire.close()
        else:
            found[pid] = wire
            secret = f'LOGIN "{server.user}" "{server.password}"'.encode()
            assert wire.command(secret).status == b"OK"
            assert wire.command(b"SELECT INBOX").status == b"OK"
        return len(found) == WORKERS

    eventually(one_more)
    return found
