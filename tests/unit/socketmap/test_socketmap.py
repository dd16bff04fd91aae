"""The recipient maps: what Postfix asks at RCPT, and what it hears."""

from __future__ import annotations

import logging

import pytest
from twisted.internet.defer import Deferred

from mailstore.errors import StorageFailed
from protocols.limits import StreamLimits
from protocols.socketmap.grammar import Lookup, Malformed, Requests, netstring
from tests.unit.lmtp.lmtp_world import LmtpWorld
from tests.unit.socketmap.socketmap_world import SocketmapWorld

HERE, NOT_FOUND, DUNNO = netstring(b"OK here"), netstring(b"NOTFOUND "), netstring(b"OK DUNNO")


@pytest.mark.parametrize(
    ("key", "is_here"),
    [
        (b"joe@example.org", True),
        (b"JOE@Example.ORG", True),
        (b"joe+lists@example.org", True),
        (b"nobody@example.org", False),
        (b"joe@elsewhere.example", False),
        (b"@example.org", False),
        (b"example.org", False),
        (b"joe", False),
        (b"", False),
        (b"\xff\xfe\0", False),
        (b"x" * 3000 + b"@example.org", False),
    ],
)
def test_who_gets_mail_here(key: bytes, is_here: bool) -> None:
    """As RCPT has it, details included; whatever else Postfix looks up is nobody's."""
    world = SocketmapWorld()
    assert world.ask(b"recipients " + key) == (HERE if is_here else NOT_FOUND)
    assert world.ask(b"quota " + key) == (DUNNO if is_here else NOT_FOUND)


def test_who_may_send_from_an_address() -> None:
    """The account that gets mail for it, also when it is full; nobody if that is disabled."""
    world = SocketmapWorld()
    world.store.known[b"postmaster@example.org"] = "joe"
    world.store.full.add("joe")
    world.store.disabled.add("ann")
    for address in (b"joe@example.org", b"joe+lists@example.org", b"Postmaster@example.org"):
        assert world.ask(b"senders " + address) == netstring(b"OK joe@example.org")
    for address in (b"ann@example.org", b"boss@elsewhere.example", b"@example.org", b""):
        assert world.ask(b"senders " + address) == NOT_FOUND


def test_a_full_account_is_refused_for_the_time_being() -> None:
    """It exists, and its mail has to be tried again."""
    world = SocketmapWorld()
    world.store.full.add("joe")
    assert world.ask(b"recipients joe@example.org") == HERE
    assert world.ask(b"quota joe@example.org") == netstring(b"OK 452 4.2.2 no room in the mailbox for that")


def test_a_disabled_account_gets_no_mail() -> None:
    """Refused for good, full or not; with either map alone too, so that nothing has to be sent back."""
    world = SocketmapWorld()
    world.store.disabled.add("joe")
    world.store.full.add("joe")
    assert world.ask(b"recipients joe@example.org") == NOT_FOUND
    assert world.ask(b"quota joe@example.org") == netstring(b"OK 550 5.2.1 mailbox disabled")


