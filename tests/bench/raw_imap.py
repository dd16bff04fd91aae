"""An IMAP client that reads and does not parse: TLS, one command at a time, raw until the tagged line."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path

READ_BYTES = 256 * 1024
TIMEOUT_S = 600.0
LISTEN_S = 0.2
TAIL_BYTES = 1000
"""More than the longest tagged line."""


@dataclass(frozen=True, slots=True)
class Reply:
    """One command's outcome: wall time from sending it to having its last byte, and all bytes received."""

    seconds: float
    raw: bytes

    @property
    def lines(self) -> int:
        """Line ends in the answer."""
        return self.raw.count(b"\n")


@cache
def client_context(certificate: Path) -> ssl.SSLContext:
    """Settings of a client that trusts this certificate alone; reading it is no part of what is measured."""
    return ssl.create_default_context(cafile=str(certificate))


def connect(port: int, certificate: Path) -> ssl.SSLSocket:
    """A TLS connection to a port of this machine that sends every write at once."""
    plain = socket.create_connection(("127.0.0.1", port), TIMEOUT_S)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return client_context(certificate).wrap_socket(plain, server_hostname="localhost")


class RawImap:
    """One connection. Fails with ConnectionError when the server hangs up, ValueError on NO and BAD."""

    def __init__(self, port: int, certificate: Path) -> None:
        self.socket = connect(port, certificate)
        self._buffer = bytearray(READ_BYTES)
        self._count = 0
        self._until(b"* ", [])

    def _until(self, beginning: bytes, kept: list[bytes] | None) -> tuple[int, bytes]:
        """Read up to and including a last line that begins so: how many octets, and that line."""
        size, tail = 0, b""
        while True:
            got = self.socket.recv_into(self._buffer)
            if not got:
                raise ConnectionError("the server closed the connection")
            size += got
            piece = bytes(memoryview(self._buffer)[max(got - TAIL_BYTES, 0) if kept is None else 0 : got])
            if kept is not None:
                kept.append(piece)
            tail = (tail + piece)[-TAIL_BYTES:]
            if tail.endswith(b"\r\n"):
                last = tail[:-2].rpartition(b"\n")[2]
                if last.startswith(beginning):
                    return size, last

    def _ask(self, line: bytes, kept: list[bytes] | None) -> int:
        self._count += 1
        tag = b"bench%d" % self._count
        self.socket.sendall(b"%s %s\r\n" % (tag, line))
        size, tagged = self._until(tag + b" ", kept)
        if not tagged.startswith(tag + b" OK"):
            raise ValueError(f"{line.split()[0].decode()}: {tagged[:100].decode('latin-1')}")
        return size

    def command(self, line: bytes) -> Reply:
        """Send one command (``line`` without tag and CRLF; non-synchronising literals may be in it)."""
        kept: list[bytes] = []
        began = time.perf_counter()
        self._ask(line, kept)
        return Reply(time.perf_counter() - began, b"".join(kept))

    def play(self, line: bytes) -> int:
        """The same, but the answer is thrown away as it comes; how many octets it had."""
        return self._ask(line, None)

    def idle(self) -> None:
        """Begin IDLE (RFC 2177); from here on the socket belongs to whoever listens."""
        self.socket.sendall(b"idle IDLE\r\n")
        self._until(b"+", [])

    def listen(self, line: bytes, ended: threading.Event) -> None:
        """Send a command that runs until the connection ends, read what comes until told to stop, hang up."""
        self.socket.sendall(b"listening %s\r\n" % line)
        self.socket.settimeout(LISTEN_S)
        while not ended.is_set():
            try:
                self.socket.recv_into(self._buffer)
            except TimeoutError:
                continue
        self.close()

    def close(self) -> None:
        """Hang up."""
        self.socket.close()
