"""What has broken other servers, at the level of the protocol (rows of targets.md)."""

from __future__ import annotations

import base64
import dataclasses

import pytest

from protocols.limits import ImapLimits, LoginLimits, StreamLimits
from tests.wire import TLS, Client, ImapWorld


def test_row_1_plaintext_behind_starttls_is_thrown_away() -> None:
    """Neither a whole command nor half of one crosses into TLS, and no state does."""
    world = ImapWorld()
    client = Client(world.factory_for(implicit_tls=False))
    client.hear()
    said = client.say(b"a STARTTLS\r\nb LOGIN joe secret\r\nc LOG")
    assert said == b"a OK begin TLS now\r\n"
    assert client.transport.tls is TLS
    assert world.store.logins == 0
    assert client.say(b"OUT\r\n") == b"OUT BAD space expected at position 4\r\n"
    assert client.say(b"d STARTTLS\r\n") == b"d BAD command not possible before login\r\n"


def test_row_1_no_login_before_tls() -> None:
    """Before TLS neither LOGIN nor AUTHENTICATE reaches the store."""
    world = ImapWorld()
    client = Client(world.factory_for(implicit_tls=False))
    assert b"LOGINDISABLED" in client.hear()
    for command in (
        b"LOGIN joe secret",
        b"AUTHENTICATE PLAIN AGpvZQBzZWNyZXQ=",
        b"SELECT INBOX",
        b"ENABLE X",
    ):
        said = client.say(b"a " + command + b"\r\n")
        assert said.startswith((b"a NO [PRIVACYREQUIRED]", b"a BAD"))
    assert world.store.logins == 0


@pytest.mark.parametrize("logged_in", [False, True])
def test_row_2_sum_of_literals(logged_in: bool) -> None:
    """Many literals, each small enough, are refused when their sum is not."""
    world = ImapWorld()
    client = world.logged_in() if logged_in else world.connect()
    size = 100_000 if logged_in else 4000
    said = client.say(b"a SEARCH" + (b" TEXT {%d+}\r\n" % size + b"x" * size) * 9 + b"\r\n")
    assert said == b"a NO [TOOBIG] literal too large\r\n"
    assert client.say(b"b NOOP\r\n") == b"b OK done\r\n"


@pytest.mark.parametrize(
    "start",
    [b"x", b"a ", b"a LOGIN ", b'a LOGIN "', b"a LIST (", b"a FETCH 1 BODY[HEADER.FIELDS (", b"a ID ("],
)
@pytest.mark.parametrize("logged_in", [False, True])
def test_row_3_size_checks_in_every_state(start: bytes, logged_in: bool) -> None:
    """A line without end is refused in whatever construct it is, then thrown away, then ended."""
    world = ImapWorld()
    client = world.logged_in() if logged_in else world.connect()
    said = client.say(start)
    for _ in range(100):
        said += client.say(b"y" * 1000)
    assert b"BAD line too long\r\n" in said
    assert not client.closed
    for _ in range(1100):
        said += client.say(b"y" * 1000)
    assert said.endswith(b"* BYE too many over-long lines\r\n")
    assert client.closed


@pytest.mark.parametrize("logged_in", [False, True])
def test_row_4_open_parentheses(logged_in: bool) -> None:
    """Thousands of parentheses are one BAD."""
    world = ImapWorld()
    client = world.logged_in() if logged_in else world.connect()
    said = client.say(b"a SEARCH " + b"(" * 8000 + b"\r\n")
    assert said == b"a BAD less nesting expected at position 111\r\n"
    assert client.say(b"b NOOP\r\n") == b"b OK done\r\n"


def test_row_5_broken_and_aborted_sasl() -> None:
    """Broken base64 and aborts leave the connection and all others in order."""
    world = ImapWorld()
    client, other = world.connect(), world.connect()
    for response, answer in [
        (b"*", b"authentication aborted"),
        (b"=", b"SASL response is not base64"),
        (b"AGpvZQBz ZWNyZXQ=", b"SASL response is not base64"),
        (b"AGpvZQBzZWNyZXR=", b"SASL response is not base64"),
        (b"x" * 9000, b"SASL response too long"),
    ]:
        assert client.say(b"a AUTHENTICATE PLAIN\r\n") == b"+ \r\n"
        assert client.say(response + b"\r\n") == b"a BAD " + answer + b"\r\n"
    assert client.say(b"b NOOP\r\n") == b"b OK done\r\n"
    assert b"c OK" in other.say(b"c AUTHENTICATE PLAIN AGpvZQBzZWNyZXQ=\r\n")


