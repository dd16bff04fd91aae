"""A server's end of a connection without sockets: what a protocol's tests talk to."""

from __future__ import annotations

from typing import Any

from twisted.internet import error
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from protocols.access_log import Entry
from protocols.budget import MemoryBudget
from protocols.imap.server import ImapFactory
from protocols.limits import ImapLimits, LoginLimits, StreamLimits
from protocols.load import Load
from tests.login_guard import make_guard
from tests.memory_store import MemoryStore


class RecordingLog:
    """An access log in a list."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []

    def record(self, entry: Entry) -> None:
        """See ``AccessLog``."""
        self.entries.append(entry)


class WireTransport(StringTransport):
    """A transport that remembers STARTTLS and closing, and hangs up when asked to."""

    def __init__(self) -> None:
        super().__init__()
        self.tls: Any = None
        self.reading = True
        self.closed = False
        self.owner: Any = None

    def startTLS(self, context: Any, normal: bool = True) -> None:
        """From here on octets would be encrypted."""
        self.tls = context

    def pauseProducing(self) -> None:
        """The server stops reading."""
        self.reading = False

    def resumeProducing(self) -> None:
        """The server reads again."""
        self.reading = True

    def loseConnection(self) -> None:
        """The server hangs up."""
        if not self.closed:
            self.closed = True
            self.owner.connectionLost(Failure(error.ConnectionDone()))

    def abortConnection(self) -> None:
        """The server cuts the connection."""
        self.loseConnection()


class Client:
    """The client's end: says octets, hears lines."""

    def __init__(self, factory: Factory, transport: WireTransport | None = None) -> None:
        self.transport = transport or WireTransport()
        connection: Any = factory.buildProtocol(None)
        self.protocol = connection
        self.transport.owner = self.protocol
        self.protocol.makeConnection(self.transport)

    def say(self, data: bytes) -> bytes:
        """Send ``data`` and return everything the server has said since the last call."""
        if not self.transport.closed:
            self.protocol.dataReceived(data)
        return self.hear()

    def hear(self) -> bytes:
        """Everything the server has said since the last call."""
        said: bytes = self.transport.value()
        self.transport.clear()
        return said

    def hang_up(self) -> None:
        """The client goes away."""
        self.transport.loseConnection()

    @property
    def closed(self) -> bool:
        """Whether the connection is over."""
        return self.transport.closed


def numbers(text: bytes) -> list[int]:
    """The members of a set in the order in which they are written."""
    out: list[int] = []
    for part in text.split(b","):
        low, _, high = part.partition(b":")
        assert int(low) > 0, "no message has the number 0"
        out += range(int(low), int(high or low) + 1)
    return out


TLS = object()
"""Stands for a TLS context."""


class ImapWorld:
    """An IMAP server over a memory store, with its clock and logs."""

    def __init__(
        self,
        limits: ImapLimits | None = None,
        stream_limits: StreamLimits | None = None,
        login_limits: LoginLimits | None = None,
        implicit_tls: bool = True,
    ) -> None:
        self.clock = Clock()
        self.clock.advance(1)  # a time of zero means never
        self.store = MemoryStore()
        self.account = self.store.add_account()
        self.access_log = RecordingLog()
        self.guard = make_guard(self.store, login_limits or LoginLimits(list_scram=True), self.clock)
        self.limits = limits or ImapLimits()
        self.stream_limits = stream_limits or StreamLimits()
        self.load = Load()
        self.literals = MemoryBudget(self.limits.literals_worker_max_bytes)
        self.factory = self.factory_for(implicit_tls)

    def factory_for(self, implicit_tls: bool) -> ImapFactory:
        """The server's port 993, or its port 143."""
        return ImapFactory(
            self.guard,
            self.limits,
            TLS,
            self.access_log,
            self.clock,
            implicit_tls,
            self.literals,
            self.stream_limits,
            random=bytes,
            load=lambda: self.load,
        )

    def hold(self) -> Deferred[None]:
        """Keep the account's operations waiting until the result is fired."""
        self.account.hold = Deferred()
        return self.account.hold

    def connect(self) -> Client:
        """A connection whose greeting has been heard."""
        client = Client(self.factory)
        assert client.hear().startswith(b"* OK [CAPABILITY IMAP4rev1")
        return client

    def logged_in(self) -> Client:
        """A connection after LOGIN."""
        client = self.connect()
        assert b"L OK [CAPABILITY" in client.say(b"L LOGIN joe secret\r\n")
        return client

    def selected(self, mailbox: bytes = b"INBOX") -> Client:
        """A connection after SELECT."""
        client = self.logged_in()
        assert b"S OK [READ-WRITE]" in client.say(b"S SELECT " + mailbox + b"\r\n")
        return client
