"""POP3 and LMTP clients that read and do not parse."""

from __future__ import annotations

import socket
from pathlib import Path

from tests.bench.raw_imap import READ_BYTES, TIMEOUT_S, connect

_END = b"\r\n.\r\n"


class RawPop3:
    """One POP3 connection over TLS. Fails with ConnectionError, or ValueError when the answer is -ERR."""

    def __init__(self, port: int, certificate: Path) -> None:
        self._socket = connect(port, certificate)
        self._buffer = bytearray(READ_BYTES)
        self._line()

    def _line(self) -> bytes:
        heard = b""
        while not heard.endswith(b"\r\n"):
            size = self._socket.recv_into(self._buffer)
            if not size:
                raise ConnectionError("the server closed the connection")
            heard += self._buffer[:size]
        if not heard.startswith(b"+OK"):
            raise ValueError(heard[:60].decode("latin-1"))
        return heard

    def command(self, line: bytes) -> None:
        """A command with an answer of one line."""
        self._socket.sendall(line + b"\r\n")
        self._line()

    def retrieve(self, first: int, count: int) -> int:
        """RETR of so many messages, all asked for at once; octets received."""
        numbers = range(first, first + count)
        self._socket.sendall(b"".join(b"RETR %d\r\n" % number for number in numbers))
        size, ends, tail = 0, 0, b""
        while ends < count:
            got = self._socket.recv_into(self._buffer)
            if not got:
                raise ConnectionError("the server closed the connection")
            size += got
            heard = tail + bytes(memoryview(self._buffer)[:got])
            if size == got and not heard.startswith(b"+OK"):
                raise ValueError(heard[:60].decode("latin-1"))
            ends += heard.count(_END)
            tail = heard.rpartition(_END)[2][1 - len(_END) :]
        return size

    def close(self) -> None:
        """Hang up: nothing is deleted."""
        self._socket.close()


class RawLmtp:
    """One LMTP connection (RFC 2033). Fails with ConnectionError, or ValueError when mail is refused."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), TIMEOUT_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._heard = b""
        self._reply()
        self._socket.sendall(b"LHLO localhost\r\n")
        self._reply()

    def _reply(self) -> None:
        while True:
            while b"\n" not in self._heard:
                more = self._socket.recv(65_536)
                if not more:
                    raise ConnectionError("the server closed the connection")
                self._heard += more
            line, _, self._heard = self._heard.partition(b"\n")
            if line[3:4] != b"-":
                break
        if line[:1] not in b"23":
            raise ValueError(line[:60].decode("latin-1"))

    def deliver(self, recipient: bytes, data: bytes) -> None:
        """One message to one recipient, as Postfix sends it: MAIL, RCPT and DATA at once (RFC 2920)."""
        self._socket.sendall(b"MAIL FROM:<sender@example.org>\r\nRCPT TO:<%s>\r\nDATA\r\n" % recipient)
        for _ in range(3):
            self._reply()
        # The message has no line that begins with a dot.
        self._socket.sendall(data + b".\r\n")
        self._reply()

    def close(self) -> None:
        """Hang up."""
        self._socket.close()
