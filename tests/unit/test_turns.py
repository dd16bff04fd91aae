"""Turns: a client that sends much at once keeps nobody else of its worker waiting, whatever it sends."""

from __future__ import annotations

import zlib

import pytest
from twisted.internet.task import Clock

from tests.unit.lmtp.lmtp_world import LmtpWorld
from tests.unit.pop3.pop3_world import Pop3World
from tests.wire import Client, ImapWorld

STEP_S = 0.001
"""By so much time goes on each time that somebody looks at the clock."""
MANY = 2000


def let_time_pass(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    """From here on everything takes a while."""

    def seconds() -> float:
        clock.rightNow += STEP_S
        return clock.rightNow

    monkeypatch.setattr(clock, "seconds", seconds)


def deflated(data: bytes) -> bytes:
    """``data`` as a client sends it once COMPRESS is active."""
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    return deflate.compress(data) + deflate.flush(zlib.Z_SYNC_FLUSH)


def heard_in_the_end(client: Client, clock: Clock, said: bytes) -> bytes:
    """What a client has heard, and what it hears once it has had all its turns."""
    clock.advance(0)
    return said + client.hear()


def test_pipelined_commands_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another client is answered before a flood of commands is through; the flood is answered whole."""
    world = ImapWorld()
    flood, other = world.logged_in(), world.logged_in()
    let_time_pass(monkeypatch, world.clock)
    said = flood.say(b"a NOOP\r\n" * MANY)
    assert said.count(b"\r\n") < MANY / 10
    assert other.say(b"b NOOP\r\n") == b"b OK done\r\n"
    assert heard_in_the_end(flood, world.clock, said) == b"a OK done\r\n" * MANY


def test_a_few_compressed_octets_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """COMPRESS packs 60,000 commands into some hundred octets; others are served in between."""
    world = ImapWorld()
    bomb, other = world.logged_in(), world.logged_in()
    assert bomb.say(b"c COMPRESS DEFLATE\r\n").startswith(b"c OK")
    let_time_pass(monkeypatch, world.clock)
    packed = deflated(b"a NOOP\r\n" * 60_000)
    assert len(packed) < 1000
    inflate = zlib.decompressobj(-15)
    said = inflate.decompress(bomb.say(packed))
    assert said.count(b"\r\n") < 1000
    assert other.say(b"b NOOP\r\n") == b"b OK done\r\n"
    world.clock.advance(0)
    assert said + inflate.decompress(bomb.hear()) == b"a OK done\r\n" * 60_000


def test_a_compressed_literal_takes_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Octets that are no command yet are work as well."""
    world = ImapWorld()
    bomb, other = world.logged_in(), world.logged_in()
    assert bomb.say(b"c COMPRESS DEFLATE\r\n").startswith(b"c OK")
    let_time_pass(monkeypatch, world.clock)
    size = 8 * 1024 * 1024
    assert bomb.say(deflated(b"a APPEND INBOX {%d+}\r\n" % size + bytes(size) + b"\r\n")) == b""
    assert not world.account.mailboxes["INBOX"].messages
    assert other.say(b"b NOOP\r\n") == b"b OK done\r\n"
    world.clock.advance(0)
    assert len(world.account.mailboxes["INBOX"].messages) == 1


def test_pop3_commands_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same in POP3."""
    world = Pop3World()
    flood, other = world.logged_in(), world.logged_in()
    let_time_pass(monkeypatch, world.clock)
    said = flood.say(b"NOOP\r\n" * MANY)
    assert said.count(b"\r\n") < MANY / 10
    assert other.say(b"NOOP\r\n") == b"+OK done\r\n"
    assert heard_in_the_end(flood, world.clock, said) == b"+OK done\r\n" * MANY


def test_lmtp_commands_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same in LMTP."""
    world = LmtpWorld()
    flood, other = world.greeted(), world.greeted()
    let_time_pass(monkeypatch, world.clock)
    said = flood.say(b"NOOP\r\n" * MANY)
    assert said.count(b"\r\n") < MANY / 10
    assert other.say(b"NOOP\r\n").startswith(b"250 ")
    assert heard_in_the_end(flood, world.clock, said).count(b"250 ") == MANY


def test_whoever_hangs_up_between_turns_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest of the flood is forgotten."""
    world = ImapWorld()
    flood = world.logged_in()
    let_time_pass(monkeypatch, world.clock)
    flood.say(b"a NOOP\r\n" * MANY)
    flood.hang_up()
    world.clock.advance(0)
    assert flood.hear() == b""
    assert world.factory.connections == 0
    assert not world.account.sessions


@pytest.mark.parametrize(
    "command",
    [b'LIST "" (*x* %%)', b'LSUB "" *9%', b'LIST (SUBSCRIBED RECURSIVEMATCH) "" %', b'LIST "" nothing%'],
)
def test_listing_mailboxes_takes_turns(monkeypatch: pytest.MonkeyPatch, command: bytes) -> None:
    """Others are served while names are matched, also where no name fits; the answer is what it would be."""
    world = ImapWorld()
    for number in range(300):
        world.account.create(f"a{number % 7}/x{number}")
    world.account.subscriptions.update(f"a{number % 7}/x{number}/9" for number in range(300))
    lister, other = world.logged_in(), world.logged_in()
    expected = lister.say(b"a " + command + b"\r\n")
    let_time_pass(monkeypatch, world.clock)
    said = lister.say(b"a " + command + b"\r\n")
    assert b"a OK" not in said
    assert other.say(b"b NOOP\r\n") == b"b OK done\r\n"
    assert heard_in_the_end(lister, world.clock, said) == expected
