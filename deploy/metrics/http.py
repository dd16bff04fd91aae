"""The port of the metrics: one request a connection, GET /metrics and nothing else (RFC 9112, RFC 9110).

No password and no TLS: what is said here names nobody, and the address is the operator's choice.
"""
# ruff: noqa: N802 - Twisted's own method names

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure

from protocols.sites import site_of

PATH = b"/metrics"
CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"
"""Prometheus's text format, which every version of it reads."""

_PLAIN = b"text/plain; charset=utf-8"
_REASONS = {
    200: b"OK",
    400: b"Bad Request",
    404: b"Not Found",
    405: b"Method Not Allowed",
    431: b"Request Header Fields Too Large",
    500: b"Internal Server Error",
}


@dataclass(frozen=True, slots=True)
class MetricsLimits:
    """Bounds on whoever asks; times in seconds."""

    connections_max: int = 16
    request_max_bytes: int = 8192
    timeout_s: float = 10.0


def status_of(head: bytes) -> int:
    """The status that a request's first line earns; 200 for ``GET /metrics``, whatever its query. Pure."""
    words = head.split(b"\r\n", 1)[0].split(b"\n", 1)[0].split(b" ")
    if len(words) != 3 or not words[2].startswith(b"HTTP/1."):
        return 400
    method, target, _ = words
    if target.partition(b"?")[0] != PATH:
        return 404
    return 200 if method == b"GET" else 405


def response(status: int, body: bytes = b"") -> bytes:
    """A whole response; without a body it says its reason. Pure."""
    kind = CONTENT_TYPE if status == 200 else _PLAIN
    body = body if status == 200 else _REASONS[status] + b"\n"
    lines = [
        b"HTTP/1.1 %d %s" % (status, _REASONS[status]),
        b"Content-Type: " + kind,
        b"Content-Length: %d" % len(body),
        b"Cache-Control: no-store",
        b"X-Content-Type-Options: nosniff",
        b"Connection: close",
    ]
    if status == 405:
        lines.append(b"Allow: GET")  # RFC 9110 section 15.5.6
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


class MetricsFactory(Factory):
    """Connections to the metrics. ``render`` gives them; what it raises is answered 500.

    ``clock`` is the reactor.
    """

    noisy = False

    def __init__(self, render: Callable[[], bytes], clock: Any, limits: MetricsLimits) -> None:
        self.render = render
        self.clock = clock
        self.limits = limits
        self.open: dict[_Connection, str] = {}
        """Connections, the oldest first, and the sites that they are from."""

    def buildProtocol(self, addr: IAddress | None) -> Protocol:
        """A connection. When there are too many, another ends for it, so that nobody keeps others out."""
        return _Connection(self, site_of(getattr(addr, "host", "")))

    def opened(self, connection: _Connection, site: str) -> None:
        """Where there are too many now, the site with most loses the one that has been silent for longest."""
        self.open[connection] = site
        if len(self.open) > self.limits.connections_max:
            most = max(Counter(self.open.values()).items(), key=itemgetter(1))[0]
            theirs = [one for one, other in self.open.items() if other == most]
            silent = [one for one in theirs if not one.is_answered and one is not connection]
            (silent or theirs)[0].cut()


class _Connection(Protocol):
    def __init__(self, factory: MetricsFactory, site: str) -> None:
        self._factory = factory
        self._site = site
        self._heard = b""
        self.is_answered = False
        self._patience: Any = None

    @property
    def _wire(self) -> Any:
        return self.transport

    def connectionMade(self) -> None:
        self._patience = self._factory.clock.callLater(
            self._factory.limits.timeout_s, self._wire.abortConnection
        )
        self._factory.opened(self, self._site)

    def cut(self) -> None:
        """End it at once: its place is needed."""
        self._factory.open.pop(self, None)
        self._wire.abortConnection()

    def dataReceived(self, data: bytes) -> None:
        if self.is_answered:
            return
        self._heard += data
        head, found, _ = self._heard.replace(b"\r\n", b"\n").partition(b"\n\n")
        if found:
            self._answer(status_of(head))
        elif len(self._heard) > self._factory.limits.request_max_bytes:
            self._answer(431)

    def _answer(self, status: int) -> None:
        self.is_answered = True
        self._heard = b""
        body = b""
        if status == 200:
            try:
                body = self._factory.render()
            except Exception:  # noqa: BLE001  # one look that fails must not end the others
                status = 500
        self._wire.write(response(status, body))
        self._wire.loseConnection()

    def connectionLost(self, reason: Failure | None = None) -> None:
        self._factory.open.pop(self, None)
        if self._patience.active():
            self._patience.cancel()
