"""A client of a real server: TLS from the start, or after STARTTLS."""

from __future__ import annotations

import select
import socket
import ssl
from collections.abc import Callable

READ_BYTES = 64 * 1024
CONNECT_S = 20.0


def _as_it_is(data: bytes) -> bytes:
    return data


def after_starttls(data: bytes) -> bytes:
    """The beginning of the line behind which TLS begins when ``data`` is sent in IMAP; empty for none."""
    words = data.upper().split()
    return data.split()[0] + b" OK" if words[1:2] == [b"STARTTLS"] else b""


class SocketPeer:
    """See ``Peer``. What is heard goes through ``heard_as``, what is sent through ``sent_as``.

    ``upgrade_after`` is as ``after_starttls`` for the protocol that is spoken.
    """

    def __init__(
        self,
        port: int,
        context: ssl.SSLContext,
        *,
        source: str = "127.0.0.1",
        implicit_tls: bool = True,
        heard_as: Callable[[bytes], bytes] = _as_it_is,
        sent_as: Callable[[bytes], bytes] = _as_it_is,
        upgrade_after: Callable[[bytes], bytes] = after_starttls,
    ) -> None:
        self._context = context
        self._heard_as = heard_as
        self._sent_as = sent_as
        self._upgrades = upgrade_after
        self._upgrade_after = b""
        self._unread = b""
        self._ended = False
        self._socket: socket.socket | ssl.SSLSocket = socket.create_connection(
            ("127.0.0.1", port), CONNECT_S, (source, 0)
        )
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if implicit_tls:
            self._begin_tls()

    def _begin_tls(self) -> None:
        self._socket = self._context.wrap_socket(self._socket, server_hostname="localhost")

    def send(self, data: bytes) -> None:
        """See ``Peer``; what a server that has hung up does not take is lost."""
        if not isinstance(self._socket, ssl.SSLSocket):
            self._upgrade_after = self._upgrades(data) or self._upgrade_after
        try:
            self._socket.sendall(self._sent_as(data))
        except OSError:
            self._ended = True

    def receive(self, wait_s: float) -> bytes:
        """See ``Peer``: whole lines only."""
        while not self._ended and self._is_readable(wait_s):
            self._read()
            if b"\n" in self._unread:
                break
        end = self._unread.rfind(b"\n") + 1
        lines, self._unread = self._unread[:end], self._unread[end:]
        if self._upgrade_after and lines.rpartition(b"\n")[0].rpartition(b"\n")[2].startswith(
            self._upgrade_after
        ):
            self._upgrade_after = b""
            try:
                self._begin_tls()
            except (ConnectionError, ssl.SSLError):
                self._ended = True
        return self._heard_as(lines)

    def _is_readable(self, wait_s: float) -> bool:
        if isinstance(self._socket, ssl.SSLSocket) and self._socket.pending():
            return True
        return bool(select.select([self._socket], [], [], wait_s)[0])

    def _read(self) -> None:
        self._socket.settimeout(0)
        try:
            data = self._socket.recv(READ_BYTES)
        except (BlockingIOError, ssl.SSLWantReadError):
            # What came was TLS's own.
            return
        except (ConnectionError, ssl.SSLError):
            data = b""
        finally:
            self._socket.settimeout(CONNECT_S)
        self._unread += data
        self._ended = not data

    @property
    def closed(self) -> bool:
        """See ``Peer``."""
        return self._ended

    def become(self, other: SocketPeer) -> None:
        """Hang up and go on with another connection."""
        self.close()
        self._socket, self._unread, self._ended = other._socket, other._unread, other._ended
        self._upgrade_after = other._upgrade_after

    def close(self) -> None:
        """Hang up."""
        self._socket.close()
