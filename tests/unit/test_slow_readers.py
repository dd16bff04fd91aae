"""Peers over slow lines: who reads, however slowly, is not cut off; who does not, is."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from protocols.limits import StreamLimits
from protocols.transport import Channel, IdleTimeout, StreamConnection

STALL_S, STALL_BYTES = 10.0, 1000
LIMITS = StreamLimits(write_stall_timeout_s=STALL_S, write_stall_bytes=STALL_BYTES)


class Line(StringTransport):
    """A transport that is full, above a socket that the test writes to."""

    def __init__(self, below: socket.socket) -> None:
        super().__init__()
        self.transport = self
        self.socket = below
        self.aborted = False

    def abortConnection(self) -> None:
        """The end."""
        self.aborted = True


@dataclass
class Peer:
    """The other end of a TCP connection."""

    ours: socket.socket
    theirs: socket.socket

    def takes(self, octets: int) -> None:
        """It is sent so much more, and takes and acknowledges it."""
        self.ours.sendall(bytes(octets))
        left = octets
        while left:
            left -= len(self.theirs.recv(left))
        deadline = time.monotonic() + 20
        connection = StreamConnection(_nothing, Clock(), LIMITS)
        connection.transport = Line(self.ours)
        while connection._unsent():
            assert time.monotonic() < deadline


@pytest.fixture
def peer() -> Iterator[Peer]:
    """A real connection: what the peer has acknowledged is the kernel's to know."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        theirs = socket.create_connection(listening.getsockname())
        ours, _ = listening.accept()
    with ours, theirs:
        yield Peer(ours, theirs)


async def _nothing(_: Channel) -> None:
    """A session that does nothing."""


def _begun(peer: Peer, session: Callable[[Channel], Any]) -> tuple[Clock, Line]:
    clock, line = Clock(), Line(peer.ours)
    connection = StreamConnection(session, clock, LIMITS)
    connection.transport = line  # type: ignore[assignment]  # a transport as far as it is used
    connection.pauseProducing()
    connection.makeConnection(line)
    return clock, line


async def _writing(channel: Channel) -> None:
    await channel.write(b"x")


class Waiting:
    """A session that waits for a command."""

    gave_up = False

    async def __call__(self, channel: Channel) -> None:
        try:
            await channel.read(5.0)
        except IdleTimeout:
            self.gave_up = True


@pytest.mark.parametrize(("octets", "cut"), [(STALL_BYTES, False), (STALL_BYTES - 1, True), (0, True)])
def test_a_writer_waits_for_a_peer_that_reads(peer: Peer, octets: int, cut: bool) -> None:
    """The transport never has room, and yet the peer reads; or next to nothing."""
    clock, line = _begun(peer, _writing)
    for _ in range(5):
        peer.takes(octets)
        clock.advance(STALL_S)
    assert line.aborted is cut


def test_a_peer_that_stops_reading_is_cut_off_then(peer: Peer) -> None:
    """Progress counts anew each time."""
    clock, line = _begun(peer, _writing)
    peer.takes(10 * STALL_BYTES)
    clock.advance(STALL_S)
    assert not line.aborted
    clock.advance(STALL_S)
    assert line.aborted


def test_who_still_receives_is_not_idle() -> None:
    """A command cannot be given while the answer to the last one is still under way."""
    session = Waiting()
    with socket.socket() as theirs, socket.create_server(("127.0.0.1", 0)) as listening:
        theirs.settimeout(20)
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        theirs.connect(listening.getsockname())
        ours, _ = listening.accept()
        with ours:
            ours.setblocking(False)
            assert ours.send(bytes(1_000_000)) > 100_000  # far more than the other side has room for
            clock, line = _begun(Peer(ours, theirs), session)
            connection = StreamConnection(_nothing, Clock(), LIMITS)
            connection.transport = line  # type: ignore[assignment]  # as above
            clock.advance(5.0)
            for _ in range(3):
                assert not session.gave_up
                until = connection._taken() + STALL_BYTES
                while connection._taken() < until:
                    theirs.recv(1000)
                clock.advance(STALL_S)
            assert not session.gave_up
            clock.advance(STALL_S)
            assert session.gave_up


def test_where_nothing_is_under_way_an_idle_peer_is_idle(peer: Peer) -> None:
    """At once, as before."""
    session = Waiting()
    clock, _ = _begun(peer, session)
    clock.advance(5.0)
    assert session.gave_up
