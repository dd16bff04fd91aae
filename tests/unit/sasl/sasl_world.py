"""The authentication service over the memory store."""

from __future__ import annotations

import base64
import dataclasses
import os
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from mailstore.errors import AuthenticationFailed, OnAnotherNode
from protocols.limits import LoginLimits, SaslServiceLimits, StreamLimits
from protocols.sasl_service.server import SaslFactory
from tests.login_guard import make_guard
from tests.memory_store import MemoryStore
from tests.wire import Client, RecordingLog

HELLO = b"VERSION\t1\t1\nCPID\t77\n"
COOKIE = b"0" * 32


def handshake(number: int) -> bytes:
    """What the server says to its connection of this number."""
    return (
        b"VERSION\t1\t1\nMECH\tPLAIN\tplaintext\nMECH\tLOGIN\tplaintext\n"
        b"SPID\t%d\nCUID\t%d\nCOOKIE\t%b\nDONE\n" % (os.getpid(), number, COOKIE)
    )


def plain(name: bytes = b"joe", secret: bytes = b"secret", authzid: bytes = b"") -> bytes:
    """The response of PLAIN in base64."""
    return base64.b64encode(b"\0".join((authzid, name, secret)))


def auth(
    number: int, *, mechanism: bytes = b"PLAIN", initial: bytes | None = None, more: bytes = b""
) -> bytes:
    """AUTH as Postfix writes it for a client with TLS; ``more`` stands before the response."""
    resp = b"" if initial is None else b"\tresp=" + initial
    address = b"" if b"rip=" in more else b"\tlip=192.0.2.25\trip=198.51.100.7"
    return b"AUTH\t%d\t%b\tservice=smtp\tnologin%b\tsecured%b%b\n" % (number, mechanism, address, more, resp)


class OtherNode:
    """A node ``b``, with the secret ``theirs`` for everybody, or an answer that is to come."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, bytes, bytes]] = []
        self.answer: Deferred[None] | None = None
        self.away = False

    async def prove_for_smtp(self, node: str, address: str, name: bytes, secret: bytes) -> None:
        """See ``OtherNodes``."""
        self.asked.append((node, address, name, secret))
        if self.answer is not None:
            await self.answer
        if self.away:
            raise OnAnotherNode
        if secret != b"theirs":
            raise AuthenticationFailed


class SaslWorld:
    """A server with its clock and logs. Keyword arguments change its limits."""

    def __init__(self, login_limits: LoginLimits | None = None, **limits: Any) -> None:
        self.clock = Clock()
        self.clock.advance(1)  # a time of zero means never
        self.store = MemoryStore()
        self.account = self.store.add_account()
        self.access_log = RecordingLog()
        self.limits = dataclasses.replace(SaslServiceLimits(), **limits)
        self.nodes = OtherNode()
        self.guard = make_guard(self.store, login_limits or LoginLimits(), self.clock)
        self.factory = SaslFactory(
            *(self.guard, self.limits, self.access_log, self.clock, StreamLimits()),
            random=bytes,
            nodes=self.nodes,
        )
        self._connections = 0

    def connect(self) -> Client:
        """A connection whose handshake has been heard, before the client has said anything."""
        client = Client(self.factory)
        self._connections += 1
        assert client.hear() == handshake(self._connections)
        return client

    def ready(self) -> Client:
        """A connection after both handshakes."""
        client = self.connect()
        assert client.say(HELLO) == b""
        return client
