"""Questions and answers of nginx's ``auth_http`` (ngx_mail_auth_http_module). Sans I/O.

A question is the head of one HTTP request; h11 reads it. nginx also sends the password: it is not looked at,
and goes with the head as soon as that has been read.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import unquote_to_bytes

import h11

from protocols.sites import is_address

PROTOCOLS = {b"imap": "imap", b"pop3": "pop3", b"smtp": "submission"}
"""What nginx calls a protocol, and what the doors of nodes are called."""

_LATER = {
    "imap": (b"[UNAVAILABLE] try again later", b""),
    "pop3": (b"[SYS/TEMP] try again later", b""),
    "submission": (b"try again later", b"Auth-Error-Code: 451 4.3.2\r\n"),
}
_WRONG = {
    "imap": (b"[AUTHENTICATIONFAILED] authentication failed", b""),
    "pop3": (b"[AUTH] authentication failed", b""),
    "submission": (b"authentication failed", b"Auth-Error-Code: 535 5.7.8\r\n"),
}
"""What the client is told, and the reply code with its status that nginx puts in front of it for SMTP."""


class Malformed(Exception):
    """This is no question of nginx; ``status`` is that of the answer."""

    def __init__(self, status: int) -> None:
        super().__init__(f"a question cannot be read, answered {status}")
        self.status = status


@dataclass(frozen=True, slots=True)
class Question:
    """Where is the account of this login name? ``client`` is the address of who wants to log in.

    The name is empty where the client has given none, as with a PLAIN response that leaves it out.
    """

    protocol: str
    name: bytes = field(repr=False)
    client: str


class Questions:
    """The server's end of one connection, which carries one question."""

    def __init__(self, head_max_bytes: int) -> None:
        self._http: h11.Connection | None = h11.Connection(
            h11.SERVER, max_incomplete_event_size=head_max_bytes
        )

    def feed(self, data: bytes) -> Question | None:
        """Add received octets; the question once it is complete. Raises Malformed."""
        http = self._http
        if http is None or not data:
            return None
        try:
            http.receive_data(data)
            event = http.next_event()
        except h11.RemoteProtocolError as error:
            self._http = None
            raise Malformed(error.error_status_hint) from None
        if event is h11.NEED_DATA:
            return None
        self._http = None
        if not isinstance(event, h11.Request):
            raise Malformed(400)
        return _question(dict(event.headers))  # h11 has made the names lower case


def _question(fields: dict[bytes, bytes]) -> Question:
    protocol = PROTOCOLS.get(fields.get(b"auth-protocol", b""))
    client = fields.get(b"client-ip", b"").decode("ascii", "replace")
    name = fields.get(b"auth-user", b"")
    # Only with "plain" does nginx have a password that it can log in with at a node.
    if protocol is None or not is_address(client) or fields.get(b"auth-method") != b"plain":
        raise Malformed(400)
    return Question(protocol, unquote_to_bytes(name), client)


def found(door: str) -> bytes:
    """The node that has the account is there: IP:PORT."""
    host, _, port = door.rpartition(":")
    place = host.strip("[]").encode("ascii"), port.encode("ascii")
    return _response(b"200 OK", b"Auth-Status: OK\r\nAuth-Server: %b\r\nAuth-Port: %b\r\n" % place)


def later(protocol: str) -> bytes:
    """Nobody can say now; nginx tells its client and hangs up."""
    return _no(*_LATER[protocol])


def wrong(protocol: str) -> bytes:
    """No account can have this name; nginx tells its client and hangs up."""
    return _no(*_WRONG[protocol])


def _no(text: bytes, code: bytes) -> bytes:
    return _response(b"200 OK", b"Auth-Status: %b\r\n%b" % (text, code))


def refused(status: int) -> bytes:
    """It was no question."""
    return _response(b"%d Refused" % status, b"")


def _response(status: bytes, fields: bytes) -> bytes:
    return b"HTTP/1.0 %b\r\n%bContent-Length: 0\r\nConnection: close\r\n\r\n" % (status, fields)
