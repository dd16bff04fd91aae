"""Bounds of POP3, LMTP and of logging in: what just fits is taken, one more is refused."""

from __future__ import annotations

import base64
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from mailstore.errors import AuthenticationFailed
from mailstore.model import AccessProtocol
from protocols.access_log import user_agent
from protocols.envelope.message import is_loop
from protocols.imap.context import Context
from protocols.limits import AccessLogLimits, EnvelopeLimits, ImapLimits, LoginLimits, StreamLimits
from protocols.throttle import KEY_BYTES, Throttle
from protocols.transport import Channel, StreamConnection
from tests.login_guard import make_guard
from tests.memory_store import MemoryStore
from tests.unit.lmtp.lmtp_world import LmtpWorld
from tests.unit.pop3.pop3_world import Pop3World
from tests.wire import ImapWorld

DAY_S = 86_400.0
TOO_LONG = b"-ERR line too long\r\n"
BAD_ADDRESS = b"501 5.1.3 syntax error in address\r\n"


def line(command: bytes, size: int) -> bytes:
    """A command that is padded with blanks, so long with its CRLF."""
    return command.ljust(size - 2) + b"\r\n"


def test_pop3_lines() -> None:
    """A line counts with its CRLF; where somebody may still log in by SASL it may be longer."""
    world = Pop3World(line_max_bytes=40, sasl_line_max_bytes=50)
    client = world.connect()
    assert client.say(line(b"CAPA", 50)) != TOO_LONG == client.say(line(b"CAPA", 51))
    client = world.logged_in()
    assert client.say(line(b"NOOP", 40)) != TOO_LONG == client.say(line(b"NOOP", 41))


def test_pop3_sasl_responses() -> None:
    """A response is bounded like the line of AUTH itself."""
    for size, answer in (
        (50, b"-ERR [AUTH] wrong name or secret\r\n"),
        (51, b"-ERR SASL response too long\r\n"),
    ):
        client = Pop3World(sasl_line_max_bytes=50).connect()
        assert client.say(b"AUTH PLAIN\r\n") == b"+ \r\n"
        response = base64.b64encode(b"\0joe\0" + b"x" * 31)
        assert len(response) == 48
        assert client.say(response + b" " * (size - 50) + b"\r\n") == answer


def test_pop3_mistakes_once_logged_in() -> None:
    """The last of so many in a row ends the connection."""
    client = Pop3World(bad_commands_max=3).logged_in()
    client.say(b"FOO\r\nBAR\r\nNOOP\r\nFOO\r\nBAR\r\n")
    assert not client.closed
    client.say(b"FOO\r\n")
    assert client.closed


@pytest.mark.parametrize("count", [2, 3, 4, 6, 7])
@pytest.mark.parametrize("command", [b"LIST", b"UIDL"])
def test_pop3_listings_are_whole_however_they_are_cut(command: bytes, count: int) -> None:
    """Made so many lines at once, they are what they would be in one piece."""
    messages = [b"Subject: x\r\n\r\n"] * count
    whole = Pop3World(*messages).logged_in().say(command + b"\r\n")
    assert whole.count(b"\r\n") == count + 2
    cut = Pop3World(*messages, listing_chunk_lines=3, write_chunk_bytes=1).logged_in()
    assert cut.say(command + b"\r\n") == whole


def test_lmtp_lines() -> None:
    """A line counts with its CRLF."""
    client = LmtpWorld(line_max_bytes=40).greeted()
    assert client.say(line(b"NOOP", 40)).startswith(b"250 ")
    assert client.say(line(b"NOOP", 41)).startswith(b"500 ")
    assert client.say(line(b"NOOP", 40)).startswith(b"250 ")


def test_lmtp_addresses() -> None:
    """Without their angle brackets; the reverse-path has the same bound."""
    world = LmtpWorld(address_max_bytes=15)
    client = world.ready(b"joe@example.org")
    assert client.say(b"RCPT TO:<jo+e@example.org>\r\n") == BAD_ADDRESS
    assert client.say(b"DATA\r\n.\r\n").startswith(b"354 ")
    assert world.greeted().say(b"MAIL FROM:<ann@example.com>\r\n").startswith(b"250 ")
    assert world.greeted().say(b"MAIL FROM:<anna@example.com>\r\n").startswith(b"501 5.1.7 ")


