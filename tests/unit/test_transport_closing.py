"""Closing and waiting: what was written goes out, and nobody waits for a peer longer than he should."""

from __future__ import annotations

import socket
from collections.abc import Coroutine
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from protocols.limits import StreamLimits
from protocols.transport import Channel, Endable, IdleTimeout, StreamConnection, StreamFactory

LIMITS = StreamLimits(close_wait_s=2.0, write_stall_timeout_s=10.0)


class Lower:
    """What lies below TLS: the socket whose queue counts."""

    def __init__(self, unsent: socket.socket) -> None:
        self.socket = unsent


class Deaf(StringTransport):
    """A transport whose peer does not answer the end of TLS."""

    def __init__(self, lower: Lower | None = None) -> None:
        super().__init__()
        self.aborted = False
        if lower is not None:
            self.transport = lower

    def loseConnection(self) -> None:
        """The peer is told, and says nothing."""

    def abortConnection(self) -> None:
        """The end."""
        self.aborted = True


async def say_goodbye(channel: Channel) -> None:
    """A session that is over at once."""
    await channel.write(b"* BYE\r\n")


def closed(transport: Any) -> tuple[Clock, StreamConnection]:
    """A connection whose session has ended."""
    clock = Clock()
    connection = StreamConnection(say_goodbye, clock, LIMITS)
    connection.makeConnection(transport)
    return clock, connection


def test_a_peer_that_has_everything_is_not_waited_for() -> None:
    """Many clients never send close_notify; a stopping server cannot wait for them."""
    transport = Deaf()
    clock, _ = closed(transport)
    assert transport.value() == b"* BYE\r\n"
    clock.advance(1.9)
    assert not transport.aborted
    clock.advance(0.2)
    assert transport.aborted


def test_a_slow_peer_gets_the_rest() -> None:
    """While the kernel still has bytes for the peer, the connection stays, up to the stall timeout."""
    here, there = socket.socketpair()
    with here, there:
        here.setblocking(False)
        here.send(b"not read yet")
        transport = Deaf(Lower(here))
        clock, _ = closed(transport)
        clock.advance(2.1)
        assert not transport.aborted
        there.recv(100)
        clock.advance(2.1)
        assert transport.aborted
        here.send(b"never read")
        stalled = Deaf(Lower(here))
        clock, _ = closed(stalled)
        for _ in range(6):
            clock.advance(2.1)
        assert stalled.aborted


class Quiet:
    """A session that waits until it is asked to end."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._over = False

    def end(self, reason: bytes) -> None:
        """See ``Endable``."""
        self._over = True
        self._channel.wake()

    async def run(self) -> None:
        """Wait, and say goodbye."""
        while not self._over:
            await self._channel.read(1000)
        await self._channel.write(b"* BYE\r\n")


class QuietFactory(StreamFactory):
    """Connections with such sessions."""

    def session(self, channel: Channel) -> tuple[Endable, Coroutine[Any, Any, None]]:
        """See ``StreamFactory``."""
        session = Quiet(channel)
        return session, session.run()


def test_a_stop_waits_hardly_for_peers_that_do_not_close() -> None:
    """A server that stops waits until its goodbye has arrived, not for what the peer does with it."""
    clock = Clock()
    factory = QuietFactory(clock, LIMITS)
    transports = [Deaf(), Deaf()]
    connections = []
    for transport in transports:
        connection: Any = factory.buildProtocol(None)
        connection.makeConnection(transport)
        connections.append(connection)
    # One is closing already when the stop begins.
    connections[1].close()
    stopped = Deferred.fromCoroutine(factory.drain(30.0))
    assert transports[0].value() == b"* BYE\r\n"
    clock.advance(LIMITS.stop_close_wait_s)
    assert [transport.aborted for transport in transports] == [True, True]
    for connection in connections:
        connection.connectionLost()
    assert stopped.called
    assert LIMITS.stop_close_wait_s < 0.5


def test_a_stop_waits_for_peers_that_have_not_taken_everything() -> None:
    """What was written still goes out first."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(b"* BYE\r\n")
        clock = Clock()
        factory = QuietFactory(clock, LIMITS)
        transport = Deaf(Lower(ours))
        connection: Any = factory.buildProtocol(None)
        connection.makeConnection(transport)
        stopped = Deferred.fromCoroutine(factory.drain(30.0))
        for _ in range(10):
            clock.advance(LIMITS.stop_close_wait_s)
        assert not transport.aborted
        theirs.recv(100)
        clock.advance(LIMITS.stop_close_wait_s)
        assert transport.aborted
        connection.connectionLost()
        assert stopped.called


