"""Asking another node whether a password is right: what is said, and what each answer means."""

from __future__ import annotations

import base64
import logging
from collections.abc import Iterator

import pytest
from lmtp_world import Door
from nodes_world import CAPABLE, HELLO, Call, NodesWorld, outcome
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionRefusedError

from mailstore.errors import AuthenticationFailed, OnAnotherNode
from protocols.lmtp.passwords import NodePasswords
from tests.wire import Client

ADDRESS, NAME, SECRET = "2001:db8::7", b"ann@example.org", "pässword with blanks".encode()
YES = b"235 2.7.0 authentication succeeded\r\n"


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[NodesWorld]:
    """Nobody connects by himself."""
    found = NodesWorld(monkeypatch, connections_max=2)
    yield found
    found.close()


@pytest.fixture
def passwords(world) -> NodePasswords:
    """What asks."""
    return NodePasswords(world.nodes)


def asked(passwords: NodePasswords, secret: bytes = SECRET, address: str = ADDRESS) -> list[object]:
    """None for yes, or the error, once that is known."""
    return outcome(passwords.prove_for_smtp("b", address, NAME, secret))


def test_what_is_said(world, passwords) -> None:
    """Whose it is (XCLIENT), then the response of PLAIN, and goodbye (RFC 4954, RFC 4616)."""
    found = asked(passwords)
    world.call.connect(HELLO, CAPABLE)
    assert world.call.hear() == b"LHLO mx.example.org\r\nXCLIENT ADDR=IPV6:2001:db8::7\r\n"
    world.call.say(HELLO)
    assert world.call.hear() == b"LHLO mx.example.org\r\n"
    world.call.say(CAPABLE)
    response = base64.b64encode(b"\0" + NAME + b"\0" + SECRET)
    assert world.call.hear() == b"AUTH PLAIN " + response + b"\r\n"
    assert found == []
    world.call.say(YES)
    assert (found, world.call.hear()) == ([None], b"QUIT\r\n")


LAST: dict[str, tuple[bytes, type | None]] = {
    "yes": (YES, None),
    "no": (b"535 5.7.8 no\r\n", AuthenticationFailed),
    "too long": (b"500 5.5.2 line too long\r\n", AuthenticationFailed),
    "no response": (b"501 5.5.2 this is no response of this mechanism\r\n", AuthenticationFailed),
    "unknown": (b"500 5.5.1 unknown command\r\n", OnAnotherNode),
    "later": (b"454 4.7.0 later\r\n", OnAnotherNode),
    "not here": (b"502 5.5.1 command not offered\r\n", OnAnotherNode),
    "another yes": (b"250 2.0.0 OK\r\n", OnAnotherNode),
    "shutting down": (b"421 4.3.2 bye\r\n", OnAnotherNode),
    "no reply": (b"hello\r\n", OnAnotherNode),
    "a challenge": (b"334 \r\n", OnAnotherNode),
}


@pytest.mark.parametrize(("said", "error"), LAST.values(), ids=LAST)
def test_nothing_but_its_own_reply_lets_anybody_in(world, passwords, said, error) -> None:
    """And nothing but its own refusal is a wrong password."""
    found = asked(passwords)
    world.call.connect(HELLO, CAPABLE, HELLO, CAPABLE, said)
    assert [None if one is None else type(one) for one in found] == [error]
    assert "ann@" not in repr(found) and "word" not in repr(found)


@pytest.mark.parametrize("said", [[b"500 5.5.1 unknown command\r\n"], [HELLO, b"421 4.3.2 bye\r\n"]])
def test_a_node_that_does_not_come_to_the_password_never_hears_it(world, passwords, said) -> None:
    """One of an earlier version does not know XCLIENT."""
    found = asked(passwords)
    world.call.connect(HELLO, CAPABLE, *said)
    assert [type(one) for one in found] == [OnAnotherNode]
    assert b"AUTH" not in world.call.hear()


@pytest.mark.parametrize("address", ["", "unknown", "fe80::1%x\r\nAUTH PLAIN AGEAYg==", "ä"])
def test_what_is_no_address_is_not_sent(world, passwords, address) -> None:
    """Nobody knows then who guesses."""
    asked(passwords, address=address)
    world.call.connect(HELLO, CAPABLE)
    assert world.call.hear().endswith(b"\r\nXCLIENT ADDR=[UNAVAILABLE]\r\n")