def test_lmtp_parameters() -> None:
    """Of one MAIL or RCPT."""
    world = LmtpWorld(parameters_max=2)
    assert world.greeted().say(b"MAIL FROM:<> SIZE=1 BODY=7BIT\r\n").startswith(b"250 ")
    refused = world.greeted().say(b"MAIL FROM:<> SIZE=1 BODY=7BIT SMTPUTF8\r\n")
    assert refused.startswith(b"501 5.5.4 ")


@pytest.mark.parametrize(
    ("limit", "most", "recipients", "code"),
    [
        ("recipients_max", 2, (b"joe@example.org", b"ann@example.org"), b"250"),
        ("refused_recipients_max", 2, (b"joe@example.org", b"a@example.org"), b"550"),
    ],
)
def test_lmtp_recipients(limit: str, most: int, recipients: tuple[bytes, ...], code: bytes) -> None:
    """The last that fits is answered for itself, the next one with 452 (RFC 5321 section 4.5.3.1.10)."""
    client = LmtpWorld(**{limit: most}).ready(recipients[0])
    if code == b"550":
        client.say(b"RCPT TO:<b@example.org>\r\n")
    assert client.say(b"RCPT TO:<%s>\r\n" % recipients[1]).startswith(code)
    assert client.say(b"RCPT TO:<max@example.org>\r\n").startswith(b"452 4.5.3 ")


def test_lmtp_sizes() -> None:
    """A message as large as announced is taken, as is all the memory there is."""
    world = LmtpWorld(message_max_bytes=20, data_total_max_bytes=20)
    client = world.greeted()
    assert client.say(b"MAIL FROM:<> SIZE=21\r\n").startswith(b"552 ")
    assert client.say(b"MAIL FROM:<> SIZE=20\r\n").startswith(b"250 ")
    client.say(b"RCPT TO:<joe@example.org>\r\nDATA\r\n")
    assert client.say(b"x" * 18 + b"\r\n.\r\n").startswith(b"250 ")
    client = world.ready()
    client.say(b"DATA\r\n")
    assert client.say(b"x" * 19 + b"\r\n.\r\n").startswith(b"552 ")


def test_lmtp_chunks() -> None:
    """All chunks of a message together have the same bound (RFC 3030)."""
    world = LmtpWorld(message_max_bytes=20)
    client = world.ready()
    assert client.say(b"BDAT 5\r\n" + b"x" * 5).startswith(b"250 ")
    assert client.say(b"BDAT 15 LAST\r\n" + b"x" * 15).startswith(b"250 ")
    client = world.ready()
    assert client.say(b"BDAT 5\r\n" + b"x" * 5).startswith(b"250 ")
    assert client.say(b"BDAT 16 LAST\r\n" + b"x" * 16).startswith(b"552 ")


def test_loops_are_looked_for_in_the_beginning() -> None:
    """So many fields are none yet; behind so many octets nobody looks any more."""
    field = b"Received: x\r\n"
    limits = EnvelopeLimits(received_headers_max=2, loop_scan_max_bytes=3 * len(field))
    assert not is_loop(field * 2, limits)
    assert is_loop(field * 3, limits)
    assert not is_loop(field * 3, replace(limits, loop_scan_max_bytes=2 * len(field)))


@pytest.mark.parametrize(("limit", "secret"), [("name_max_bytes", False), ("secret_max_bytes", True)])
def test_names_and_secrets_of_a_login(limit: str, secret: bool) -> None:
    """What no account can have does not reach the store, and fails like everything else."""
    store, clock = MemoryStore(), Clock()
    store.add_account()
    guard = make_guard(store, LoginLimits(**{limit: 10}), clock)  # type: ignore[arg-type]
    for size, logins in ((10, 1), (11, 1), (0, 1)):
        text = b"x" * size
        name, word = (b"joe", text) if secret else (text, b"secret")
        failed = Deferred.fromCoroutine(guard.login("192.0.2.1", name, word, AccessProtocol.IMAP))
        seen: list[type] = []
        failed.addErrback(lambda failure, seen=seen: seen.append(failure.type))
        assert seen == [AuthenticationFailed]
        assert store.logins == logins


