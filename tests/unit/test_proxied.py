"""Connections that a proxy passes on: who may bring them, how long it may take, and whom the session sees."""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Coroutine
from typing import Any

import pytest
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from protocols.limits import ProxyLimits, StreamLimits
from protocols.proxied import ProxiedConnection, ProxiedFactory
from protocols.transport import Channel, Endable, StreamFactory

PROXY = "10.0.0.5"
NETWORKS = tuple(map(ipaddress.ip_network, ("10.0.0.0/24", "fd00::/64")))
LIMITS = ProxyLimits(header_timeout_s=5.0)


class _Echo:
    """A session that says who its client is, and repeats what it hears."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._over = False

    def end(self, reason: bytes) -> None:
        """See ``Endable``."""
        self._over = True
        self._channel.wake()

    async def run(self) -> None:
        """Greet first, as IMAP and POP3 do."""
        await self._channel.write(b"hello %b\n" % self._channel.address.encode())
        while not self._over:
            await self._channel.write(await self._channel.read(1000) or b"bye\n")


class _Inner(StreamFactory):
    def session(self, channel: Channel) -> tuple[Endable, Coroutine[Any, Any, None]]:
        """See ``StreamFactory``."""
        session = _Echo(channel)
        return session, session.run()


class _World:
    """A proxied port, with bounds that can be reached."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.inner = _Inner(self.clock, StreamLimits(connections_max=3, connections_per_address_max=2))
        self.inner.service = "imap_proxied"
        self.outer = ProxiedFactory(self.inner, NETWORKS, LIMITS)

    def connect(self, said: bytes = b"", peer: str = PROXY) -> StringTransport:
        """A connection from there that says this."""
        kind = IPv6Address if ":" in peer else IPv4Address
        address = kind("TCP", peer, 4000)
        transport = StringTransport(peerAddress=address)
        protocol = self.outer.buildProtocol(address)
        if protocol is None:
            transport.loseConnection()
        else:
            protocol.makeConnection(transport)
            transport.protocol = protocol
            protocol.dataReceived(said)
        return transport


def header(client: str) -> bytes:
    """Of version 1."""
    return b"PROXY TCP%d %b %b 4000 143\r\n" % (
        (6, client.encode(), b"::1") if ":" in client else (4, client.encode(), b"10.0.0.1")
    )


def protocol_of(transport: StringTransport) -> ProxiedConnection:
    """The server's end."""
    found = transport.protocol
    assert isinstance(found, ProxiedConnection)
    return found


@pytest.fixture
def world() -> _World:
    """See there."""
    return _World()


@pytest.mark.parametrize("client", ["192.0.2.7", "2001:db8::7"])
def test_the_session_sees_the_client(world: _World, client: str) -> None:
    """It begins when the header is there, not before, and hears everything behind it."""
    transport = world.connect(header(client)[:20])
    assert transport.value() == b"" and world.inner.connections == 0
    protocol_of(transport).dataReceived(header(client)[20:] + b"one\n")
    assert transport.value() == b"hello %b\none\n" % client.encode()
    protocol_of(transport).dataReceived(b"two\n")
    assert transport.value().endswith(b"one\ntwo\n")
    assert world.inner.connections == 1
    protocol_of(transport).connectionLost(Failure(ConnectionDone()))
    assert world.inner.connections == 0


def test_a_proxy_that_speaks_for_itself_is_the_client(world: _World) -> None:
    """As one that looks whether we are well."""
    assert world.connect(b"PROXY UNKNOWN\r\n").value() == b"hello 10.0.0.5\n"
    assert world.connect(b"PROXY UNKNOWN\r\n", "fd00::1").value() == b"hello fd00::1\n"


