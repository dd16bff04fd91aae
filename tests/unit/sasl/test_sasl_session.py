"""The authentication service: what Postfix, Exim and others say to it, and what they hear."""

from __future__ import annotations

import base64
import logging

import pytest
from twisted.internet.defer import Deferred

from mailstore.errors import Busy, StorageFailed, TooManyLogins
from protocols.limits import LoginLimits, SaslServiceLimits, StreamLimits
from protocols.sasl_service.connection import Broken, Connection
from protocols.sasl_service.server import SaslFactory
from protocols.sasl_service.session import WRONG
from tests.unit.sasl.sasl_world import HELLO, SaslWorld, auth, plain
from tests.wire import Client

OK = b"OK\t%d\tuser=joe\n"
FAIL = b"FAIL\t%d\treason=" + WRONG + b"\n"
AT = b"\tlip=192.0.2.25\trip=%b"


def words(text: bytes) -> bytes:
    """In base64."""
    return base64.b64encode(text)


def test_right_and_wrong_passwords() -> None:
    """PLAIN with its initial response, as Postfix sends it."""
    client = SaslWorld().ready()
    assert client.say(auth(1, initial=plain())) == OK % 1
    assert client.say(auth(2, initial=plain(secret=b"other"))) == FAIL % 2
    assert client.say(auth(3, initial=plain(name=b"nobody"))) == FAIL % 3


def test_exim_says_everything_at_once() -> None:
    """Exim waits for our handshake, then sends its own together with the request, ``resp=`` empty if it has
    none."""
    client = SaslWorld().connect()
    said = (
        HELLO + b"AUTH\t1\tPLAIN\tservice=smtp\tsecured\trip=198.51.100.7\tlip=192.0.2.25\tnologin\tresp=\n"
    )
    assert client.say(said) == b"CONT\t1\t\n"
    assert client.say(b"CONT\t1\t" + plain() + b"\n") == OK % 1


def test_login_asks_for_name_and_password() -> None:
    """LOGIN, with and without the name at once; the mechanism in lower case, as a client may write it."""
    client = SaslWorld().ready()
    assert client.say(auth(1, mechanism=b"login")) == b"CONT\t1\t" + words(b"Username:") + b"\n"
    assert client.say(b"CONT\t1\t" + words(b"joe") + b"\n") == b"CONT\t1\t" + words(b"Password:") + b"\n"
    assert client.say(b"CONT\t1\t" + words(b"secret") + b"\n") == OK % 1
    assert client.say(auth(2, mechanism=b"LOGIN", initial=words(b"joe"))).startswith(b"CONT\t2\t")
    assert client.say(b"CONT\t2\t" + words(b"wrong") + b"\n") == FAIL % 2


@pytest.mark.parametrize(
    ("how", "answer"),
    [
        (b"AUTH\t1\tPLAIN\tservice=smtp\tlip=192.0.2.25\trip=198.51.100.7\tresp=", b"not without TLS"),
        (b"AUTH\t1\tPLAIN\tservice=smtp\tresp=", b"not without TLS"),
        (b"AUTH\t1\tPLAIN\tservice=smtp\trip=unknown\tlip=unknown\tresp=", b"not without TLS"),
        (b"AUTH\t1\tPLAIN\tservice=imap\tsecured\tresp=", b"this service is not known here"),
        (b"AUTH\t1\tPLAIN\tsecured\tresp=", b"this service is not known here"),
        (b"AUTH\t1\tCRAM-MD5\tservice=smtp\tsecured\tresp=", b"mechanism not supported"),
    ],
)
def test_what_is_refused_before_the_password_is_looked_at(how: bytes, answer: bytes) -> None:
    """A password in clear is no use to anybody, whatever the mail server in front allows."""
    world = SaslWorld()
    assert world.ready().say(how + plain() + b"\n") == b"FAIL\t1\treason=" + answer + b"\n"
    assert world.store.logins == 0


