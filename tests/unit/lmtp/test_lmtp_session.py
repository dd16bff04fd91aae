"""LMTP dialogues: exact replies, their order, and what the store was given."""

from __future__ import annotations

import pytest
from lmtp_world import CAPABILITIES, MESSAGE, LmtpWorld
from twisted.internet.defer import Deferred

from mailstore import errors
from mailstore.errors import StoreError
from protocols.envelope.replies import Reply, reply_for
from tests.wire import TLS, Client

DELIVERED = b"250 2.0.0 delivered\r\n"
SEND = b"354 send the message, end with a dot on a line of its own\r\n"


def test_lhlo_lists_what_is_offered() -> None:
    """LHLO's answer is exact; without a certificate STARTTLS is missing."""
    world = LmtpWorld()
    assert world.connect().say(b"LHLO relay\r\n") == CAPABILITIES % world.limits.message_max_bytes
    bare = LmtpWorld(tls=None).connect().say(b"LHLO relay\r\n")
    assert bare.endswith(b"250 SIZE %d\r\n" % world.limits.message_max_bytes)


def test_one_message_is_delivered_with_its_trace() -> None:
    """The store gets message, envelope and trace header; the reply comes after that."""
    world = LmtpWorld()
    client = world.ready()
    assert client.say(b"DATA\r\n") == SEND
    assert client.say(MESSAGE + b".\r\n") == DELIVERED
    (kept,) = world.store.kept
    assert (kept.account, kept.message) == ("joe", MESSAGE)
    assert (kept.facts.envelope_from, kept.facts.envelope_to) == (b"bob@example.net", b"joe@example.org")
    assert kept.facts.received == 1_800_000_000
    lines = kept.facts.trace_header.split(b"\r\n")
    assert lines[0] == b"Return-Path: <bob@example.net>"
    assert lines[1] == b"Delivered-To: joe@example.org"
    assert lines[2] == b"Received: from relay.example.net ([192.168.1.1])"
    assert lines[3].startswith(b"\tby mx.example.org with LMTP id ") and lines[3].endswith(b";")
    assert lines[4:] == [b"\tFri, 15 Jan 2027 08:00:00 +0000", b""]


def test_delivered_is_said_only_when_the_store_is_done() -> None:
    """No 250 while the store still writes."""
    world = LmtpWorld()
    world.store.hold = Deferred()
    client = world.ready()
    client.say(b"DATA\r\n")
    assert client.say(MESSAGE + b".\r\n") == b""
    world.store.hold.callback(None)
    assert client.hear() == DELIVERED


def test_replies_come_in_order_with_mixed_outcomes() -> None:
    """One reply per accepted recipient, in the order of RCPT (RFC 2033 section 4.2)."""
    world = LmtpWorld()
    world.store.failures = {"ann": errors.StorageFull("full"), "max": ValueError("a bug")}
    client = world.ready(b"max@example.org", b"no@example.org", b"joe@example.org", b"ann@example.org")
    client.say(b"DATA\r\n")
    assert client.say(MESSAGE + b".\r\n") == (
        b"451 4.3.0 local error, try again later\r\n" + DELIVERED + b"452 4.3.1 no space, try again later\r\n"
    )
    assert [one.account for one in world.store.kept] == ["joe"]


def test_recipients_are_answered_at_once() -> None:
    """Unknown, disabled, full and failing recipients are told apart at RCPT."""
    world = LmtpWorld()
    world.store.disabled.add("ann")
    world.store.full.add("max")
    client = world.greeted()
    client.say(b"MAIL FROM:<>\r\n")
    assert client.say(b"RCPT TO:<no@example.org>\r\n") == b"550 5.1.1 no such recipient\r\n"
    assert client.say(b"RCPT TO:<ann@example.org>\r\n") == b"550 5.2.1 mailbox disabled\r\n"
    assert client.say(b"RCPT TO:<max@example.org>\r\n") == b"452 4.2.2 no room in the mailbox for that\r\n"
    assert client.say(b"RCPT TO:<j\xc3\xb6@example.org>\r\n") == b"553 5.6.7 address needs SMTPUTF8\r\n"
    world.store.resolve_failure = errors.StorageFailed("disk")
    assert client.say(b"RCPT TO:<joe@example.org>\r\n") == b"451 4.3.0 local error, try again later\r\n"
    assert client.say(b"DATA\r\n") == b"503 5.5.1 no valid recipients\r\n"


