"""AUTH at the door for nodes (RFC 4954): every answer, what a hostile peer can do, and who is counted."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from lmtp_world import Door, LmtpWorld, plain, words
from twisted.internet.defer import Deferred

from mailstore.errors import Busy, OnAnotherNode, StorageFailed, TooManyLogins
from mailstore.model import AccessProtocol
from protocols.envelope import requests as ask
from protocols.envelope.authentication import Logins
from protocols.envelope.grammar import parse_command, xclient
from protocols.limits import EnvelopeLimits, LoginLimits
from protocols.lmtp.grammar import NODE_VERBS
from protocols.sites import read_address
from tests.wire import Client

NO = b"535 5.7.8 wrong name or password, or not one for sending mail\r\n"
YES = b"235 2.7.0 authentication succeeded\r\n"
LATER = b"454 4.7.0 the password cannot be checked now, try again later\r\n"
BAD = b"501 5.5.2 this is no response of this mechanism\r\n"
READY = b"220 mx.example.org LMTP Sealbox ready\r\n"


def test_it_is_announced_where_passwords_are_safe_and_nowhere_else() -> None:
    """RFC 4954 section 3: after TLS; ordinary LMTP does not have it."""
    ordinary, open_door = LmtpWorld(implicit_tls=True), Door(secure=False)
    assert b"AUTH" not in ordinary.connect().say(b"LHLO a\r\n")
    assert ordinary.greeted().say(plain()) == b"502 5.5.1 command not offered\r\n"
    assert ordinary.greeted().say(b"XCLIENT ADDR=192.0.2.1\r\n") == b"500 5.5.1 unknown command\r\n"
    assert b"250 AUTH PLAIN LOGIN\r\n" in Door().connect().say(b"LHLO a\r\n")
    client = open_door.connect()
    assert b"AUTH" not in client.say(b"LHLO a\r\n")
    assert client.say(plain()) == b"538 5.7.11 not without TLS\r\n"
    assert client.say(b"STARTTLS\r\n").startswith(b"220 ")
    assert b"250 AUTH PLAIN LOGIN\r\n" in client.say(b"LHLO a\r\n")
    assert open_door.accounts.logins == 0


def test_right_and_wrong_passwords() -> None:
    """With an initial response, with a challenge, with two; the access log has all of them."""
    world = Door()
    client = world.greeted()
    assert client.say(plain(secret=b"other")) == NO
    assert client.say(plain(name=b"nobody")) == NO
    assert client.say(b"auth plain\r\n") == b"334 \r\n"
    assert client.say(words(b"\0joe\0guess") + b"\r\n") == NO
    assert client.say(b"AUTH LOGIN\r\n") == b"334 " + words(b"Username:") + b"\r\n"
    assert client.say(words(b"joe") + b"\r\n") == b"334 " + words(b"Password:") + b"\r\n"
    assert client.say(words(b"secret") + b"\r\n") == YES
    assert [one[1:] for one in world.recorded] == [("LMTP AUTH", "535")] * 3 + [("LMTP AUTH", "235")]
    assert [one.failed for one in world.access_log.entries] == [True] * 3 + [False]


REFUSED: dict[str, tuple[bytes, bytes]] = {
    "nothing": (b"AUTH\r\n", b"501 5.5.4 syntax error in arguments\r\n"),
    "too much": (b"AUTH PLAIN a b\r\n", b"501 5.5.4 syntax error in arguments\r\n"),
    "no mechanism": (b"AUTH PL\xc3\xa4IN\r\n", b"501 5.5.4 syntax error in arguments\r\n"),
    "an unknown one": (b"AUTH CRAM-MD5\r\n", b"504 5.5.4 this mechanism is not offered\r\n"),
    "an empty response": (b"AUTH PLAIN =\r\n", BAD),
    "no base64": (b"AUTH PLAIN AG%pv\r\n", BAD),
    "base64 with a tail": (b"AUTH PLAIN AGpvZQBzZWNyZXQ=AA\r\n", BAD),
    "one part": (b"AUTH PLAIN " + words(b"joe") + b"\r\n", BAD),
    "another identity": (plain(authzid=b"ann"), NO),
    "cancelled": (b"AUTH PLAIN\r\n*\r\n", b"334 \r\n501 5.7.0 authentication cancelled\r\n"),
    "cancelled late": (
        b"AUTH LOGIN " + words(b"joe") + b"\r\n*\r\n",
        b"334 " + words(b"Password:") + b"\r\n501 5.7.0 authentication cancelled\r\n",
    ),
    "a command instead": (b"AUTH PLAIN\r\nMAIL FROM:<>\r\n", b"334 \r\n" + BAD),
    "a bare LF": (b"AUTH PLAIN\r\nAGpvZQ==\n", b"334 \r\n" + BAD),
    "a long response": (
        b"AUTH PLAIN\r\n" + b"A" * 5000 + b"\r\n",
        b"334 \r\n500 5.5.6 the response is too long\r\n",
    ),
    "a long command": (b"AUTH PLAIN " + b"A" * 5000 + b"\r\n", b"500 5.5.2 line too long\r\n"),
}


@pytest.mark.parametrize("split", [False, True], ids=["whole", "byte by byte"])
@pytest.mark.parametrize(("said", "answer"), REFUSED.values(), ids=REFUSED)
def test_whatever_is_no_exchange_is_refused_and_the_session_goes_on(said, answer, split) -> None:
    """RFC 4954 section 4; nobody is asked, and the next one may be right."""
    world = Door()
    client = world.greeted()
    pieces = [bytes([one]) for one in said] if split else [said]
    assert b"".join(client.say(piece) for piece in pieces) == answer
    assert world.accounts.logins == 0
    assert client.say(plain()) == YES


def test_when_it_may_be_said() -> None:
    """After a greeting, outside a transaction, and once (RFC 4954 section 4)."""
    world = Door()
    client = world.connect()
    assert client.say(plain()) == b"503 5.5.1 LHLO first\r\n"
    client.say(b"LHLO a\r\nMAIL FROM:<>\r\n")
    assert client.say(plain()) == b"503 5.5.1 not during a transaction\r\n"
    assert client.say(b"XCLIENT ADDR=192.0.2.1\r\n") == b"503 5.5.1 not during a transaction\r\n"
    client.say(b"RSET\r\n")
    assert client.say(plain()) == YES
    assert client.say(plain()) == b"503 5.5.1 you are authenticated already\r\n"
    assert world.accounts.logins == 1
    assert client.say(b"MAIL FROM:<>\r\n") == b"250 2.1.0 sender OK\r\n"


@pytest.mark.parametrize(
    ("error", "is_told"),
    [(TooManyLogins(), False), (Busy(), False), (OnAnotherNode(), False), (StorageFailed(), True)],
)
def test_what_cannot_be_checked_now_is_no_wrong_password(caplog, error, is_told) -> None:
    """The client tries again; the log has what the operator has to repair, and nothing that was said."""
    world = Door()
    world.accounts.login_error = error
    with caplog.at_level(logging.ERROR):
        assert world.greeted().say(plain()) == LATER
    assert ("AUTH failed, id " in caplog.text) is is_told
    assert "joe" not in caplog.text and "secret" not in caplog.text
    assert world.recorded == [("192.168.1.1", "LMTP AUTH", "454")]
    world.accounts.login_error = None
    assert world.greeted().say(plain()) == YES


def test_a_mistake_of_ours_is_no_wrong_password(monkeypatch, caplog) -> None:
    """It is logged by its type and place."""
    world = Door()

    async def broken(*_: object) -> str:
        raise ValueError("joe's secret")

    monkeypatch.setattr(world.accounts, "prove", broken)
    assert world.greeted().say(plain()) == LATER
    assert "ValueError at " in caplog.text and "secret" not in caplog.text


def test_guessers_are_disconnected_and_slowed() -> None:
    """``attempts_per_connection_max``; the next connection waits as at every other door."""
    world = Door(LoginLimits(attempts_per_connection_max=2, free_failures=2))
    client = world.greeted()
    client.say(b"XCLIENT ADDR=192.0.2.7\r\nLHLO a\r\n")
    assert client.say(plain(secret=b"one")) == NO
    assert client.say(b"AUTH PLAIN\r\n*\r\n").endswith(b"421 4.7.0 too many errors\r\n")
    assert client.closed
    client = world.greeted()
    client.say(b"XCLIENT ADDR=192.0.2.7\r\nLHLO a\r\n")
    client.say(plain(secret=b"two"))
    third = world.greeted()
    third.say(b"XCLIENT ADDR=192.0.2.7\r\nLHLO a\r\n")
    third.say(plain(secret=b"three"))
    before = world.accounts.logins
    assert client.say(plain()) == b"" and world.accounts.logins == before, "it waits"
    other = world.greeted()
    other.say(b"XCLIENT ADDR=192.0.2.8\r\nLHLO a\r\n")
    assert other.say(plain()) == YES, "another client of the same node does not"


ADDRESSES: dict[bytes, str] = {
    b"192.0.2.7": "192.0.2.7",
    b"IPV6:2001:DB8::7": "2001:db8::7",
    b"ipv6:::1": "::1",
    b"[UNAVAILABLE]": "",
    b"[tempunavail]": "",
}


@pytest.mark.parametrize("said", ADDRESSES)
def test_a_peer_says_for_which_client_it_speaks(said) -> None:
    """The session begins anew, as Postfix has it; access log and trace header name the client."""
    world = Door()
    client = world.greeted()
    assert client.say(b"XCLIENT ADDR=" + said + b"\r\n") == READY
    assert client.say(plain()) == b"503 5.5.1 LHLO first\r\n"
    client.say(b"LHLO a\r\n")
    assert client.say(plain()) == YES
    assert {one[0] for one in world.recorded} == {ADDRESSES[said]}
    assert client.say(b"XCLIENT ADDR=192.0.2.9\r\n") == READY, "the next client is not the one before"
    client.say(b"LHLO a\r\n")
    assert client.say(plain(secret=b"x")) == NO
    assert world.recorded[-1][0] == "192.0.2.9"


@pytest.mark.parametrize(
    "argument",
    [
        *(b"", b"ADDR", b"ADDR=", b"ADDR=joe", b"ADDR=192.0.2.1 NAME=x", b"LOGIN=joe", b"ADDR=192.0.2.256"),
        *(b"ADDR=::1", b"ADDR=IPV6:192.0.2.1", b"ADDR=IPV6:fe80::1%eth0", b"ADDR=\xff", b"ADDR=IPV6:"),
    ],
)
def test_an_address_that_is_none_changes_nothing(argument) -> None:
    """Nothing else may be said of a client."""
    client = Door().greeted()
    assert client.say(b"XCLIENT " + argument + b"\r\n") == b"501 5.5.4 syntax error in arguments\r\n"
    assert client.say(plain()) == YES


def begun(world: Door) -> tuple[Client, Any]:
    """A client that is in the middle of an exchange, and the session that serves it."""
    client = world.greeted()
    assert client.say(b"AUTH LOGIN\r\n").startswith(b"334 ")
    [session] = world.factory._live.values()
    return client, session


def test_a_server_that_stops_ends_the_exchange() -> None:
    """With a temporary answer, and then the goodbye."""
    client, session = begun(Door())
    session.end(b"")
    assert client.hear() == LATER + b"421 4.3.2 shutting down\r\n"
    assert client.closed


def test_a_peer_that_says_nothing_is_not_waited_for() -> None:
    """``idle_timeout_s`` goes on in the middle of an exchange."""
    world = Door(idle_timeout_s=30.0)
    client, _session = begun(world)
    world.clock.advance(31)
    assert client.hear() == b"421 4.4.2 timed out\r\n"


def test_a_peer_that_hangs_up_has_had_its_attempt() -> None:
    """As at every other door."""
    world = Door(LoginLimits(free_failures=0))
    world.accounts.hold_logins = Deferred()
    client = world.greeted()
    assert client.say(plain()) == b""
    client.hang_up()
    world.accounts.hold_logins = None
    assert world.greeted().say(plain()) == b"", "it waits"


def test_an_empty_response_is_another_thing_than_none() -> None:
    """ "=" (RFC 4954 section 4)."""
    found = [parse_command(line, EnvelopeLimits(), NODE_VERBS) for line in (b"AUTH login =", b"AUTH login")]
    assert found == [ask.Auth(b"LOGIN", b""), ask.Auth(b"LOGIN", None)]


@pytest.mark.parametrize("address", ["", "192.0.2.1", "2001:db8::1", "::ffff:192.0.2.1"])
def test_an_address_arrives_as_it_was_sent(address) -> None:
    """What one node writes the other reads, in the form in which addresses are counted."""
    sent = xclient(address)
    assert parse_command(sent.removesuffix(b"\r\n"), EnvelopeLimits(), NODE_VERBS) == ask.XClient(
        read_address(address.encode())
    )


def test_nothing_that_was_said_shows_in_a_repr() -> None:
    """Neither a response nor an address."""
    shown = repr(
        (ask.Auth(b"PLAIN", b"AGpvZQ"), ask.XClient("192.0.2.1"), Logins(Door().guard, AccessProtocol.SMTP))
    )
    assert "AGpvZQ" not in shown and "192.0.2.1" not in shown