def test_a_site_and_an_account_are_forgotten_when_they_have_been_quiet() -> None:
    """To the second: for so long an attempt counts, and then no more."""
    limits = LoginLimits(free_failures=0, first_delay_s=100.0, delay_max_s=100.0, forget_after_s=50.0)
    for quiet_s, waits in ((50.0, True), (50.5, False)):
        throttle = Throttle.in_memory(bytes(KEY_BYTES), limits)
        assert throttle.start("site", "account", limits, 1000.0).wait_s == 0
        assert (throttle.start("site", "account", limits, 1000.0 + quiet_s).wait_s > 0) is waits


def test_a_site_is_trusted_for_so_many_days() -> None:
    """To the second."""
    limits = LoginLimits(trusted_days=3)
    for age_s, trusted in ((3 * DAY_S, True), (3 * DAY_S + 0.5, False)):
        throttle = Throttle.in_memory(bytes(KEY_BYTES), limits)
        throttle.succeeded("site", "account", False, 1000.0)
        assert throttle.start("site", "account", limits, 1000.0 + age_s).trusted is trusted


def test_trust_lasts_no_longer_than_the_privacy_policy_allows() -> None:
    """Ten days are allowed, eleven are a mistake in the configuration."""
    assert LoginLimits(trusted_days=10).trusted_days == 10
    for days in (11, -1):
        with pytest.raises(ValueError, match="between 0 and 10"):
            LoginLimits(trusted_days=days)


def test_access_log_retention_at_its_bounds() -> None:
    """What the policy just allows can be configured."""
    assert AccessLogLimits(access_days=10, error_days=7) == AccessLogLimits()
    assert AccessLogLimits(access_days=1, error_days=1).error_days == 1


def test_user_agents_are_cut() -> None:
    """To so many characters."""
    limits = AccessLogLimits(user_agent_max_chars=5)
    for text, kept in ((b"12345", "12345"), (b"123456", "12345")):
        assert user_agent(((b"name", text),), limits) == kept


def test_so_much_input_waits_for_a_session_that_is_busy() -> None:
    """And then the socket is not read until it is taken."""
    world = ImapWorld(stream_limits=StreamLimits(pipelined_max_bytes=16))
    client = world.selected()
    held = world.hold()
    client.say(b"a NOOP\r\n")
    client.say(b"b NOOP\r\nc NOOP\r")
    assert client.transport.reading
    client.say(b"\n")
    assert not client.transport.reading
    world.account.hold = None
    held.callback(None)
    assert client.hear().endswith(b"c OK done\r\n")
    assert client.transport.reading


def test_a_connection_is_at_work_for_so_long() -> None:
    """And then it is the others' turn."""
    clock = Clock()

    async def serve(_channel: Channel) -> None:
        """Nothing."""

    connection = StreamConnection(serve, clock, StreamLimits(turn_max_s=0.5))
    clock.advance(0.49)
    assert not connection.turn_is_over
    clock.advance(0.01)
    assert connection.turn_is_over


def test_notify_rests_in_proportion_to_its_work() -> None:
    """So many times as long as a look has taken, and not a moment longer."""
    clock, woken = Clock(), []
    ctx: Any = SimpleNamespace(
        channel=SimpleNamespace(wake=lambda: woken.append(clock.seconds())),
        limits=ImapLimits(notify_rest_factor=3.0),
        services=SimpleNamespace(clock=clock),
    )
    hint = Context.new_hint(ctx)
    hint.looked(2.0)
    hint.note()
    clock.advance(5.9)
    assert not hint.due and woken == []
    clock.advance(0.1)
    assert hint.due and woken == [6.0]