def test_a_recipient_named_twice_gets_one_copy_and_two_replies() -> None:
    """The same account and mailbox once; another mailbox of the account is another copy."""
    world = LmtpWorld()
    client = world.ready(b"joe@example.org", b"JOE@example.org", b"joe+work@example.org")
    client.say(b"DATA\r\n")
    assert client.say(MESSAGE + b".\r\n") == DELIVERED * 3
    assert [one.facts.mailbox_hint for one in world.store.kept] == [None, "work"]


def test_a_pipelined_session_in_one_packet() -> None:
    """Everything at once gives every reply in order (RFC 2920)."""
    world = LmtpWorld(tls=None)
    client = world.connect()
    said = client.say(
        b"LHLO relay\r\nMAIL FROM:<> SIZE=10\r\nRCPT TO:<joe@example.org>\r\nRCPT TO:<no@example.org>\r\n"
        b"DATA\r\n" + MESSAGE + b".\r\nMAIL FROM:<>\r\nRSET\r\nVRFY joe\r\nNOOP\r\nQUIT\r\n"
    )
    codes = [line[:3] for line in said.split(b"\r\n") if line[3:4] == b" "]
    assert codes == [b"250", b"250", b"250", b"550", b"354", b"250", b"250", b"250", b"252", b"250", b"221"]
    assert client.closed


def test_order_of_commands() -> None:
    """Commands out of order are refused and change nothing."""
    world = LmtpWorld()
    client = world.connect()
    assert client.say(b"HELO x\r\n") == b"500 5.5.1 this is LMTP: use LHLO\r\n"
    assert client.say(b"MAIL FROM:<>\r\n") == b"503 5.5.1 LHLO first\r\n"
    assert client.say(b"DATA\r\n") == b"503 5.5.1 MAIL first\r\n"
    client.say(b"LHLO x\r\n")
    assert client.say(b"RCPT TO:<joe@example.org>\r\n") == b"503 5.5.1 MAIL first\r\n"
    client.say(b"MAIL FROM:<>\r\n")
    assert client.say(b"MAIL FROM:<>\r\n") == b"503 5.5.1 a transaction is open already\r\n"
    assert client.say(b"RCPT TO:<joe@example.org>\r\n") == b"250 2.1.5 recipient OK\r\n"
    assert client.say(b"RSET\r\n") == b"250 2.0.0 OK\r\n"
    assert client.say(b"DATA\r\n") == b"503 5.5.1 MAIL first\r\n"


def test_chunks_make_one_message() -> None:
    """Each chunk but the last has one reply, the last one for each recipient (RFC 3030, RFC 2033)."""
    world = LmtpWorld()
    client = world.ready(b"joe@example.org", b"ann@example.org")
    assert client.say(b"BDAT 5\r\na\r\n.\r") == b"250 2.0.0 chunk received\r\n"
    assert (
        client.say(b"BDAT 6\r\n\n.\n\rb.BDAT 0 LAST\r\n") == b"250 2.0.0 chunk received\r\n" + DELIVERED * 2
    )
    assert world.store.kept[1].message == b"a\r\n.\r\n.\n\rb."


def test_chunks_without_recipients_are_thrown_away() -> None:
    """The octets of a refused BDAT are not taken for commands."""
    world = LmtpWorld()
    client = world.greeted()
    said = client.say(b"BDAT 6\r\nQUIT\r\nNOOP\r\n")
    assert said == b"503 5.5.1 MAIL first\r\n250 2.0.0 OK\r\n"
    assert {entry.command for entry in world.access_log.entries} == {"LMTP BDAT"}


def test_a_failed_chunk_fails_the_message_once_per_recipient() -> None:
    """BDAT LAST is answered for each recipient even then, so a pipelining peer stays in step."""
    world = LmtpWorld(message_max_bytes=10)
    client = world.ready(b"joe@example.org", b"ann@example.org")
    too_large = b"552 5.3.4 message too large\r\n"
    assert client.say(b"BDAT 11\r\n" + b"x" * 11) == too_large
    assert client.say(b"BDAT 1\r\nx") == b"503 5.5.1 the message has failed already\r\n"
    assert client.say(b"BDAT 0 LAST\r\n") == too_large * 2
    assert client.say(b"MAIL FROM:<>\r\n") == b"250 2.1.0 sender OK\r\n"
    assert world.budget.used_bytes == 0 and not world.store.kept


def test_data_and_bdat_do_not_mix() -> None:
    """DATA or RCPT behind a BDAT is refused."""
    client = LmtpWorld().ready()
    client.say(b"BDAT 1\r\nx")
    assert client.say(b"DATA\r\n") == b"503 5.5.1 the message was begun with BDAT\r\n"
    assert client.say(b"RCPT TO:<ann@example.org>\r\n") == b"503 5.5.1 the message was begun with BDAT\r\n"


