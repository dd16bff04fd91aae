"""The envelope by itself, as SMTP will use it: another greeting, other verbs, the same transaction."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from typing import Any, TypeVar

from lmtp_world import MESSAGE, LmtpWorld, MemoryDeliveries
from twisted.internet.defer import Deferred

from protocols.budget import MemoryBudget
from protocols.envelope import replies
from protocols.envelope import requests as ask
from protocols.envelope.delivery import Delivery
from protocols.envelope.dialect import Dialect
from protocols.envelope.grammar import VERBS, parse_command, parse_greeting, parse_helo
from protocols.envelope.message import Trace
from protocols.envelope.replies import Reply
from protocols.envelope.transaction import Transaction
from protocols.limits import EnvelopeLimits
from tests.wire import Client

Value = TypeVar("Value")
LIMITS = EnvelopeLimits(recipients_max=2, refused_recipients_max=1, message_max_bytes=100)
SMTP = {**VERBS, b"EHLO": parse_greeting, b"HELO": parse_helo}


def result_now(coroutine: Coroutine[Any, Any, Value]) -> Value:
    """What a coroutine that waits for nothing returns."""
    results: list[Value] = []
    Deferred.fromCoroutine(coroutine).addCallback(results.append)
    return results[0]


def begun(budget: MemoryBudget | None = None) -> Transaction:
    """A transaction after MAIL."""
    return Transaction(ask.Mail(b"bob@example.net"), LIMITS, budget or MemoryBudget(1000))


def trace(spoken: bytes, secure: bool, smtputf8: bool) -> Trace:
    """What is known of a transaction over TCP."""
    return Trace(
        spoken, b"bob@example.net", b"relay.example.net", "::1", b"mx.example.org", secure, smtputf8, b"1f", 0
    )


def test_another_protocol_adds_its_own_verbs() -> None:
    """EHLO is a greeting where a protocol says so, and unknown where none does; the rest is shared."""
    assert parse_command(b"EHLO relay.example.net", LIMITS, SMTP) == ask.Greeting(b"relay.example.net")
    assert parse_command(b"HELO relay.example.net", LIMITS, SMTP) == ask.Greeting(b"relay.example.net", False)
    assert parse_command(b"HELO two names", LIMITS, SMTP) is replies.SYNTAX
    assert parse_command(b"LHLO relay.example.net", LIMITS, SMTP) is replies.UNKNOWN_COMMAND
    assert parse_command(b"EHLO relay.example.net", LIMITS, VERBS) is replies.UNKNOWN_COMMAND
    assert parse_command(b"MAIL FROM:<a@b.example>", LIMITS, SMTP) == ask.Mail(b"a@b.example")


def test_the_transmission_type_says_how_the_message_came() -> None:
    """RFC 3848 and RFC 6531 section 4.3: the E of ESMTP gives way to UTF8, and S tells of TLS."""
    shown = {
        trace(spoken, secure, utf8).protocol
        for spoken in (b"LMTP", b"ESMTP")
        for secure in (False, True)
        for utf8 in (False, True)
    }
    assert shown == {
        b"LMTP", b"LMTPS", b"UTF8LMTP", b"UTF8LMTPS", b"ESMTP", b"ESMTPS", b"UTF8SMTP", b"UTF8SMTPS"
    }  # fmt: skip
    # HELO has no extensions, and no transmission type of its own for TLS.
    assert trace(b"SMTP", False, False).protocol == trace(b"SMTP", True, False).protocol == b"SMTP"
    assert b"with ESMTPS id 1f;" in trace(b"ESMTP", True, False).header(b"joe@example.org")


def test_a_transaction_takes_recipients_before_the_message_only() -> None:
    """RFC 5321 section 3.3: MAIL, RCPT, DATA; and as many recipients as are allowed."""
    store, transaction = MemoryDeliveries(), begun()
    assert transaction.data() is replies.NO_RECIPIENTS
    assert transaction.bdat(ask.Bdat(1, last=True)) is replies.NO_RECIPIENTS
    assert result_now(transaction.rcpt(store, b"joe@example.org")) is replies.RECIPIENT_OK
    assert result_now(transaction.rcpt(store, b"nobody@example.org")) is replies.UNKNOWN_RECIPIENT
    assert result_now(transaction.rcpt(store, b"ann@example.org")) is replies.TOO_MANY_RECIPIENTS
    assert transaction.data() is replies.SEND_DATA
    assert result_now(transaction.rcpt(store, b"ann@example.org")) is replies.BDAT_BEGUN
    assert transaction.data() is replies.BDAT_BEGUN
    assert [accepted.address for accepted in transaction.accepted] == [b"joe@example.org"]


def test_chunks_that_are_too_large_together_fail_and_fail_again() -> None:
    """RFC 3030 section 2: the peer hears of it at each chunk, and of the message at the last."""
    store, budget = MemoryDeliveries(), MemoryBudget(1000)
    transaction = begun(budget)
    assert result_now(transaction.rcpt(store, b"joe@example.org")) is replies.RECIPIENT_OK
    assert transaction.bdat(ask.Bdat(60, last=False)) is None
    transaction.collector.add(b"x" * 60)
    assert transaction.chunk_ended() is replies.CHUNK_OK
    assert transaction.bdat(ask.Bdat(60, last=False)) is None
    assert transaction.chunk_ended() is replies.TOO_LARGE
    assert transaction.bdat(ask.Bdat(1, last=False)) is replies.CHUNK_AFTER_FAILURE
    assert transaction.bdat(ask.Bdat(1, last=True)) is None
    delivery = Delivery(store, transaction, trace(b"ESMTP", True, False), LIMITS)
    assert result_now(delivery.deliver_to(transaction.accepted[0])) is replies.TOO_LARGE
    transaction.close()
    assert not store.kept
    assert budget.used_bytes == 0


def smtp_client() -> tuple[LmtpWorld, Client]:
    """A server of a dialect with other words, and one reply for all recipients; and who talks to it."""

    async def deliver(delivery: Delivery, send: Callable[[Reply], Awaitable[None]]) -> None:
        outcomes = [await delivery.deliver_to(accepted) for accepted in delivery.accepted]
        await send(max(outcomes, key=lambda reply: reply.code))

    dialect = Dialect(
        b"ESMTP",
        SMTP,
        Reply(214, b"2.0.0", b"EHLO MAIL RCPT DATA"),
        Reply(421, b"4.7.0", b"this is an SMTP server"),
        Reply(503, b"5.5.1", b"EHLO first"),
        deliver,
        capabilities=(b"LIMITS RCPTMAX=100",),
    )
    world = LmtpWorld()
    world.factory._services = replace(world.factory._services, dialect=dialect)
    return world, Client(world.factory)


def test_another_protocol_needs_no_session_of_its_own() -> None:
    """A dialect with other words brings the same envelope (RFC 5321)."""
    world, client = smtp_client()
    assert client.hear() == b"220 mx.example.org ESMTP Sealbox ready\r\n"
    assert client.say(b"MAIL FROM:<bob@example.net>\r\n") == b"503 5.5.1 EHLO first\r\n"
    assert client.say(b"EHLO relay.example.net\r\n").startswith(b"250-mx.example.org\r\n")
    client.say(b"MAIL FROM:<bob@example.net>\r\nRCPT TO:<joe@example.org>\r\nRCPT TO:<ann@example.org>\r\n")
    assert client.say(b"DATA\r\n").startswith(b"354 ")
    assert client.say(MESSAGE + b".\r\n") == b"250 2.0.0 delivered\r\n"
    assert b"with ESMTP id" in world.store.kept[0].facts.trace_header
    assert [kept.account for kept in world.store.kept] == ["joe", "ann"]
    client.say(b"QUIT\r\n")
    assert {entry.command for entry in world.access_log.entries} == {"ESMTP MAIL", "ESMTP DATA"}


def test_a_dialect_announces_what_it_adds_to_the_envelope() -> None:
    """Its own keywords stand among those of the envelope (RFC 5321 section 4.1.1.1)."""
    _, client = smtp_client()
    client.hear()
    said = client.say(b"EHLO relay.example.net\r\n").splitlines()
    assert b"250-LIMITS RCPTMAX=100" in said and b"250-PIPELINING" in said
    assert [line[:4] for line in said] == [b"250-"] * (len(said) - 1) + [b"250 "]


def test_helo_is_answered_without_extensions_and_told_in_the_trace_header() -> None:
    """RFC 5321 section 4.1.1.1: one line; the message has come by SMTP, the next after EHLO by ESMTP."""
    world, client = smtp_client()
    client.hear()
    mail = b"MAIL FROM:<bob@example.net>\r\nRCPT TO:<joe@example.org>\r\nDATA\r\n" + MESSAGE + b".\r\n"
    assert client.say(b"HELO relay.example.net\r\n") == b"250 mx.example.org\r\n"
    client.say(mail)
    assert client.say(b"EHLO relay.example.net\r\n").startswith(b"250-")
    client.say(mail)
    first, second = [kept.facts.trace_header for kept in world.store.kept]
    assert b"from relay.example.net" in first and b" with SMTP id " in first
    assert b" with ESMTP id " in second


def test_a_message_is_delivered_without_any_session() -> None:
    """Whoever collects the message gets a reply for each recipient."""
    store, transaction = MemoryDeliveries(), begun()
    assert result_now(transaction.rcpt(store, b"joe@example.org")) is replies.RECIPIENT_OK
    assert transaction.data() is replies.SEND_DATA
    transaction.collector.add(MESSAGE)
    delivery = Delivery(store, transaction, trace(b"ESMTP", True, False), LIMITS)
    assert result_now(delivery.deliver_to(transaction.accepted[0])) is replies.DELIVERED
    assert [kept.message for kept in store.kept] == [MESSAGE]
