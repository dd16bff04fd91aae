"""Waiting for a server as systemd does: until every worker accepts connections (sd_notify(3))."""

from __future__ import annotations

import os
import secrets
import select
import socket
import subprocess
import time
from collections.abc import Callable


class Readiness:
    """Tells when one server is ready. A worker that is killed before then has never served."""

    def __init__(self) -> None:
        # A name without a file: those of folders may be too long for a socket.
        name = f"sealbox-ready-{secrets.token_hex(8)}"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(f"\0{name}")
        self.environment = {**os.environ, "NOTIFY_SOCKET": f"@{name}"}
        """What to start the server with."""

    def wait(self, process: subprocess.Popen[bytes], seconds: float, errors: Callable[[], str]) -> None:
        """Until it is ready. Raises RuntimeError with what ``errors`` says when it ends or takes too long."""
        deadline = time.monotonic() + seconds
        with self._socket:
            while not (
                select.select([self._socket], [], [], 0.2)[0] and b"READY=1" in self._socket.recv(4096)
            ):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError("the server does not start: " + errors()[-2000:])

    def _is_told(self) -> bool:
        readable, _, _ = select.select([self._socket], [], [], 0.2)
        return bool(readable) and b"READY=1" in self._socket.recv(4096)