def test_behind_a_proxy_a_mail_server_cannot_know_of_tls() -> None:
    """At the door for that, a password is checked that came to the mail server in clear."""
    world = SaslWorld()
    factory = SaslFactory(world.guard, world.limits, world.access_log, world.clock, behind_proxy=True)
    client = Client(factory)
    client.say(HELLO)
    said = b"AUTH\t%d\tPLAIN\tservice=smtp\tlip=192.0.2.25\trip=198.51.100.7\tresp=%b\n"
    assert client.say(said % (1, plain())) == OK % 1
    assert client.say(said % (2, plain(secret=b"guess"))).startswith(b"FAIL\t2\t")
    assert world.store.logins == 2


def test_programs_on_the_same_machine_need_no_tls() -> None:
    """Nobody can listen in between them; the name of the service in capitals, as some write it."""
    said = b"AUTH\t1\tPLAIN\tservice=SMTP\tlip=127.0.0.1\trip=127.0.0.1\tresp=" + plain() + b"\n"
    assert SaslWorld().ready().say(said) == OK % 1


@pytest.mark.parametrize(
    ("initial", "answer"),
    [
        (b"!!!!", b"\treason=SASL response is not base64"),
        (plain() + b"\tsecured", b"\treason=SASL response is not base64"),
        (b"=", b"\treason=malformed PLAIN response"),
        (words(b"joe\0secret"), b"\treason=malformed PLAIN response"),
        (words(b"\0joe\0sec\0ret"), b"\treason=malformed PLAIN response"),
        (b"A" * 4100, b"\treason=SASL response too long"),
        (
            plain(authzid=b"ann"),
            b"\tauthz\treason=authorization identity must be empty or the user name",
        ),
    ],
)
def test_responses_that_break_the_rules(initial: bytes, answer: bytes) -> None:
    """They fail alone; the connection, which is other people's too, goes on."""
    client = SaslWorld().ready()
    assert client.say(auth(1, initial=initial)) == b"FAIL\t1" + answer + b"\n"
    assert client.say(auth(2, initial=plain())) == OK % 2


@pytest.mark.parametrize(
    "said",
    [
        b"CPID\t77\n",
        b"VERSION\t2\t0\nCPID\t77\n",
        b"VERSION\t1\t1\nVERSION\t1\t1\n",
        b"VERSION\t1\nCPID\t77\n",
        b"VERSION\t1\tx\nCPID\t77\n",
        b"VERSION\t1\t1\nCPID\tx\n",
        b"VERSION\t1\t1\n" + auth(1, initial=plain()),
        HELLO + HELLO,
        HELLO + b"USER\t1\tjoe\tservice=smtp\n",
        HELLO + b"AUTH\t1\n",
        HELLO + b"AUTH\tx\tPLAIN\tservice=smtp\n",
        HELLO + b"AUTH\t4294967296\tPLAIN\tservice=smtp\n",
        HELLO + b"AUTH\t-1\tPLAIN\tservice=smtp\n",
        HELLO + b"AUTH\t1\tPLAIN\tservice=smtp\tservice=imap\n",
        HELLO + b"AUTH\t1\tPLAIN\tservice=smtp\tx\0\n",
        HELLO + b"CONT\t1\n",
        HELLO + b"CANCEL\n",
        HELLO + b"CANCEL\t1\t2\n",
        HELLO + b"\n",
        b"GET / HTTP/1.1\r\n",
        b"\x16\x03\x01\x02\x00\x01\n",
        HELLO + b"AUTH\t1\tPLAIN\tresp=" + b"A" * 9000,
    ],
)
def test_whoever_breaks_the_rules_is_cut_off(said: bytes) -> None:
    """Such a program is no client of this protocol; nothing of what follows is read."""
    world = SaslWorld()
    client = world.connect()
    assert client.say(said + auth(9, initial=plain())) == b""
    assert client.closed
    assert world.store.logins == 0


def test_the_largest_id() -> None:
    """Ids have 32 bits."""
    assert SaslWorld().ready().say(auth(2**32 - 1, initial=plain())) == OK % (2**32 - 1)


@pytest.mark.parametrize(
    ("said", "why"),
    [(b"A" * 101, "line too long"), (b"QUIT\nmore", "unknown command, or wrong number of fields")],
)
def test_nothing_is_kept_of_a_connection_that_is_broken(said: bytes, why: str) -> None:
    """However often it is asked, and whatever still comes."""
    connection = Connection(SaslServiceLimits(line_max_bytes=100))
    for _ in range(3):
        connection.feed(said)
        assert connection.next_event() == Broken(why)
        assert len(connection._lines) == 0


