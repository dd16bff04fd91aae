"""What nginx asks before it passes a login on, and what it is told: by login name and protocol alone."""

from __future__ import annotations

import logging

import pytest
from twisted.internet.defer import Deferred

from mailstore.errors import DirectoryUnavailable, StorageFailed
from tests.unit.auth_http.auth_http_world import SECRET, UNAVAILABLE, World, answer_in, question
from tests.wire import Client


def test_a_login_is_sent_to_the_node_of_its_name() -> None:
    """In one piece or octet by octet; the name as the client wrote it, not as nginx has escaped it."""
    world = World()
    found = {"Auth-Status": "OK", "Auth-Server": "192.0.2.1", "Auth-Port": "1143"}
    assert world.ask(Auth_User=b"J%20%25oe%0D%0A@Example.org") == found
    client = Client(world.factory)
    said = b"".join(client.say(bytes((octet,))) for octet in question())
    assert answer_in(said) == found
    assert world.asked == [(b"J %oe\r\n@Example.org", "imap"), (b"joe@example.org", "imap")]
    assert world.access_log.entries == []


def test_addresses_of_ipv6_are_written_as_nginx_reads_them() -> None:
    """Without brackets; and users of SMTP are sent to where mail is submitted."""
    said = World().ask(Auth_Protocol=b"smtp")
    assert said == {"Auth-Status": "OK", "Auth-Server": "2001:db8::1", "Auth-Port": "1587"}


@pytest.mark.parametrize(
    ("protocol", "said"),
    [
        (b"imap", UNAVAILABLE),
        (b"pop3", {"Auth-Status": "[SYS/TEMP] try again later"}),
        (b"smtp", {"Auth-Status": "try again later", "Auth-Error-Code": "451 4.3.2"}),
    ],
)
def test_what_cannot_be_said_now_is_asked_again_later(protocol: bytes, said: dict[str, str]) -> None:
    """No client may take it for a wrong password, and forget it."""
    world = World()
    world.doors.clear()
    assert world.ask(Auth_Protocol=protocol) == said
    world.trouble = DirectoryUnavailable("away")
    assert world.ask(Auth_Protocol=protocol) == said


def test_the_log_knows_what_failed_and_for_whom_and_no_name(caplog: pytest.LogCaptureFixture) -> None:
    """An outage of PostgreSQL has its own line, and none for each login."""
    world = World()
    world.trouble = DirectoryUnavailable("joe@example.org")
    world.ask()
    assert caplog.records == []
    world.trouble = StorageFailed("joe@example.org")
    world.ask()
    [record] = caplog.records
    assert record.levelno == logging.ERROR and "StorageFailed" in caplog.text
    world.trouble = None
    world.ask(Auth_Protocol=b"pop3")
    world.ask(Auth_User=b"x" * 31)
    assert len(caplog.records) == 1
    logged = [(one.address, one.command, one.result, one.failed) for one in world.access_log.entries]
    assert logged == [
        ("192.0.2.7", "AUTH-HTTP imap", "error", True),
        ("192.0.2.7", "AUTH-HTTP imap", "error", True),
        ("192.0.2.7", "AUTH-HTTP pop3", "nowhere", True),
        ("192.0.2.7", "AUTH-HTTP imap", "wrong", True),
    ]
    assert "joe" not in caplog.text + repr(world.access_log.entries)


ODD: dict[str, dict[str, bytes | None]] = {
    "no client": {"Client_IP": None},
    "a client that is none": {"Client_IP": b"nobody"},
    "another protocol": {"Auth_Protocol": b"ldap"},
    "no protocol": {"Auth_Protocol": None},
    "no method": {"Auth_Method": None},
    "CRAM-MD5": {"Auth_Method": b"cram-md5"},
    "a client certificate": {"Auth_Method": b"external"},
    "mail of nobody": {"Auth_Method": b"none"},
    "a client with a scope": {"Client_IP": b"fe80::1%any text"},
}


@pytest.mark.parametrize("fields", ODD.values(), ids=ODD)
def test_what_is_no_question_is_refused(
    fields: dict[str, bytes | None], caplog: pytest.LogCaptureFixture
) -> None:
    """nginx then says so to its client; nothing of it is in a log."""
    world, client = World(), None
    client = Client(world.factory)
    assert client.say(question(**fields)).startswith(b"HTTP/1.0 400 Refused\r\n") and client.closed
    assert world.asked == [] and [one.result for one in world.access_log.entries] == ["400"]
    assert SECRET.decode() not in caplog.text and "joe" not in caplog.text