def test_the_log_names_a_node_that_is_away_and_nobody_who_asked(world, passwords, caplog) -> None:
    """A wrong password, one that is too long, and one that cannot be checked now are answers."""
    with caplog.at_level(logging.INFO):
        asked(passwords)
        world.call.answer.errback(ConnectionRefusedError())
        for answer in (b"454 4.7.0 later\r\n", b"500 5.5.2 line too long\r\n"):
            asked(passwords)
            world.call.connect(HELLO, CAPABLE, HELLO, CAPABLE, answer)
    assert [one.getMessage() for one in caplog.records] == [
        "node b does not check the passwords of its accounts (ConnectionRefusedError):"
        " who wants to send mail tries again",
        "node b checks passwords again",
    ]


def test_so_many_are_asked_at_a_time(world, passwords) -> None:
    """Whoever comes beyond them tries again; mail has as many of its own."""
    waiting = [asked(passwords) for _ in range(3)]
    assert [len(one) for one in waiting] == [0, 0, 1] and len(world.calls) == 2


def test_a_few_addresses_keep_nobody_else_out(world, passwords) -> None:
    """Who comes from elsewhere takes the place of the oldest of who has most; that one tries again."""
    guesses = [asked(passwords, address=f"192.0.2.{number}") for number in (1, 2)]
    for call in world.calls:
        call.connect(HELLO, CAPABLE)
    mine = asked(passwords, address="198.51.100.1")
    assert [type(one) for one in guesses[0]] == [OnAnotherNode]
    assert (guesses[1], mine, len(world.calls)) == ([], [], 3)
    assert world.calls[0].transport.disconnecting
    world.call.connect(HELLO, CAPABLE, HELLO, CAPABLE, YES)
    assert mine == [None]
    more = [asked(passwords, address="192.0.2.2") for _ in range(2)]
    assert [len(one) for one in more] == [0, 1], "it has most itself"
    asked(passwords, address="192.0.2.1")
    assert ([type(one) for one in guesses[1]], more[0]) == ([OnAnotherNode], []), "the oldest of two"


def test_who_has_most_makes_room(monkeypatch) -> None:
    """And not who was there first."""
    world = NodesWorld(monkeypatch, connections_max=3)
    passwords = NodePasswords(world.nodes)
    first, second, third = (asked(passwords, address=f"192.0.2.{number}") for number in (1, 2, 2))
    asked(passwords, address="192.0.2.3")
    assert ([len(one) for one in (first, second, third)], len(world.calls)) == ([0, 1, 0], 4)
    world.close()


def test_who_hangs_up_makes_room(world, passwords) -> None:
    """And nobody is told anything."""
    for _ in range(5):
        found: list[object] = []
        proof = Deferred.fromCoroutine(passwords.prove_for_smtp("b", ADDRESS, NAME, SECRET))
        proof.addErrback(lambda failure, found=found: found.append(failure.type))
        proof.cancel()
        assert found == [CancelledError]
    assert [one.given_up for one in world.calls] == [True] * 5


def relay(call: Call, client: Client) -> None:
    """What both say reaches the other, until neither says anything."""
    call.connect(HELLO)
    while said := call.hear():
        call.say(client.say(said))


def test_a_node_with_shorter_lines_refuses_what_does_not_fit(world) -> None:
    """As wrong: whoever had the attempt taken back could have nodes ask each other without an end."""
    door = Door(line_max_bytes=512)
    found = outcome(NodePasswords(world.nodes).prove_for_smtp("b", ADDRESS, b"joe", b"x" * 1000))
    relay(world.call, door.connect())
    assert [type(one) for one in found] == [AuthenticationFailed]
    assert door.accounts.logins == 0


@pytest.mark.parametrize(("secret", "error"), [(b"secret", None), (b"x" * 1024, AuthenticationFailed)])
def test_both_ends_understand_each_other(world, secret, error) -> None:
    """The door of a node, asked by another one; the longest secret that a login may have fits."""
    door = Door()
    found = outcome(NodePasswords(world.nodes).prove_for_smtp("b", ADDRESS, b"joe", secret))
    relay(world.call, door.connect())
    assert [None if one is None else type(one) for one in found] == [error]
    assert [(one.address, one.command) for one in door.access_log.entries] == [(ADDRESS, "LMTP AUTH")]
