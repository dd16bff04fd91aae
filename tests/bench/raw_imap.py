"""An IMAP client that reads and does not parse: TLS, one command at a time, raw until the tagged line."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from dataclasses import dataclass
from pathlib import Path

READ_BYTES = 256 * 1024
TIMEOUT_S = 600.0
LISTEN_S = 0.2


@dataclass(frozen=True, slots=True)
class Reply:
    """One command's outcome: wall time from sending it to having its last byte, and all bytes received."""

    seconds: float
    raw: bytes

    @property
    def lines(self) -> int:
        """Line ends in the answer."""
        return self.raw.count(b"\n")


class RawImap:
    """One connection. Fails with ConnectionError when the server hangs up, ValueError on NO and BAD."""

    def __init__(self, port: int, certificate: Path) -> None:
        context = ssl.create_default_context(cafile=str(certificate))
        plain = socket.create_connection(("127.0.0.1", port), TIMEOUT_S)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = context.wrap_socket(plain, server_hostname="localhost")
        self._buffer = bytearray(READ_BYTES)
        self._count = 0
        self._until(b"* ")

    def _until(self, beginning: bytes) -> bytes:
        """Everything up to and including a last line that begins so."""
        pieces: list[bytes] = []
        tail = b""
        while True:
            size = self._socket.recv_into(self._buffer)
            if not size:
                raise ConnectionError("the server closed the connection")
            pieces.append(bytes(self._buffer[:size]))
            tail = (tail + pieces[-1])[-1000:]
            if tail.endswith(b"\r\n") and tail[:-2].rpartition(b"\n")[2].startswith(beginning):
                return b"".join(pieces)

    def command(self, line: bytes) -> Reply:
        """Send one command (``line`` without tag and CRLF; non-synchronising literals may be in it)."""
        self._count += 1
        tag = b"bench%d" % self._count
        request = b"%s %s\r\n" % (tag, line)
        began = time.perf_counter()
        self._socket.sendall(request)
        raw = self._until(tag + b" ")
        taken = time.perf_counter() - began
        tagged = raw[:-2].rpartition(b"\n")[2]
        if not tagged.startswith(tag + b" OK"):
            raise ValueError(f"{line.split()[0].decode()}: {tagged[:100].decode('latin-1')}")
        return Reply(taken, raw)

    def listen(self, line: bytes, ended: threading.Event) -> None:
        """Send a command that runs until the connection ends, read what comes until told to stop, hang up."""
        self._socket.sendall(b"listening %s\r\n" % line)
        self._socket.settimeout(LISTEN_S)
        while not ended.is_set():
            try:
                self._socket.recv_into(self._buffer)
            except TimeoutError:
                continue
        self.close()

    def close(self) -> None:
        """Hang up."""
        self._socket.close()
