"""One request and one response of HTTP/1.1 (RFC 9112). Sans I/O.

h11 reads and frames; what is here are the bounds, and what the door wants to know of a request. A connection
carries one request, so nothing that a client sends behind it is ever looked at.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import parse_qsl

import h11

from protocols.limits import HttpsLimits

_PARAMETERS_MAX = 20


@dataclass(frozen=True, slots=True)
class Request:
    """What a client has asked for. Its repr shows no path, which may be a secret."""

    method: str
    path: str = field(repr=False)
    query: str = field(repr=False)
    host: str = field(repr=False)
    """Without its port, lower case."""
    user_agent: bytes
    forwarded_for: bytes | None
    """The last address that a proxy has added, None without the field."""
    body: bytes = field(repr=False)
    is_foreign: bool = False
    """Whether a browser says that a page of another site sends it (Fetch Metadata, Sec-Fetch-Site)."""

    def parameters(self) -> dict[str, str]:
        """The query's parameters, names in lower case; empty where it cannot be read."""
        return _pairs(self.query)

    def form(self) -> dict[str, str]:
        """The fields of a form (application/x-www-form-urlencoded); empty where it cannot be read."""
        return _pairs(self.body.decode("latin-1"))


@dataclass(frozen=True, slots=True)
class Refused:
    """The request cannot be read, or is too large; ``status`` is the answer."""

    status: int


@dataclass(frozen=True, slots=True)
class Response:
    """What the door answers."""

    status: int
    content_type: str
    body: bytes = field(repr=False)
    headers: tuple[tuple[str, str], ...] = ()


class Connection:
    """The server's end of one connection."""

    def __init__(self, limits: HttpsLimits) -> None:
        self._limits = limits
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=limits.head_max_bytes)
        self._head: h11.Request | None = None
        self._body = bytearray()

    def feed(self, data: bytes) -> None:
        """Add received bytes."""
        if data:  # h11 takes none for the end of the stream
            self._http.receive_data(data)

    def next_event(self) -> Request | Refused | bytes | None:
        """The request once it is complete; bytes to send first (100 Continue); None when more are needed."""
        try:
            return self._next()
        except h11.RemoteProtocolError as error:
            return Refused(error.error_status_hint)

    def _next(self) -> Request | Refused | bytes | None:
        while True:
            if self._http.they_are_waiting_for_100_continue and self._head is not None:
                return self._http.send(h11.InformationalResponse(status_code=100, headers=[])) or b""
            event = self._http.next_event()
            if event is h11.NEED_DATA or event is h11.PAUSED:
                return None
            if isinstance(event, h11.Request):
                self._head = event
                length = next((value for name, value in event.headers if name == b"content-length"), b"0")
                if int(length) > self._limits.body_max_bytes:
                    return Refused(413)
            elif isinstance(event, h11.Data):
                self._body += event.data
                if len(self._body) > self._limits.body_max_bytes:
                    return Refused(413)
            elif isinstance(event, h11.EndOfMessage) and self._head is not None:
                return self._request(self._head)
            else:
                return Refused(400)

    def _request(self, head: h11.Request) -> Request:
        fields = dict(head.headers)  # h11 has made the names lower case
        target = head.target.decode("ascii", "replace")
        path, _, query = target.partition("?")
        host = fields.get(b"host", b"").decode("ascii", "replace").lower()
        forwarded = fields.get(b"x-forwarded-for")
        return Request(
            head.method.decode("ascii"),
            path,
            query,
            host if host.endswith("]") else host.rpartition(":")[0] or host,
            fields.get(b"user-agent", b""),
            None if forwarded is None else forwarded.rpartition(b",")[2].strip(),
            bytes(self._body),
            fields.get(b"sec-fetch-site") == b"cross-site",
        )

    def answer(self, response: Response) -> bytes:
        """The response as bytes; the connection has to end behind it."""
        body = response.body
        headers = [
            ("content-type", response.content_type),
            ("content-length", str(len(body))),
            ("connection", "close"),
            *response.headers,
        ]
        if self._http.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return b""
        head = self._http.send(h11.Response(status_code=response.status, headers=headers)) or b""
        asked_for_head = self._head is not None and self._head.method == b"HEAD"
        return head if asked_for_head else head + body


def _pairs(text: str) -> dict[str, str]:
    try:
        found = parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=_PARAMETERS_MAX)
    except ValueError:
        return {}
    return {name.lower(): value for name, value in found}