def test_a_stop_cuts_off_nothing_that_is_lost_already() -> None:
    """The deadline of a stop also comes for connections that ended while it waited for others."""
    clock = Clock()
    factory = QuietFactory(clock, StreamLimits(stop_close_wait_s=60.0))
    stubborn, gone = Deaf(), Deaf()
    connections = []
    for transport in (stubborn, gone):
        connection: Any = factory.buildProtocol(None)
        connection.makeConnection(transport)
        connections.append(connection)
    stopped = Deferred.fromCoroutine(factory.drain(30.0))
    connections[1].connectionLost()
    clock.advance(30.0)
    assert (stubborn.aborted, gone.aborted) == (True, False)
    connections[0].connectionLost()
    assert stopped.called


class Reading:
    """A session that reads, each time with the patience that is next."""

    def __init__(self, *patience_s: float) -> None:
        self.heard: list[bytes | None] = []
        self.gave_up = False
        self._patience_s = patience_s

    async def __call__(self, channel: Channel) -> None:
        try:
            for seconds in self._patience_s:
                self.heard.append(await channel.read(seconds))
        except IdleTimeout:
            self.gave_up = True


def reading(*patience_s: float) -> tuple[Clock, StreamConnection, Reading]:
    """A connection with such a session."""
    clock, session = Clock(), Reading(*patience_s)
    connection = StreamConnection(session, clock, LIMITS)
    connection.makeConnection(Deaf())
    return clock, connection, session


def test_each_read_waits_for_its_own_time() -> None:
    """However long those before it took: longer and shorter ones."""
    clock, connection, session = reading(10, 10, 2, 30)
    for waited_s in (9, 9, 1):
        clock.advance(waited_s)
        assert not session.gave_up
        connection.dataReceived(b"x")
    clock.advance(29)
    assert not session.gave_up
    clock.advance(1)
    assert session.gave_up
    assert session.heard == [b"x"] * 3
    clock, connection, session = reading(100, 2)
    connection.dataReceived(b"x")
    clock.advance(2)
    assert session.gave_up


def test_reads_share_a_timer_that_ends_with_the_connection() -> None:
    """A thousand commands leave one timer, and a connection that is gone leaves none."""
    clock, connection, session = reading(*[10.0] * 1001)
    for _ in range(1000):
        connection.dataReceived(b"x")
    assert len(session.heard) == 1000
    assert len(clock.getDelayedCalls()) == 1
    connection.connectionLost()
    assert not clock.getDelayedCalls()


def test_the_time_of_a_command_is_no_idle_time() -> None:
    """The timer of the last read ends while the command runs; the next read waits as long as it should."""
    going_on: Deferred[None] = Deferred()
    gave_up: list[bool] = []

    async def session(channel: Channel) -> None:
        await channel.read(5)
        await going_on
        try:
            await channel.read(5)
        except IdleTimeout:
            gave_up.append(True)

    clock = Clock()
    connection = StreamConnection(session, clock, LIMITS)
    connection.makeConnection(Deaf())
    connection.dataReceived(b"x")
    clock.advance(60)
    going_on.callback(None)
    clock.advance(4)
    assert not gave_up
    clock.advance(1)
    assert gave_up