@pytest.mark.parametrize("peer", ["192.0.2.7", "10.0.1.5", "127.0.0.1", "fd00:0:0:1::1", "::1", ""])
def test_strangers_are_not_heard(world: _World, peer: str, caplog: pytest.LogCaptureFixture) -> None:
    """They could name any client, and would be told passwords; the log does not say who they are."""
    for _ in range(3):
        transport = world.connect(header("192.0.2.7"), peer)
        assert transport.disconnecting and transport.value() == b""
    [line] = [one.getMessage() for one in caplog.records if one.levelno == logging.WARNING]
    assert line == (
        "a connection to listen.imap_proxied comes from outside of [proxy] networks: it is refused"
    )


def test_no_reason_hides_another(world: _World, caplog: pytest.LogCaptureFixture) -> None:
    """A scanner's connection must not hide that nginx has no ``proxy_protocol on``."""
    for _ in range(2):
        world.connect(header("192.0.2.7"), "192.0.2.7")
        protocol_of(world.connect(b"a LOGIN joe secret\r\n")).connectionLost(Failure(ConnectionDone()))
        silent = world.connect(b"PROXY ")
        world.clock.advance(LIMITS.header_timeout_s)
        protocol_of(silent).connectionLost(Failure(ConnectionDone()))
    told = [one.getMessage().partition("imap_proxied ")[2] for one in caplog.records]
    assert told == [
        "comes from outside of [proxy] networks: it is refused",
        "does not begin with a header of the PROXY protocol: it is refused",
        "has sent no header of the PROXY protocol: it is refused",
    ]
    world.clock.advance(3600)
    world.connect(b"a")
    assert len(caplog.records) == len(told) + 1
    assert "joe" not in caplog.text


def test_what_is_no_header_ends_the_connection(world: _World) -> None:
    """With its first octet: whoever speaks IMAP there is a client that came by a wrong way."""
    transport = world.connect(b"a")
    assert transport.disconnected and transport.value() == b""
    protocol_of(transport).dataReceived(header("192.0.2.7"))
    assert transport.value() == b""


def test_the_header_is_not_waited_for_any_longer(world: _World) -> None:
    """And nobody waits any more behind it."""
    slow, quick = world.connect(b"PROXY "), world.connect(header("192.0.2.7"))
    world.clock.advance(LIMITS.header_timeout_s - 0.1)
    assert not slow.disconnected
    world.clock.advance(0.2)
    assert slow.disconnected and not quick.disconnected
    world.clock.advance(100)
    assert not quick.disconnected


def test_bounds_are_those_of_clients(world: _World) -> None:
    """Of one client there are so many, of all so many, whichever proxy brings them."""
    both = [world.connect(header("192.0.2.7")) for _ in range(2)]
    assert world.connect(header("192.0.2.7")).disconnected
    assert not world.connect(header("192.0.2.8")).disconnected
    assert world.connect(header("192.0.2.9")).disconnected
    protocol_of(both[0]).connectionLost(Failure(ConnectionDone()))
    assert not world.connect(header("192.0.2.9")).disconnected


def test_those_that_wait_are_bounded_too(world: _World) -> None:
    """Each that leaves, is refused or goes on makes room for another."""
    waiting = [world.connect(b"PROXY ") for _ in range(3)]
    assert world.connect(b"PROXY ").disconnecting
    protocol_of(waiting[0]).connectionLost(Failure(ConnectionDone()))
    protocol_of(waiting[1]).dataReceived(b"x")
    protocol_of(waiting[1]).connectionLost(Failure(ConnectionDone()))
    protocol_of(waiting[2]).dataReceived(b"UNKNOWN\r\n")
    again = [world.connect(b"PROXY ") for _ in range(4)]
    assert [one.disconnecting for one in again] == [False, False, False, True]


def test_a_server_that_stops_begins_nothing(world: _World) -> None:
    """A header that comes late would begin a session that nobody ends."""
    waiting, running = world.connect(b"PROXY "), world.connect(header("192.0.2.7"))
    Deferred.fromCoroutine(world.inner.drain(10.0))
    assert running.value().endswith(b"bye\n")
    protocol_of(waiting).dataReceived(b"UNKNOWN\r\n")
    assert waiting.disconnected and waiting.value() == b""