def test_the_longest_line() -> None:
    """It counts with its end."""
    for length, is_cut in ((200, False), (201, True)):
        client = SaslWorld(line_max_bytes=200).ready()
        client.say(b"AUTH\t1\tPLAIN\tservice=smtp\tx=".ljust(length - 1, b"x") + b"\n")
        assert client.closed == is_cut


def test_requests_are_answered_as_they_are_done() -> None:
    """Several at a time, each with its own id."""
    world = SaslWorld()
    world.store.add_account(b"ann", b"hers")
    world.store.hold_logins = Deferred()
    client = world.ready()
    assert client.say(auth(1, initial=plain()) + auth(2, initial=plain(b"ann", b"hers"))) == b""
    assert client.say(auth(3, mechanism=b"PLAIN")) == b"CONT\t3\t\n"
    world.store.hold_logins.callback(None)
    assert client.hear() == OK % 1 + b"OK\t2\tuser=ann\n"


def test_an_id_twice_at_a_time_is_refused_and_may_come_again_later() -> None:
    """Nobody could tell whose answer it would be, so nobody gets in by it."""
    world = SaslWorld()
    client = world.ready()
    assert client.say(auth(1, initial=plain())) == OK % 1
    assert client.say(auth(1, initial=plain(secret=b"other"))) == FAIL % 1
    client.say(auth(5))
    assert client.say(auth(5, initial=plain())) == b""
    assert client.closed
    world.store.hold_logins = Deferred()
    client = world.ready()
    assert client.say(auth(7, initial=plain()) + auth(7, initial=plain(secret=b"other"))) == b""
    assert client.closed
    world.store.hold_logins.callback(None)
    assert client.hear() == b""


def test_an_answer_to_no_question() -> None:
    """What is over is over; what is being checked has been answered already."""
    world = SaslWorld()
    client = world.ready()
    assert client.say(b"CONT\t4\t" + plain() + b"\n") == b"FAIL\t4\treason=this login is over\n"
    world.store.hold_logins = Deferred()
    assert client.say(auth(5, initial=plain()) + b"CONT\t5\t" + plain() + b"\n") == b""
    assert client.closed


def test_cancel() -> None:
    """No answer follows, neither to what waits for its client nor to what is being checked."""
    world = SaslWorld()
    client = world.ready()
    client.say(auth(1))
    assert client.say(b"CANCEL\t1\nCANCEL\t8\n") == b""
    assert client.say(b"CONT\t1\t" + plain() + b"\n") == b"FAIL\t1\treason=this login is over\n"
    world.store.hold_logins = Deferred()
    client.say(auth(2, initial=plain()))
    assert client.say(b"CANCEL\t2\n") == b""
    world.store.hold_logins.callback(None)
    assert client.hear() == b""
    assert client.say(auth(2, initial=plain())) == OK % 2


@pytest.mark.parametrize("error", [TooManyLogins, Busy, StorageFailed])
def test_what_cannot_be_checked_now_is_not_called_wrong(error: type) -> None:
    """Postfix and Exim make "wrong password" of every FAIL, and "try later" of a connection that ends."""
    world = SaslWorld()
    world.store.login_error = error()
    client = world.ready()
    assert client.say(auth(1, initial=plain())) == b""
    assert client.closed
    assert world.access_log.entries[-1].result == "FAIL temp"
    world.store.login_error = None
    assert world.ready().say(auth(1, initial=plain())) == OK % 1


