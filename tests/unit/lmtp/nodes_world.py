"""Other nodes without sockets: a test decides when a call is answered, and by whom."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectingCancelledError, ConnectionRefusedError
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from mailstore.errors import StoreError
from protocols.limits import NodeLimits
from protocols.lmtp.dialogue import Dialogue
from protocols.lmtp.nodes import Nodes

HELLO = b"220 b LMTP Sealbox ready\r\n"
CAPABLE = b"250 b\r\n"


class Connection(StringTransport):
    """A transport that is closed when it is told so."""

    aborted = False

    def abortConnection(self) -> None:
        """Closed at once."""
        self.aborted = True


class Call:
    """One attempt to connect to a node."""

    def __init__(self, factory: Any) -> None:
        self.given_up = False
        self.answer: Deferred[Dialogue] = Deferred(self._cancelled)
        self.transport = Connection()
        self.dialogue: Dialogue = factory.buildProtocol(None)

    def _cancelled(self, answer: Deferred[Dialogue]) -> None:
        self.given_up = True
        answer.errback(ConnectingCancelledError(None))

    def connect(self, *said: bytes) -> None:
        """Somebody is there, and says this."""
        self.dialogue.makeConnection(self.transport)
        self.answer.callback(self.dialogue)
        self.say(*said)

    def say(self, *said: bytes) -> None:
        """The node's end."""
        for one in said:
            self.dialogue.dataReceived(one)

    def hear(self) -> bytes:
        """What the node was told since the last time."""
        found: bytes = self.transport.value()
        self.transport.clear()
        return found


class NodesWorld:
    """The way to other nodes, each of which is at an address unless the directory fails."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **limits: Any) -> None:
        self.clock = Clock()
        self.calls: list[Call] = []
        self.directory_error: StoreError | None = None
        self.address: str | None = "b.example.org:2424"
        monkeypatch.setattr("twisted.internet.endpoints.HostnameEndpoint", lambda *_: None)
        monkeypatch.setattr("twisted.internet.endpoints.wrapClientTLS", lambda *_: self)
        tls: Any = type("Tls", (), {"to": lambda _self, _node: None})()
        self.limits = NodeLimits(**limits)
        self.nodes = Nodes(self.clock, self._address_of, tls, "mx.example.org", self.limits)

    async def _address_of(self, _node: str) -> str | None:
        if self.directory_error is not None:
            raise self.directory_error
        return self.address

    def connect(self, factory: Any) -> Deferred[Dialogue]:
        """The endpoint's part."""
        self.calls.append(Call(factory))
        return self.calls[-1].answer

    def close(self) -> None:
        """Whatever was begun comes to its end."""
        for call in self.calls:
            if call.answer.called:
                call.dialogue.connectionLost()
            else:
                call.answer.errback(ConnectionRefusedError())

    @property
    def call(self) -> Call:
        """The last one."""
        return self.calls[-1]


def outcome(asked: Awaitable[Any]) -> list[Any]:
    """What comes of it, or the error, once that is known."""
    found: list[Any] = []
    done: Deferred[Any] = Deferred.fromCoroutine(asked)  # type: ignore[arg-type]  # a coroutine

    def failed(failure: Failure) -> None:
        found.append(failure.value)

    done.addCallbacks(found.append, failed)
    return found
