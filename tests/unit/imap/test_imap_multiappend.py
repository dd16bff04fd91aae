"""APPEND of several messages: what is bounded before it is kept, and all or none (RFC 3502)."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailstore.errors import OverQuota, StorageFull
from protocols.limits import ImapLimits
from tests.wire import Client, ImapWorld

LIMITS = dataclasses.replace(
    ImapLimits(),
    append_max_bytes=1000,
    append_total_max_bytes=1500,
    append_messages_max=3,
    literals_total_max_bytes=10,
    swallow_max_bytes=5000,
)


def stored(world: ImapWorld) -> list[bytes]:
    """The messages in INBOX."""
    return [one.data for one in world.account.mailboxes["INBOX"].messages.values()]


@pytest.fixture
def world() -> ImapWorld:
    """A server with small limits."""
    return ImapWorld(limits=LIMITS)


@pytest.fixture
def client(world: ImapWorld) -> Client:
    """A session on it."""
    return world.logged_in()


@pytest.mark.parametrize("command", [b"APPEND INBOX", b"REPLACE 1 INBOX", b"UID REPLACE 1 INBOX"])
def test_sum_is_bounded_before_it_is_sent(client: Client, command: bytes) -> None:
    """The literal that would pass the sum is refused before its octets come (RFC 7888 section 4)."""
    assert client.say(b"a %b {1000}\r\n" % command) == b"+ go ahead\r\n"
    assert client.say(b"x" * 1000 + b" {600}\r\n") == b"a NO [TOOBIG] literal too large\r\n"
    assert client.say(b"b NOOP\r\n") == b"b OK done\r\n"


def test_sum_is_bounded_when_it_comes_unasked(world: ImapWorld, client: Client) -> None:
    """What passes the sum is thrown away as it comes, and nothing is stored."""
    one = b" {800+}\r\n" + b"x" * 800
    assert client.say(b"a APPEND INBOX" + one * 3 + b"\r\n") == b"a NO [TOOBIG] literal too large\r\n"
    assert stored(world) == []


def test_number_of_messages_is_bounded(world: ImapWorld, client: Client) -> None:
    """So many messages and no more."""
    one = b" {1+}\r\nx"
    assert b"a OK [APPENDUID 7 1:3]" in client.say(b"a APPEND INBOX" + one * 3 + b"\r\n")
    said = client.say(b"b APPEND INBOX" + one * 4 + b"\r\n")
    assert said == b"b NO [MESSAGELIMIT 3] too many messages in one command\r\n"
    assert len(stored(world)) == 3


@pytest.mark.parametrize("failure", [OverQuota("full"), StorageFull("full")])
def test_a_failure_stores_nothing(world: ImapWorld, client: Client, failure: Exception) -> None:
    """Whatever goes wrong, none of the messages is there (section 3)."""
    world.account.failure = failure
    assert client.say(b"a APPEND INBOX {1+}\r\nx {1+}\r\ny\r\n").startswith(b"a NO [")
    assert stored(world) == []


@given(st.lists(st.binary(min_size=1, max_size=20), min_size=1, max_size=3), st.data())
def test_any_octets_in_any_pieces(messages: list[bytes], data: st.DataObject) -> None:
    """However the command is cut, each message is what was sent, in order."""
    world = ImapWorld(limits=LIMITS)
    session = world.logged_in()
    wire = b"a APPEND INBOX" + b"".join(b" {%d+}\r\n%b" % (len(one), one) for one in messages) + b"\r\n"
    cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=6)))
    said = b""
    for start, stop in zip([0, *cuts], [*cuts, len(wire)], strict=True):
        said += session.say(wire[start:stop])
    assert said.startswith(b"a OK [APPENDUID 7 ")
    assert stored(world) == messages