def test_the_log_tells_seldom_of_what_is_no_question(caplog: pytest.LogCaptureFixture) -> None:
    """Each kind once in an hour, however many ask so."""
    world = World()
    for said in 3 * (question(Client_IP=None), question(Auth_Method=b"none"), b"GET / HTTP/9.9\r\n\r\n"):
        Client(world.factory).say(said)
    told = [one.getMessage() for one in caplog.records]
    world.clock.advance(3599)
    Client(world.factory).say(question(Client_IP=None))
    assert [one.getMessage() for one in caplog.records] == told and len(told) == 1
    world.clock.advance(2)
    Client(world.factory).say(question(Client_IP=None))
    assert [one.getMessage() for one in caplog.records] == 2 * told


@pytest.mark.parametrize("name", [None, b"", b"x" * 31])
@pytest.mark.parametrize(
    ("protocol", "said"),
    [
        (b"imap", {"Auth-Status": "[AUTHENTICATIONFAILED] authentication failed"}),
        (b"pop3", {"Auth-Status": "[AUTH] authentication failed"}),
        (b"smtp", {"Auth-Status": "authentication failed", "Auth-Error-Code": "535 5.7.8"}),
    ],
)
def test_a_name_that_nobody_can_have_is_a_wrong_one(
    name: bytes | None, protocol: bytes, said: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    """PLAIN lets a client leave it out. It counts for the client's address, and is no warning."""
    world = World(burst_per_address=1, interval_s=2.0)
    assert [world.ask(Auth_User=name, Auth_Protocol=protocol) for _ in range(2)] == [said, said]
    assert world.ask() == UNAVAILABLE
    assert world.asked == [] and caplog.records == []
    assert [one.result for one in world.access_log.entries] == ["wrong", "wrong", "often"]


@pytest.mark.parametrize("said", [b"EHLO x\r\n\r\n", b"\xff\x00\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n"])
def test_what_is_no_http_is_refused(said: bytes) -> None:
    """And the connection ends."""
    client = Client(World().factory)
    assert client.say(said).startswith(b"HTTP/1.0 400 ") and client.closed


def test_a_question_has_a_length_and_a_time() -> None:
    """Whoever sends more, or more slowly, is not waited for."""
    world = World(head_max_bytes=300, request_timeout_s=5.0)
    client = Client(world.factory)
    for _ in range(300 // 20):
        client.say(b"X-More: aaaaaaaaaaa\r\n" if client.hear() else b"GET / HTTP/1.0 aaaaa")
    assert client.say(b"aaaa").startswith(b"HTTP/1.0 431 ") and client.closed
    slow = Client(world.factory)
    slow.say(question()[:50])
    world.clock.advance(4.9)
    slow.say(question()[50:60])
    assert not slow.closed
    world.clock.advance(0.2)
    assert slow.closed and slow.hear() == b"" and world.asked == []


def test_one_client_may_ask_so_often() -> None:
    """Then one after the other; others are not slowed, and a pause makes good."""
    world = World(burst_per_address=3, interval_s=2.0, forget_after_s=60.0, addresses_max=64)
    assert [world.ask()["Auth-Status"] for _ in range(4)] == ["OK"] * 4
    assert world.ask() == UNAVAILABLE
    assert world.ask(Client_IP=b"192.0.2.8")["Auth-Status"] == "OK"
    world.clock.advance(2.1)
    assert world.ask()["Auth-Status"] == "OK"
    assert world.ask() == UNAVAILABLE
    assert [one.result for one in world.access_log.entries] == ["often", "often"]
    world.clock.advance(61)
    assert [world.ask()["Auth-Status"] for _ in range(4)] == ["OK"] * 4


def test_a_network_of_one_customer_is_one_client() -> None:
    """He has all of its addresses."""
    world = World(burst_per_address=0, interval_s=2.0)
    assert world.ask(Client_IP=b"2001:db8::7")["Auth-Status"] == "OK"
    assert world.ask(Client_IP=b"2001:db8::8") == UNAVAILABLE
    assert world.ask(Client_IP=b"2001:db8:0:1::8")["Auth-Status"] == "OK"


def test_connections_are_bounded() -> None:
    """All come from the proxy, so not by address."""
    world = World(connections_max=2)
    world.waiting = Deferred()
    for _ in range(2):
        Client(world.factory).say(question())
    assert world.factory.buildProtocol(None) is None
    world.waiting.callback(None)
    assert world.factory.buildProtocol(None) is not None


def test_a_server_that_stops_waits_for_no_question() -> None:
    """What is being answered is answered."""
    world = World()
    world.waiting = Deferred()
    silent, asking = Client(world.factory), Client(world.factory)
    asking.say(question())
    Deferred.fromCoroutine(world.factory.drain(10.0))
    assert silent.closed and not asking.closed
    world.waiting.callback(None)
    assert answer_in(asking.hear())["Auth-Status"] == "OK" and asking.closed