@pytest.mark.parametrize(
    "name",
    [b'a"b', b"a\\b", b"\xc3\xa9", b"\xff\xfe", b"a%b", b"a:b", b"a b", b"%n", b"*", b"a" * 500, b"\r\n"],
)
def test_row_7_odd_user_names(name: bytes) -> None:
    """Names arrive at the store as they are; none breaks the line it is in."""
    world = ImapWorld()
    world.store.add_account(name, b"s\x7f%\xff")
    literal = world.connect()
    said = literal.say(b"a LOGIN {%d+}\r\n%b {4+}\r\ns\x7f%%\xff\r\n" % (len(name), name))
    assert said.startswith(b"a OK [CAPABILITY")
    plain = world.connect()
    response = base64.b64encode(b"\0" + name + b"\0s\x7f%\xff")
    assert plain.say(b"a AUTHENTICATE PLAIN " + response + b"\r\n").startswith(b"a OK [CAPABILITY")


def test_row_7_impossible_user_names() -> None:
    """NUL and absurd lengths are refused like any wrong name."""
    world = ImapWorld()
    client = world.connect()
    assert b"a BAD user name without NUL" in client.say(b"a LOGIN {3+}\r\na\0b x\r\n")
    said = client.say(b"a LOGIN " + b"x" * 2000 + b" y\r\n")
    assert said == b"a NO [AUTHENTICATIONFAILED] authentication failed\r\n"
    assert world.store.logins == 0


def test_row_12_nul_in_quoted_string() -> None:
    """NUL in a quoted string is a syntax error."""
    client = ImapWorld().connect()
    assert client.say(b'a LOGIN "jo\0e" secret\r\n').startswith(b"a BAD user name without NUL")


@pytest.mark.parametrize("name", [b"&", b"&A", b"&AGE-", b"&2AA-", b'"&\\\\"', b"&,,,-"])
def test_row_13_broken_modified_utf7(name: bytes) -> None:
    """Broken names are refused in every command that takes one, however often; before login they are BAD."""
    client = ImapWorld().logged_in()
    for command in 10 * (
        b'LIST "" %b',
        b'LIST %b ""',
        b"CREATE %b",
        b"SELECT %b",
        b"STATUS %b (MESSAGES)",
        b'LSUB "" %b',
    ):
        said = client.say(b"a " + command.replace(b"%b", name) + b"\r\n")
        assert said == b"a NO [CANNOT] invalid mailbox name\r\n"
    said = ImapWorld().connect().say(b"a SELECT " + name + b"\r\n")
    assert said == b"a BAD command not possible before login\r\n"


@pytest.mark.parametrize("name", [b"../../etc/passwd", b"/etc", b"~root", b"a/../b", b"//", b"INBOX/../x"])
def test_row_13_and_14_names_stay_names(name: bytes) -> None:
    """A path is a name like any other or none at all; it leads nowhere."""
    world = ImapWorld()
    client = world.logged_in()
    said = client.say(b'a SELECT "%b"\r\n' % name)
    assert said == b"a NO [NONEXISTENT] no such mailbox\r\n"
    assert client.say(b'b LIST "" "%b"\r\n' % name) == b"b OK done\r\n"


def test_row_15_http() -> None:
    """A browser's request gets BYE and nothing that follows is executed."""
    world = ImapWorld()
    for request in (b"GET / HTTP/1.1\r\n", b"POST /a HTTP/1.1\r\n", b"OPTIONS * HTTP/1.0\r\n"):
        client = world.connect()
        said = client.say(request + b"Host: x\r\n\r\na LOGIN joe secret\r\n")
        assert said == b"* BYE this is an IMAP server\r\n"
        assert client.closed
    assert world.store.logins == 0


def test_row_19_half_sent_literal_before_login() -> None:
    """Trickling octets do not keep a connection before login alive."""
    world = ImapWorld()
    client = world.connect()
    assert client.say(b"a LOGIN {100+}\r\n") == b""
    said = b""
    for _ in range(30):
        world.clock.advance(5)
        said += client.say(b"x")
    assert said == b"* BYE login timed out\r\n"
    assert client.closed


