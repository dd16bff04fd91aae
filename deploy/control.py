"""Asking a running server: who is connected, and ending sessions.

Every worker listens on a Unix socket of its own in ``control/`` of the data root, for the owner of the data
alone. A connection carries one request, a line of JSON, and the answer: lines of JSON, of which the last has
the key ``done``. Nothing of it is written to the disk.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mailstore.durable import storage_errors

FOLDER = "control"

REQUEST_MAX_BYTES = 4096
"""The longest request; a worker ends a connection that sends a longer one."""

ANSWER_LINE_MAX_BYTES = 65_536
ANSWER_WAIT_S = 60.0
"""Seconds that a command waits for the next line of a worker's answer."""


class NotServed(Exception):
    """No worker listens on this data root."""


class NoAnswer(Exception):
    """A worker is there, and did not answer as it should."""


@dataclass(frozen=True, slots=True)
class Connected:
    """A session that has logged in."""

    account: str
    protocol: str
    address: str
    """The client's address, as the access log may have it: "-" where that may have none."""
    since_s: float
    """When it connected (epoch s)."""
    idle_s: float
    """Seconds since the client last sent something."""


@dataclass(frozen=True, slots=True)
class Present:
    """Who is connected, on all workers."""

    sessions: tuple[Connected, ...]
    not_logged_in: int
    """Connections that have no account open: before login, or of mail servers."""


@contextmanager
def reaching(path: Path) -> Iterator[str]:
    """A short name of a socket, for as long as the context lasts: a socket's own may have 107 bytes only
    (unix(7)). Raises OSError."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def who(data: Path) -> Present:
    """Everybody who is connected. Raises NotServed, NoAnswer, StorageFailed."""
    sessions: list[Connected] = []
    others = 0
    for line in _ask_all(data, {"do": "who"}):
        try:
            if "done" in line:
                others += int(line["not_logged_in"])
            else:
                sessions.append(Connected(**line))
        except (KeyError, TypeError, ValueError):
            raise NoAnswer from None
    return Present(tuple(sessions), others)


def disconnect(data: Path, account_id: str) -> int:
    """End all sessions of an account; how many there were. Raises NotServed, NoAnswer, StorageFailed."""
    answers = _ask_all(data, {"do": "disconnect", "account": account_id})
    try:
        return sum(int(line["ended"]) for line in answers)
    except (KeyError, TypeError, ValueError):
        raise NoAnswer from None


def _ask_all(data: Path, request: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """What all workers answer; all are asked before the first answer is waited for."""
    with ExitStack() as opened:
        asked = []
        for path in _sockets(data):
            client = opened.enter_context(socket.socket(socket.AF_UNIX))
            client.settimeout(ANSWER_WAIT_S)
            try:
                with reaching(path) as name:
                    client.connect(name)
                client.sendall(json.dumps(request).encode("ascii") + b"\n")
            except (FileNotFoundError, ConnectionRefusedError):
                continue  # its worker has ended
            except OSError:
                raise NoAnswer from None
            asked.append(client)
        if not asked:
            raise NotServed
        for client in asked:
            yield from _answer(client)


def _sockets(data: Path) -> list[Path]:
    """Where workers listen, or have listened. Raises StorageFailed: this user may not look."""
    with storage_errors():
        try:
            return sorted(path for path in (data / FOLDER).iterdir() if path.name.startswith("worker-"))
        except FileNotFoundError:
            return []


def _answer(client: socket.socket) -> Iterator[dict[str, Any]]:
    with client.makefile("rb") as lines:
        while True:
            try:
                line = json.loads(lines.readline(ANSWER_LINE_MAX_BYTES))
            except (OSError, ValueError):
                raise NoAnswer from None
            if not isinstance(line, dict):
                raise NoAnswer
            yield line
            if "done" in line:
                return
