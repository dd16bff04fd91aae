"""Calling other nodes: how long for, how many at a time, and who waits for one that says nothing."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from nodes_world import CAPABLE, HELLO, NodesWorld, outcome
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionRefusedError, TimeoutError

from mailstore.errors import DirectoryUnavailable
from protocols.envelope.onward import OnwardMail
from protocols.lmtp.client import NodeMail
from protocols.lmtp.dialogue import Dialogue, Unanswered

MAIL = OnwardMail(b"bob@example.net", False, (b"ann@example.org",), b"Subject: x\r\n\r\n")


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[NodesWorld]:
    """Two connections at a time, nobody connects by himself."""
    found = NodesWorld(monkeypatch, connections_max=2, connect_timeout_s=5.0, silent_s=7.0)
    yield found
    found.close()


def test_a_node_is_reached_when_both_have_greeted(world) -> None:
    """RFC 2033 section 4.1."""
    found = outcome(world.nodes.reach("b"))
    world.call.connect(HELLO)
    assert (world.call.hear(), found) == (b"LHLO mx.example.org\r\n", [])
    world.call.say(b"250-b\r\n250 SIZE 10\r\n")
    assert found == [world.call.dialogue] and isinstance(found[0], Dialogue)
    world.clock.advance(60)
    assert not world.call.transport.aborted


SILENT = {"no connection": None, "no greeting": b"", "half a greeting": b"220 b", "no answer": HELLO}


@pytest.mark.parametrize("said", SILENT.values(), ids=SILENT)
def test_nobody_waits_again_for_a_node_that_was_waited_for_in_vain(world, said) -> None:
    """For a while; then one caller finds out for all others."""
    first = outcome(world.nodes.reach("b"))
    if said is not None:
        world.call.connect(said)
    world.clock.advance(4.9)
    assert first == []
    world.clock.advance(0.2)
    assert [type(one) for one in first] == [Unanswered]
    assert world.call.given_up if said is None else world.call.transport.disconnecting
    world.clock.advance(6.0)
    assert [type(one) for one in outcome(world.nodes.reach("b"))] == [Unanswered]
    outcome(world.nodes.reach("c"))
    assert len(world.calls) == 2, "another node is called as before"
    world.clock.advance(1.5)
    finding_out = outcome(world.nodes.reach("b"))
    assert [type(one) for one in outcome(world.nodes.reach("b"))] == [Unanswered]
    assert len(world.calls) == 3
    world.call.connect(HELLO, CAPABLE)
    assert finding_out == [world.call.dialogue]
    outcome(world.nodes.reach("b"))
    assert len(world.calls) == 4


def test_an_endpoint_that_gives_up_first_has_waited_in_vain_as_well(world) -> None:
    """It has the same time."""
    first = outcome(world.nodes.reach("b"))
    world.call.answer.errback(TimeoutError())
    assert [one.reason for one in first + outcome(world.nodes.reach("b"))] == [
        "no answer in time",
        "it did not answer a moment ago",
    ]


def test_who_is_refused_at_once_may_try_again_at_once(world) -> None:
    """Nobody has waited, and it may be starting."""
    first = outcome(world.nodes.reach("b"))
    world.call.answer.errback(ConnectionRefusedError())
    assert first[0].reason == "ConnectionRefusedError"
    outcome(world.nodes.reach("b"))
    world.call.connect(b"421 4.3.2 too many\r\n")
    assert world.call.transport.disconnecting
    outcome(world.nodes.reach("b"))
    assert len(world.calls) == 3


def test_a_directory_that_cannot_be_asked_says_nothing_of_the_node(world) -> None:
    """Nor does one that has no such node."""
    world.directory_error = DirectoryUnavailable()
    [first] = outcome(world.nodes.reach("b"))
    world.directory_error, world.address = None, None
    [second] = outcome(world.nodes.reach("b"))
    assert [first.reason, second.reason] == ["DirectoryUnavailable", "the directory has no such node"]
    world.address = "[2001:db8::1]:24"
    outcome(world.nodes.reach("b"))
    assert len(world.calls) == 1


def test_a_node_gets_so_many_connections(world) -> None:
    """Mail beyond them is put off at once, and one that has ended makes room."""
    mail = NodeMail(world.nodes)
    results = [outcome(mail.pass_on("b", MAIL)) for _ in range(3)]
    assert len(world.calls) == 2
    assert [[reply.code for reply in one[0]] for one in results if one] == [[451]]
    world.calls[0].answer.errback(ConnectionRefusedError())
    outcome(mail.pass_on("b", MAIL))
    assert len(world.calls) == 3


def test_the_log_says_once_that_a_node_is_away_and_once_that_it_is_back(world, caplog) -> None:
    """Whoever asks meanwhile says nothing more."""
    mail = NodeMail(world.nodes)
    with caplog.at_level(logging.INFO, "sealbox.nodes"):
        for _ in range(2):
            outcome(mail.pass_on("b", MAIL))
            world.call.answer.errback(ConnectionRefusedError())
        for _ in range(2):
            outcome(mail.pass_on("b", MAIL))
            world.call.connect(HELLO, CAPABLE, b"250 2.1.0 ok\r\n550 5.1.1 no such recipient\r\n")
    assert [one.getMessage() for one in caplog.records] == [
        "node b does not take the mail of its accounts (ConnectionRefusedError): senders try again",
        "node b takes mail again",
    ]


def test_a_sender_who_leaves_while_a_node_is_called_ends_the_call(world) -> None:
    """The endpoint has an error of its own for that, which would be taken for a node that is away."""
    passed = Deferred.fromCoroutine(NodeMail(world.nodes).pass_on("b", MAIL))
    passed.cancel()
    assert world.call.given_up
    failed: list[type] = []
    passed.addErrback(lambda failure: failed.append(failure.type))
    assert failed == [CancelledError]
