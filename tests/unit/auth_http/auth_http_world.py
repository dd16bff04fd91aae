"""What nginx asks, over a directory in memory."""

from __future__ import annotations

import dataclasses
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from mailstore.errors import StoreError
from protocols.auth_http.server import AuthHttpFactory
from protocols.limits import AuthHttpLimits
from tests.wire import Client, RecordingLog

SECRET = b"correct-horse"
FIELDS = {
    b"Host": b"localhost",
    b"Auth-Method": b"plain",
    b"Auth-User": b"joe@example.org",
    b"Auth-Pass": SECRET,
    b"Auth-Protocol": b"imap",
    b"Auth-Login-Attempt": b"1",
    b"Client-IP": b"192.0.2.7",
}
UNAVAILABLE = {"Auth-Status": "[UNAVAILABLE] try again later"}


class World:
    """The service over a directory in memory. Keyword arguments change its limits."""

    def __init__(self, name_max_bytes: int = 30, **limits: Any) -> None:
        self.clock = Clock()
        self.clock.advance(1)
        self.asked: list[tuple[bytes, str]] = []
        self.doors: dict[str, str] = {"imap": "192.0.2.1:1143", "submission": "[2001:db8::1]:1587"}
        self.trouble: StoreError | None = None
        self.waiting: Deferred[None] | None = None
        self.access_log = RecordingLog()
        self.limits = dataclasses.replace(AuthHttpLimits(), **limits)
        self.factory = AuthHttpFactory(
            self.find_door, self.limits, name_max_bytes, self.access_log, self.clock
        )

    async def find_door(self, name: bytes, protocol: str) -> str | None:
        """See ``FindDoor``."""
        self.asked.append((name, protocol))
        if self.waiting is not None:
            await self.waiting
        if self.trouble is not None:
            raise self.trouble
        return self.doors.get(protocol)

    def connect(self) -> Client:
        """A connection."""
        return Client(self.factory)

    def ask(self, **fields: bytes | None) -> dict[str, str]:
        """The header of the answer; what is named here is asked otherwise, or not at all."""
        client = self.connect()
        said = answer_in(client.say(question(**fields)))
        assert client.closed
        return said


def question(**fields: bytes | None) -> bytes:
    """As nginx writes it."""
    changed = {name.replace("_", "-").encode(): value for name, value in fields.items()}
    lines = (b"%b: %b\r\n" % one for one in (FIELDS | changed).items() if one[1] is not None)
    return b"GET /auth HTTP/1.0\r\n" + b"".join(lines) + b"\r\n"


def answer_in(said: bytes) -> dict[str, str]:
    """The header's fields of an answer, which is all that nginx looks at."""
    status, *lines = said.removesuffix(b"\r\n\r\n").decode("ascii").split("\r\n")
    assert status == "HTTP/1.0 200 OK"
    fields = dict(line.split(": ", 1) for line in lines)
    assert (fields.pop("Content-Length"), fields.pop("Connection")) == ("0", "close")
    return fields