def test_a_malformed_bdat_ends_the_connection() -> None:
    """What follows it could be mail, so it must not be read as commands."""
    client = LmtpWorld().ready()
    assert client.say(b"BDAT six\r\nQUIT\r\n") == b"501 5.5.4 syntax error in BDAT, closing\r\n"
    assert client.closed


def test_an_absurd_chunk_ends_the_connection() -> None:
    """Nobody waits for 99999999999999999999 octets, whether a transaction is open or not."""
    for client in (LmtpWorld().ready(), LmtpWorld().greeted()):
        answer = client.say(b"BDAT 99999999999999999999 LAST\r\n")
        assert answer == b"552 5.3.4 chunk too large, closing\r\n"
        assert client.closed


SMUGGLED = b"MAIL FROM:<evil@example.net>\r\nRCPT TO:<ann@example.org>\r\nDATA\r\nforged\r\n"


@pytest.mark.parametrize("split", [False, True], ids=["whole", "byte by byte"])
@pytest.mark.parametrize(
    "ending", [b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r\n", b"\r.\r", b"\r\n.\r", b"\n.\r", b"\r\n.\r\r\n"]
)
def test_smuggling_is_refused(ending: bytes, split: bool) -> None:
    """A sloppy end of data neither ends the message nor gets through (targets: SMTP smuggling)."""
    world = LmtpWorld()
    client = world.ready()
    client.say(b"DATA\r\n")
    wire = b"Subject: a\r\n\r\nbody" + ending + SMUGGLED + b".\r\n"
    heard = b"".join(client.say(piece) for piece in ([bytes([one]) for one in wire] if split else [wire]))
    assert heard == b"550 5.6.0 bare CR or LF around a line with a single dot\r\n"
    assert not world.store.kept
    assert client.say(b"NOOP\r\n") == b"250 2.0.0 OK\r\n"


def test_other_bare_line_ends_are_kept() -> None:
    """A bare LF or CR away from a lone dot is an octet like any other."""
    world = LmtpWorld()
    client = world.ready()
    client.say(b"DATA\r\n")
    body = b"a\nb\r.c\n..\n\r\n..stuffed\r\n\0\xff\r\n"
    assert client.say(body + b".\r\n") == DELIVERED
    assert world.store.kept[0].message == body.replace(b"\r\n..stuffed", b"\r\n.stuffed")


def test_sizes_are_limited() -> None:
    """Announced size, real size and the worker's memory have each their reply."""
    world = LmtpWorld(message_max_bytes=100, data_total_max_bytes=150)
    client = world.greeted()
    assert client.say(b"MAIL FROM:<> SIZE=101\r\n") == b"552 5.3.4 message too large\r\n"
    first, second = world.ready(), world.ready()
    first.say(b"DATA\r\n" + b"x" * 90)
    second.say(b"DATA\r\n")
    no_memory = b"452 4.3.1 too much mail in transit, try again later\r\n"
    assert second.say(b"x" * 90 + b"\r\n.\r\n") == no_memory
    assert first.say(b"x" * 20 + b"\r\n.\r\n") == b"552 5.3.4 message too large\r\n"
    assert world.budget.used_bytes == 0


def test_memory_is_given_back_when_a_connection_is_lost() -> None:
    """A half-sent message leaves nothing behind but a line in the access log."""
    world = LmtpWorld()
    client = world.ready()
    client.say(b"DATA\r\nhalf a mess")
    assert world.budget.used_bytes == 11
    client.hang_up()
    assert world.budget.used_bytes == 0
    (entry,) = world.access_log.entries
    assert (entry.command, entry.bytes, entry.result, entry.failed) == ("LMTP DATA", 11, "250", False)


def test_loops_are_refused() -> None:
    """More Received fields in the header than allowed are a loop; in the body they are text."""
    world = LmtpWorld(received_headers_max=3)
    client = world.ready()
    fields = b"Received: x\r\nreceived : y\r\n folded\r\n"
    client.say(b"DATA\r\n")
    assert client.say(fields * 2 + b"\r\n.\r\n") == b"554 5.4.6 too many Received fields: mail loop\r\n"
    client = world.ready()
    client.say(b"DATA\r\n")
    assert client.say(fields + b"\r\n" + fields + b".\r\n") == DELIVERED


def test_recipients_are_limited() -> None:
    """Too many accepted or refused recipients are answered with a temporary code."""
    world = LmtpWorld(recipients_max=1, refused_recipients_max=2)
    too_many = b"452 4.5.3 too many recipients\r\n"
    assert world.ready().say(b"RCPT TO:<ann@example.org>\r\n") == too_many
    client = world.ready(b"a@example.org", b"b@example.org")
    assert client.say(b"RCPT TO:<joe@example.org>\r\n") == too_many


def test_starttls_throws_away_what_was_pipelined() -> None:
    """Plaintext behind STARTTLS is gone, and so is LHLO (RFC 3207 section 4.2)."""
    world = LmtpWorld()
    client = world.ready()
    assert client.say(b"STARTTLS\r\nRSET\r\nQUIT\r\n") == b"220 2.0.0 start TLS now\r\n"
    assert client.transport.tls is TLS and not client.closed
    assert client.say(b"MAIL FROM:<>\r\n") == b"503 5.5.1 LHLO first\r\n"
    assert b"STARTTLS" not in client.say(b"LHLO relay\r\n")
    assert client.say(b"STARTTLS\r\n") == b"503 5.5.1 TLS is active already\r\n"
    client.say(b"MAIL FROM:<> SMTPUTF8\r\nRCPT TO:<joe@example.org>\r\nDATA\r\n.\r\n")
    assert b" with UTF8LMTPS id " in world.store.kept[0].facts.trace_header
    assert LmtpWorld(tls=None).greeted().say(b"STARTTLS\r\n") == b"502 5.5.1 command not offered\r\n"


def test_errors_in_a_row_end_the_connection() -> None:
    """A peer that only makes errors is sent away; a good command starts the count afresh."""
    client = LmtpWorld(errors_max=2).connect()
    client.say(b"FOO\r\nBAR\r\nNOOP\r\nFOO\r\nBAR\r\n")
    assert not client.closed
    assert client.say(b"FOO\r\n") == b"500 5.5.1 unknown command\r\n421 4.7.0 too many errors\r\n"
    assert client.closed


def test_foreign_protocols_are_sent_away() -> None:
    """A browser gets one reply and no more (ALPACA)."""
    client = LmtpWorld().connect()
    assert client.say(b"POST / HTTP/1.1\r\nNOOP\r\n") == b"421 4.7.0 this is an LMTP server\r\n"
    assert client.closed


def test_silence_and_crowds_are_answered_421() -> None:
    """An idle peer and one connection too many."""
    world = LmtpWorld(connections_max=1)
    client = world.connect()
    second = Client(world.factory)
    assert second.hear() == b"421 4.3.2 too many connections, try again later\r\n" and second.closed
    world.clock.advance(world.limits.idle_timeout_s)
    assert client.hear() == b"421 4.4.2 timed out\r\n" and client.closed


def test_shutting_down_waits_for_the_running_delivery() -> None:
    """Draining lets a delivery finish and answer; then comes 421."""
    world = LmtpWorld()
    world.store.hold = Deferred()
    idle, busy = world.connect(), world.ready()
    busy.say(b"DATA\r\n" + MESSAGE + b".\r\n")
    drained = Deferred.fromCoroutine(world.factory.drain(5.0))
    assert idle.hear() == b"421 4.3.2 shutting down\r\n" and idle.closed
    assert not drained.called
    world.store.hold.callback(None)
    assert busy.hear() == SEND + DELIVERED + b"421 4.3.2 shutting down\r\n" and busy.closed
    assert drained.called


def test_the_access_log_names_nobody() -> None:
    """One entry per transaction, with the size of the message and the worst reply, and one per refused RCPT.

    An unknown recipient is everyday business, nothing for the error log.
    """
    world = LmtpWorld()
    world.store.full.add("max")
    client = world.ready(b"joe@example.org", b"no@example.org", b"max@example.org")
    client.say(b"DATA\r\n" + MESSAGE + b".\r\n")
    entries = world.access_log.entries
    assert [(one.command, one.bytes, one.result, one.failed) for one in entries] == [
        ("LMTP RCPT", 0, "550", False),
        ("LMTP RCPT", 0, "452", True),
        ("LMTP DATA", len(MESSAGE), "250", False),
    ]
    assert "example" not in repr(entries)


def all_errors(kind: type[StoreError] = StoreError) -> list[type[StoreError]]:
    """The whole tree."""
    return [kind, *(one for below in kind.__subclasses__() for one in all_errors(below))]


@pytest.mark.parametrize("kind", all_errors(), ids=lambda kind: kind.__name__)
def test_only_lasting_causes_get_permanent_codes(kind: type[StoreError]) -> None:
    """Every error of the store has a reply; 5xx only where trying again cannot help."""
    reply = reply_for(kind("secret text"))
    assert isinstance(reply, Reply)
    assert (reply.code >= 500) == (kind.__name__ in ("NoSuchAccount", "MessageTooLarge"))
    assert b"secret" not in reply.wire
