"""The port of the metrics: what it answers, and how it bears whoever has nothing to ask."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from deploy.metrics.http import MetricsFactory, MetricsLimits, response, status_of

LIMITS = MetricsLimits(connections_max=2, request_max_bytes=100, timeout_s=10.0)
GET = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"


class Wire(StringTransport):
    """A connection's other side."""

    aborted = False

    def abortConnection(self) -> None:  # Twisted's name
        """Cut off."""
        self.aborted = True


class World:
    """A port with its clock."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.rendered = 0
        self.factory = MetricsFactory(self.render, self.clock, LIMITS)

    def render(self) -> bytes:
        """Something."""
        self.rendered += 1
        return b"number 1\n"

    def connect(self, host: str = "127.0.0.1") -> tuple[Any, Wire]:
        """A connection from there."""
        wire = Wire()
        connection: Any = self.factory.buildProtocol(IPv4Address("TCP", host, 1234))
        connection.makeConnection(wire)
        return connection, wire


@pytest.fixture
def world() -> World:
    """A port."""
    return World()


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"GET /metrics HTTP/1.1", 200),
        (b"GET /metrics?name=x HTTP/1.0", 200),
        (b"GET / HTTP/1.1", 404),
        (b"GET /metrics/ HTTP/1.1", 404),
        (b"GET /../metrics HTTP/1.1", 404),
        (b"HEAD /metrics HTTP/1.1", 405),
        (b"POST /metrics HTTP/1.1", 405),
        (b"get /metrics HTTP/1.1", 405),
        (b"GET /metrics", 400),
        (b"GET  /metrics HTTP/1.1", 400),
        (b"GET /metrics HTTP/2", 400),
        (b"", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00", 400),
    ],
)
def test_only_the_metrics_are_there(line: bytes, status: int) -> None:
    """Whatever else is asked for."""
    assert status_of(line + b"\r\nHost: x") == status


def test_one_answer_and_the_connection_ends(world: World) -> None:
    """Also when more was asked at once."""
    connection, wire = world.connect()
    connection.dataReceived(GET + GET)
    connection.dataReceived(GET)
    assert wire.value() == response(200, b"number 1\n")
    assert wire.disconnecting
    assert world.rendered == 1


def test_a_request_octet_by_octet(world: World) -> None:
    """It is answered when it is complete, and not before."""
    connection, wire = world.connect()
    for at in range(len(GET)):
        assert wire.value() == b""
        connection.dataReceived(GET[at : at + 1])
    assert wire.value().startswith(b"HTTP/1.1 200 OK\r\n")


def test_a_request_without_end(world: World) -> None:
    """It is refused when it is too long, and what follows is not kept."""
    connection, wire = world.connect()
    connection.dataReceived(b"x" * (LIMITS.request_max_bytes + 1))
    assert wire.value().startswith(b"HTTP/1.1 431 ")
    connection.dataReceived(b"x" * 1_000_000)
    assert connection._heard == b""


def test_whoever_says_nothing_is_cut_off(world: World) -> None:
    """And whoever does not read: the time is for the whole connection."""
    for heard in (b"", b"GET /met", GET):
        connection, wire = world.connect()
        connection.dataReceived(heard)
        world.clock.advance(LIMITS.timeout_s - 0.1)
        assert not wire.aborted
        world.clock.advance(0.2)
        assert wire.aborted
        connection.connectionLost()


def test_silent_connections_keep_nobody_out(world: World) -> None:
    """However many there are: the one that has said nothing for longest ends, and who asks is answered."""
    silent = [world.connect()[1] for _ in range(20)]
    assert [wire.aborted for wire in silent] == [True] * 18 + [False] * 2
    connection, wire = world.connect()
    connection.dataReceived(GET)
    assert wire.value().startswith(b"HTTP/1.1 200 ")
    assert [wire.aborted for wire in silent] == [True] * 19 + [False]
    assert len(world.factory.open) == LIMITS.connections_max


def test_whoever_is_being_answered_stays(world: World) -> None:
    """As long as one of the same site is silent."""
    asking, answered = world.connect()
    asking.dataReceived(GET)
    silent = world.connect()[1]
    newest = world.connect()[1]
    assert (answered.aborted, silent.aborted, newest.aborted) == (False, True, False)


def test_a_site_with_many_connections_ends_nobody_elses(world: World) -> None:
    """It loses its own, also if another's is older and has not asked yet."""
    slow, theirs = world.connect("192.0.2.1")
    others = [world.connect("198.51.100.9")[1] for _ in range(5)]
    assert not theirs.aborted
    assert [wire.aborted for wire in others] == [True] * 4 + [False]
    slow.dataReceived(GET)
    assert theirs.value().startswith(b"HTTP/1.1 200 ")


def test_a_connection_that_has_ended_leaves_its_place(world: World) -> None:
    """Nobody is cut off for it."""
    first, _ = world.connect()
    second = world.connect()[1]
    first.connectionLost()
    assert not world.connect()[1].aborted
    assert not second.aborted


def test_numbers_that_cannot_be_gathered(world: World) -> None:
    """500, nothing of the error, and the next request is served."""

    def fails() -> bytes:
        raise RuntimeError("Read beyond file size detected")

    world.factory.render = fails
    connection, wire = world.connect()
    connection.dataReceived(GET)
    assert wire.value() == response(500)
    assert b"beyond" not in wire.value()
    world.factory.render = world.render
    connection, wire = world.connect()
    connection.dataReceived(GET)
    assert wire.value().startswith(b"HTTP/1.1 200 ")


def test_a_method_that_is_not_allowed_is_told_which_is() -> None:
    """RFC 9110 section 15.5.6."""
    assert b"\r\nAllow: GET\r\n" in response(405)
    assert b"\r\nAllow" not in response(404)
