"""A bare IMAP client: sends what it is told, byte for byte, and reads whole responses with literals."""

from __future__ import annotations

import re
import socket
import time
from dataclasses import dataclass

from running import Server

_LITERAL = re.compile(rb"\{([0-9]+)\}\r\n\Z")
READ_BYTES = 64 * 1024
TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Answer:
    """A tagged response and the untagged ones before it."""

    tagged: bytes
    untagged: tuple[bytes, ...]

    @property
    def status(self) -> bytes:
        """OK, NO or BAD; empty when the server hung up instead."""
        return self.tagged.split(b" ")[1] if self.tagged else b""

    def texts(self, word: bytes) -> list[bytes]:
        """The untagged responses of one kind, without ``* WORD ``."""
        start = b"* " + word + b" "
        return [one[len(start) :] for one in self.untagged if one.startswith(start)]


class Wire:
    """One connection over any socket."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self._buffer = bytearray()
        self._count = 0

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def send(self, data: bytes) -> None:
        """Send octets as they are."""
        self.socket.sendall(data)

    def _more(self) -> bool:
        try:
            data = self.socket.recv(READ_BYTES)
        except (ConnectionError, BrokenPipeError):
            data = b""
        except OSError as error:
            # TLS reports a connection that was cut without a goodbye as an error of its own.
            if isinstance(error, TimeoutError):
                raise
            data = b""
        self._buffer += data
        return bool(data)

    def line(self) -> bytes:
        """One response with its literals, without the last CRLF; empty when the server hung up."""
        at = 0
        while True:
            end = self._buffer.find(b"\r\n", at)
            if end < 0:
                if not self._more():
                    return b""
                continue
            found = _LITERAL.search(self._buffer, at, end + 2)
            if found is None:
                response = bytes(self._buffer[:end])
                del self._buffer[: end + 2]
                return response
            at = end + 2 + int(found[1])
            while len(self._buffer) < at:
                if not self._more():
                    return b""

    def rest(self) -> bytes:
        """Everything until the server hangs up."""
        while self._more():
            pass
        rest = bytes(self._buffer)
        self._buffer.clear()
        return rest

    def until(self, start: bytes) -> Answer:
        """Responses up to the one that begins so; what was untagged before it comes along."""
        untagged: list[bytes] = []
        while True:
            response = self.line()
            if not response or response.startswith(start):
                return Answer(response, tuple(untagged))
            untagged.append(response)

    def tag(self) -> bytes:
        """A fresh tag."""
        self._count += 1
        return b"t%d" % self._count

    def command(self, text: bytes) -> Answer:
        """Send one command (without tag and CRLF) and wait for its end."""
        tag = self.tag()
        self.send(tag + b" " + text + b"\r\n")
        return self.until(tag + b" ")

    def literals(self, *parts: bytes) -> Answer:
        """A command in which every second part goes as a synchronizing literal."""
        tag = self.tag()
        self.send(tag + b" ")
        for number, part in enumerate(parts):
            if number % 2:
                self.send(b"{%d}\r\n" % len(part))
                answer = self.until(b"+ " if number else tag)
                if not answer.tagged.startswith(b"+ "):
                    return answer
            self.send(part)
        self.send(b"\r\n")
        return self.until(tag + b" ")

    def append(self, mailbox: bytes, message: bytes, flags: bytes = b"") -> Answer:
        """APPEND with a synchronizing literal; a refusal of the literal is an answer as well."""
        tag = self.tag()
        self.send(tag + b" APPEND " + mailbox + b" " + flags + (b" " if flags else b""))
        self.send(b"{%d}\r\n" % len(message))
        while True:
            response = self.line()
            if response.startswith(b"+"):
                break
            if not response or response.startswith(tag):
                return Answer(response, ())
        self.send(message + b"\r\n")
        return self.until(tag + b" ")

    def close(self) -> None:
        """Hang up."""
        self.socket.close()


def connect(server: Server, service: str = "imaps", source: str = "127.0.0.1") -> Wire:
    """A connection whose greeting has been read; TLS on the ports that end with ``s``.

    Raises OSError when there is no server, or one that hangs up.
    """
    connection = socket.socket()
    try:
        if service in ("imaps", "pop3s"):
            # Wrapped before it is connected: whatever fails then, there is an object to close.
            connection = server.tls().wrap_socket(connection, server_hostname="localhost")
        connection.settimeout(TIMEOUT_S)
        connection.bind((source, 0))
        connection.connect(("127.0.0.1", server.info[service]))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        wire = Wire(connection)
        if not wire.line():
            raise ConnectionResetError("no greeting")
    except BaseException:
        connection.close()
        raise
    return wire


def session(
    server: Server,
    mailbox: bytes = b"INBOX",
    user: str | None = None,
    password: str | None = None,
    wire: Wire | None = None,
) -> Wire:
    """A session with a mailbox selected; an empty name selects none. Raises OSError when refused."""
    wire = wire or connect(server)
    secret = f'LOGIN "{user or server.user}" "{password or server.password}"'.encode()
    try:
        for command in (secret, b"SELECT " + mailbox)[: 2 if mailbox else 1]:
            status = wire.command(command).status
            if status != b"OK":
                raise ConnectionRefusedError(f"{command[:6]!r}: {status!r}")
    except BaseException:
        wire.close()
        raise
    return wire


def timed(wire: Wire, text: bytes = b"NOOP") -> float:
    """Seconds that a command takes; it has to succeed."""
    began = time.monotonic()
    assert wire.command(text).status == b"OK"
    return time.monotonic() - began