@pytest.mark.parametrize("error", [StorageFailed("secret words"), ValueError("secret words")])
@pytest.mark.parametrize("name", [b"recipients", b"quota", b"senders"])
def test_what_cannot_be_looked_up_now_is_not_called_unknown(
    error: Exception, name: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """Otherwise a disk that fails for a moment would cost people their mail."""
    world = SocketmapWorld()
    world.store.resolve_failure = error
    assert world.ask(name + b" joe@example.org") == netstring(b"TEMP local error, try again later")
    assert [(one.result, one.failed) for one in world.access_log.entries] == [("TEMP", True)]
    assert "secret" not in caplog.text
    assert "joe" not in caplog.text


def test_the_maps_say_what_rcpt_says() -> None:
    """For everything that is accepted or refused there."""
    lmtp, maps = LmtpWorld(), SocketmapWorld()
    for store in (lmtp.store, maps.store):
        store.full.add("ann")
        store.disabled.add("max")
    client = lmtp.greeted()
    client.say(b"MAIL FROM:<a@example.net>\r\n")
    for name in (b"joe", b"ann", b"max", b"nobody", b"ann+x"):
        reply = client.say(b"RCPT TO:<%b@example.org>\r\n" % name).rstrip()
        answer = maps.ask(b"quota %b@example.org" % name)
        expected = {b"250": DUNNO, b"550 5.1.1": NOT_FOUND}
        assert answer == expected.get(reply[:3], expected.get(reply[:9], netstring(b"OK " + reply)))


def test_maps_that_are_not_there() -> None:
    """A mistake in main.cf is told as one."""
    world = SocketmapWorld()
    for name in (b"aliases", b"Recipients", b"", b"quota\0"):
        assert world.ask(name + b" joe@example.org") == netstring(b"PERM there is no such map")


def test_questions_are_answered_in_order() -> None:
    """Several may be sent at once, and in pieces."""
    said = (
        netstring(b"recipients joe@example.org") + netstring(b"recipients x@example.org") + netstring(b"q x")
    )
    whole = SocketmapWorld().connect().say(said)
    client = SocketmapWorld().connect()
    assert b"".join(client.say(bytes((octet,))) for octet in said) == whole
    assert whole == HERE + NOT_FOUND + netstring(b"PERM there is no such map")


@pytest.mark.parametrize(
    "said",
    [
        b"x",
        b":",
        b"-1:",
        b"+5:abcde,",
        b" 5:abcde,",
        b"05:abcde,",
        b"12:recipients x;",
        b"5:abcdef,",
        b"5:abcde,",
        b"0:,",
        b"4097:",
        b"999999999:",
        b"9999999999",
        b"1" * 100_000,
        b"\x16\x03\x01",
        b"GET / HTTP/1.1\r\n",
    ],
)
def test_what_is_no_request_ends_the_connection(said: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """It cannot be said where the next one would begin."""
    client = SocketmapWorld().connect()
    with caplog.at_level(logging.WARNING):
        asked = netstring(b"recipients joe@example.org")
        assert client.say(asked + said + asked) == HERE
    assert client.closed
    (message,) = caplog.messages
    assert message.rpartition(": ")[2] in ("no netstring", "request too long", "no key")


@pytest.mark.parametrize(
    ("said", "is_cut"),
    [(b"x", True), (b"01", True), (b":", True), (b"1x", True), (b"1" * 9, False), (b"1" * 10, True)],
)
def test_a_length_is_judged_as_soon_as_it_is_none(said: bytes, is_cut: bool) -> None:
    """A client that says nothing sensible does not fill memory until it does."""
    client = SocketmapWorld().connect()
    client.say(said)
    assert client.closed == is_cut


def test_the_longest_request() -> None:
    """What fits is answered, one more octet is refused before it is there."""
    world = SocketmapWorld(request_max_bytes=40)
    assert world.ask(b"recipients ".ljust(40, b"x")) == NOT_FOUND
    client = world.connect()
    client.say(b"41:")
    assert client.closed


def test_requests_wait_in_bounded_memory() -> None:
    """A request that never ends is never longer than its bound."""
    requests = Requests(100)
    requests.feed(b"100:" + b"x" * 100)
    assert requests.next_request() is None
    requests.feed(b",")
    with pytest.raises(Malformed):
        requests.next_request()
    requests = Requests(100)
    requests.feed(b"3:a b,3:")
    assert requests.next_request() == Lookup(b"a", b"b")
    assert requests.next_request() is None
    assert "b'b'" not in repr(Lookup(b"a", b"b"))


def test_who_asks_nothing_is_waited_for_only_so_long() -> None:
    """Half a request does not keep a connection for ever, and neither does none."""
    world = SocketmapWorld(idle_timeout_s=600.0)
    client = world.connect()
    client.say(b"20:recip")
    world.clock.advance(599.0)
    assert not client.closed
    world.clock.advance(1.1)
    assert client.closed


def test_many_questions_at_once_leave_others_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that has been at work for long enough says what it has, and yields."""
    world = SocketmapWorld()
    world.factory.limits = StreamLimits(turn_max_s=0.0)
    client = world.connect()
    written: list[bytes] = []
    monkeypatch.setattr(client.transport, "write", written.append)
    client.say(netstring(b"recipients joe@example.org") * 3)
    assert written == []
    world.clock.advance(0)
    assert written == [HERE] * 3


def test_too_many_connections_end_at_once() -> None:
    """Postfix tries again; the others are served."""
    world = SocketmapWorld(connections_max=1)
    first, second = world.connect(), world.connect()
    assert (first.closed, second.closed) == (False, True)
    assert first.say(netstring(b"recipients joe@example.org")) == HERE


def test_a_server_that_stops_closes_its_connections() -> None:
    """What has been asked is answered before."""
    world = SocketmapWorld()
    client = world.connect()
    assert client.say(netstring(b"recipients joe@example.org")) == HERE
    gone = Deferred.fromCoroutine(world.factory.drain(10.0))
    assert client.closed
    assert gone.called