@pytest.mark.parametrize(
    "commands", [b"a NOOP\r\n", b"a CAPABILITY\r\n", b"a ID NIL\r\n", b"a NOOP\r\n" * 500]
)
def test_commands_before_login_do_not_move_the_deadline(commands: bytes) -> None:
    """Nothing but logging in keeps a stranger's connection, also when there is always something to read."""
    world = ImapWorld()
    client = world.connect()
    for _ in range(int(world.limits.login_timeout_s) // 5 - 1):
        world.clock.advance(5)
        assert b"a OK" in client.say(commands)
    client.protocol.pauseProducing()
    assert client.say(b"b NOOP\r\n") == b"b OK done\r\n"
    assert client.say(b"c NOOP\r\n") == b""
    world.clock.advance(5)
    client.protocol.resumeProducing()
    world.clock.advance(0)
    assert client.hear() == b"* BYE login timed out\r\n"
    assert client.closed


def test_failed_logins_do_not_move_the_deadline() -> None:
    """Nor do half an exchange and a wrong password."""
    world = ImapWorld()
    client = world.connect()
    world.clock.advance(world.limits.login_timeout_s - 1)
    assert client.say(b"a LOGIN joe wrong\r\n").startswith(b"a NO")
    assert client.say(b"b AUTHENTICATE PLAIN\r\n") == b"+ \r\n"
    world.clock.advance(1)
    assert client.hear() == b"* BYE login timed out\r\n"
    assert client.closed


def test_unauthenticate_begins_a_new_time_to_log_in() -> None:
    """Who logs out to log in again has as long as anybody."""
    world = ImapWorld()
    client = world.logged_in()
    world.clock.advance(world.limits.login_timeout_s + 1)
    assert client.say(b"a UNAUTHENTICATE\r\n").startswith(b"a OK")
    world.clock.advance(world.limits.login_timeout_s - 1)
    assert client.say(b"b NOOP\r\n") == b"b OK done\r\n"
    world.clock.advance(1)
    assert client.closed


def test_row_19_flood_of_bad_commands() -> None:
    """Nonsense ends the connection soon before login, later after it."""
    world = ImapWorld()
    client = world.connect()
    assert client.say(b"x\r\n" * 10).endswith(b"* BYE too many bad commands\r\n")
    assert client.closed
    client = world.logged_in()
    assert client.say(b"x\r\n" * 19).count(b"BAD") == 19
    assert not client.closed
    assert client.say(b"x\r\n").endswith(b"* BYE too many bad commands\r\n")


def test_row_19_pipelined_input_is_bounded() -> None:
    """While a command waits for the store, the socket is read up to a bound and no further."""
    world = ImapWorld(stream_limits=StreamLimits(pipelined_max_bytes=1000))
    client = world.selected()
    gate = world.hold()
    assert client.say(b"a NOOP\r\n") == b""
    assert client.say(b"b NOOP\r\n" * 100) == b""
    assert client.transport.reading
    assert client.say(b"c NOOP\r\n" * 50) == b""
    assert not client.transport.reading
    world.account.hold = None
    gate.callback(None)
    assert client.hear().count(b"OK done\r\n") == 151
    assert client.transport.reading


def test_many_idle_connections_cost_little() -> None:
    """A thousand half-open connections hold no buffers and all end in time."""
    world = ImapWorld()
    clients = [world.connect() for _ in range(1000)]
    assert world.factory.connections == 1000
    world.clock.advance(121)
    assert all(client.closed for client in clients)
    assert world.factory.connections == 0


def test_login_attempts_are_limited_and_delayed() -> None:
    """Failures slow down an address, whatever connection they come from, and end the connection."""
    world = ImapWorld(login_limits=LoginLimits(attempts_per_connection_max=3))
    client = world.connect()
    failed = b"a NO [AUTHENTICATIONFAILED] authentication failed\r\n"
    assert client.say(b"a LOGIN joe x\r\n") == failed
    assert client.say(b"a LOGIN joe x\r\n") == failed
    assert client.say(b"a LOGIN joe x\r\n") == failed + b"* BYE too many failed logins\r\n"
    assert client.closed
    other = world.connect()
    assert other.say(b"a LOGIN joe secret\r\n") == b""
    world.clock.advance(1)
    assert other.hear().startswith(b"a OK ")
    # A name that has logged in from there is not slowed down by others' failures.
    assert world.connect().say(b"a LOGIN joe secret\r\n").startswith(b"a OK ")


def test_limits_are_parameters() -> None:
    """A smaller limit is obeyed."""
    world = ImapWorld(limits=dataclasses.replace(ImapLimits(), append_max_bytes=10))
    client = world.logged_in()
    assert client.say(b"a APPEND INBOX {11}\r\n") == b"a NO [TOOBIG] literal too large\r\n"
    assert client.say(b"a APPEND INBOX {10+}\r\n0123456789\r\n").startswith(b"a OK [APPENDUID")


def test_patterns_of_one_list_are_bounded() -> None:
    """What cannot be matched in passing is refused, names without wildcards are not counted."""
    client = ImapWorld().logged_in()
    names = b" ".join(b"%03d" % number + b"a" * 900 for number in range(9))
    assert client.say(b'a LIST "" (%b)\r\n' % names) == b"a OK done\r\n"
    said = client.say(b'a LIST "" (%b)\r\n' % names.replace(b" ", b"* "))
    assert said == b"a OK done\r\n"
    said = client.say(b'a LIST "%b" (%b)\r\n' % (b"x" * 200, names.replace(b" ", b"* ")))
    assert said == b"a NO [LIMIT] too many patterns\r\n"