@pytest.mark.parametrize(
    ("error", "is_told"),
    [(StorageFailed("hunter2"), True), (ValueError("hunter2"), True), (TooManyLogins(), False)],
)
def test_the_operator_is_told_what_has_to_be_repaired(
    error: Exception, is_told: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Without a word of what was being checked; a crowd of logins repairs itself."""
    world = SaslWorld()
    world.store.login_error = error  # type: ignore[assignment]  # a bug may raise anything
    with caplog.at_level(logging.INFO):
        world.ready().say(auth(1, initial=plain()))
    assert [record.levelname for record in caplog.records] == ["ERROR"] * is_told
    assert all(message.startswith("SASL AUTH failed, id ") for message in caplog.messages)
    assert "hunter2" not in caplog.text


def test_who_waits_too_long_is_no_fault(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing has to be repaired."""
    world = SaslWorld()
    world.store.hold_logins = Deferred()
    client = world.ready()
    client.say(auth(1, initial=plain()))
    with caplog.at_level(logging.INFO):
        world.clock.advance(world.limits.answer_timeout_s + 0.1)
    assert client.closed
    assert caplog.messages == []


def test_a_mistake_of_ours_ends_the_connection(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody waits for an answer that does not come; the mistake is logged without its text."""
    world = SaslWorld()
    world.store.hold_logins = Deferred()
    client = world.ready()
    client.say(auth(1, initial=plain()))

    def fail(_entry: object) -> None:
        raise ValueError("hunter2")

    monkeypatch.setattr(world.access_log, "record", fail)
    world.store.hold_logins.callback(None)
    assert client.closed
    (message,) = caplog.messages
    assert message.startswith("authentication service failed, id ")
    assert "ValueError" in message
    assert "hunter2" not in caplog.text


def test_others_on_the_connection_are_not_cut_off_for_that() -> None:
    """A client with several requests at a time is told of the one."""
    world = SaslWorld()
    world.store.hold_logins = Deferred()
    client = world.ready()
    client.say(auth(1, initial=plain()) + auth(2, initial=plain()))
    hold, world.store.hold_logins = world.store.hold_logins, None
    world.store.login_error = Busy()
    assert client.say(auth(3, initial=plain())) == b"FAIL\t3\ttemp\treason=try again later\n"
    world.store.login_error = None
    hold.callback(None)
    assert client.hear() == OK % 1 + OK % 2


def test_an_answer_comes_before_postfix_gives_up() -> None:
    """Whoever guesses waits longer, and hears "try later"; the attempt is then not made any more."""
    world = SaslWorld(LoginLimits(first_delay_s=20.0), answer_timeout_s=9.0)
    for number in range(3):
        assert world.ready().say(auth(number, initial=plain(secret=b"guess"))) == FAIL % number
    tried = world.store.logins
    client = world.ready()
    assert client.say(auth(9, initial=plain(secret=b"guess"))) == b""
    world.clock.pump([0.5] * 19)
    assert client.closed
    world.clock.pump([0.5] * 60)
    assert world.store.logins == tried


def test_guessers_are_told_apart_by_the_address_that_the_client_gives() -> None:
    """One who guesses keeps only those from his own address waiting."""
    world = SaslWorld(LoginLimits(free_failures=1, first_delay_s=5.0))
    world.store.add_account(b"ann", b"hers")
    client = world.ready()
    for number in range(2):
        bad = plain(b"x%d" % number, b"guess")
        client.say(auth(number, initial=bad, more=AT % b"203.0.113.9"))
    assert client.say(auth(8, initial=plain(), more=AT % b"203.0.113.9")) == b""
    assert client.say(auth(9, initial=plain(b"ann", b"hers"), more=AT % b"203.0.113.10")) == (
        b"OK\t9\tuser=ann\n"
    )
    # Without an address all share one.
    nowhere = b"AUTH\t%d\tPLAIN\tservice=smtp\tsecured\tresp="
    for number in range(20, 22):
        client.say(nowhere % number + plain(b"y%d" % number, b"guess") + b"\n")
    assert client.say(nowhere % 30 + plain() + b"\n") == b""
    assert client.say(auth(31, initial=plain(b"ann", b"hers"), more=AT % b"203.0.113.11")).startswith(
        b"OK\t31"
    )


def test_what_clients_of_postfix_leave_behind_does_not_stop_others() -> None:
    """Postfix never cancels: the oldest that still waits for its client makes room."""
    world = SaslWorld(requests_max=3)
    client = world.ready()
    for number in range(3):
        assert client.say(auth(number)) == b"CONT\t%d\t\n" % number
    forgotten = b"FAIL\t%d\ttemp\treason=too many logins at once, try again\n"
    assert client.say(auth(3, initial=plain())) == forgotten % 0 + OK % 3
    world.store.hold_logins = Deferred()
    client.say(b"".join(auth(number, initial=plain()) for number in range(10, 13)))
    assert client.say(auth(13, initial=plain())) == forgotten % 13
    world.store.hold_logins.callback(None)
    assert client.hear() == OK % 10 + OK % 11 + OK % 12


def test_who_hangs_up_leaves_nothing_behind() -> None:
    """What was being checked is given up, and what waited is forgotten."""
    world = SaslWorld()
    world.store.hold_logins = Deferred()
    client = world.ready()
    client.say(auth(1, initial=plain()) + auth(2))
    client.hang_up()
    world.store.hold_logins.callback(None)
    assert world.access_log.entries == []
    assert world.factory.connections == 0
    assert not world.clock.getDelayedCalls()


def test_slow_clients_are_waited_for_only_so_long() -> None:
    """A handshake that does not come, and a connection that nobody uses."""
    world = SaslWorld(handshake_timeout_s=30.0, idle_timeout_s=3600.0)
    client = world.connect()
    client.say(b"VERSION\t1\t")
    world.clock.advance(30.1)
    assert client.closed
    client = world.ready()
    world.clock.advance(3599.0)
    assert client.say(auth(1, initial=plain())) == OK % 1
    world.clock.advance(3600.1)
    assert client.closed


def test_many_requests_at_once_leave_others_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that has been at work for long enough says what it has, and yields."""
    world = SaslWorld()
    world.factory.limits = StreamLimits(turn_max_s=0.0)
    client = world.connect()
    written: list[bytes] = []
    monkeypatch.setattr(client.transport, "write", written.append)
    client.say(HELLO + b"".join(auth(number) for number in range(3)))
    assert written == []
    world.clock.advance(0)
    assert written == [b"CONT\t%d\t\n" % number for number in range(3)]


def test_too_many_connections_end_at_once() -> None:
    """Their clients say "try again later"; the others are served."""
    world = SaslWorld(connections_max=2)
    first, _second = world.ready(), world.ready()
    third = type(first)(world.factory)
    assert (third.closed, third.hear()) == (True, b"")
    assert first.say(auth(1, initial=plain())) == OK % 1


def test_a_server_that_stops_answers_what_is_being_checked() -> None:
    """And begins nothing new."""
    world = SaslWorld()
    idle, busy = world.ready(), world.ready()
    world.store.hold_logins = Deferred()
    busy.say(auth(1, initial=plain()))
    gone = Deferred.fromCoroutine(world.factory.drain(10.0))
    assert idle.closed
    assert not busy.closed
    assert busy.say(auth(2, initial=plain())) == b""
    world.store.hold_logins.callback(None)
    assert busy.hear() == OK % 1
    assert busy.closed
    assert gone.called


def test_the_access_log_has_the_address_and_no_name() -> None:
    """Whose password was wrong is nobody's business; where it came from is kept for some days."""
    world = SaslWorld()
    client = world.ready()
    client.say(auth(1, initial=plain()))
    client.say(auth(2, initial=plain(secret=b"other"), more=AT % b"2001:DB8::0:7"))
    client.say(auth(3, initial=plain(), more=b"\trip=evil\\n\x01\tlip=1.2.3.4"))
    client.say(auth(4, initial=plain(), more=b"\trip=fe80::1%a-name"))
    assert [(one.address, one.command, one.result, one.failed) for one in world.access_log.entries] == [
        ("198.51.100.7", "SASL AUTH", "OK", False),
        ("2001:db8::7", "SASL AUTH", "FAIL", True),
        ("", "SASL AUTH", "OK", False),
        ("", "SASL AUTH", "OK", False),
    ]


def test_no_secret_reaches_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """Neither of those who get in nor of those who break the rules, nor when something of ours fails."""
    world = SaslWorld()
    with caplog.at_level(logging.DEBUG):
        world.store.login_error = StorageFailed("hunter2")
        world.ready().say(auth(1, initial=plain(secret=b"hunter2")))
        world.ready().say(b"AUTH\t1\t" + plain(secret=b"hunter2") + b"\n")
        world.ready().say(b"CONT\t1\t" + plain(secret=b"hunter2") + b"\tmore\n")
    assert caplog.records
    for word in ("hunter2", plain(secret=b"hunter2").decode(), "joe"):
        assert word not in caplog.text
