"""Which worker serves which connection, and sessions on all of them."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from imap_wire import Wire, connect, session
from running import Server, eventually

WORKERS = os.cpu_count() or 1
"""As many as the quick start begins."""


def _is_stopped(pid: int) -> bool:
    state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return state == "T"


@contextmanager
def only(server: Server, pid: int) -> Iterator[None]:
    """Meanwhile all other workers stand still, so that a new connection is accepted by this one.

    Nothing that needs a lock belongs inside: a worker may have been stopped while it holds one.
    """
    others = [other for other in server.workers() if other != pid]
    for other in others:
        os.kill(other, signal.SIGSTOP)
    try:
        eventually(lambda: all(map(_is_stopped, others)))
        yield
    finally:
        for other in others:
            os.kill(other, signal.SIGCONT)


def connected_to(server: Server, pid: int) -> Wire:
    """A connection to one worker; its greeting has been read."""
    with only(server, pid):
        return connect(server)


def one_on_each(
    server: Server,
    mailbox: bytes = b"INBOX",
    password: str | None = None,
    killed: int = 0,
    user: str | None = None,
) -> dict[int, Wire]:
    """A session on every worker, by its process id; ``killed`` has to be replaced first."""
    eventually(lambda: killed not in server.workers() and len(server.workers()) == WORKERS)
    return {
        pid: session(server, mailbox, user=user, password=password, wire=connected_to(server, pid))
        for pid in server.workers()
    }
