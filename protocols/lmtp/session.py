"""One LMTP connection (RFC 2033): commands against the store, replies in order.

Decisions: a failed message sent in chunks fails again, once per recipient, at ``BDAT LAST``, so that
a pipelining peer stays in step; a malformed BDAT ends the connection, because the octets behind it
would be taken for commands.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, assert_never

from protocols.access_log import AccessLog, Entry
from protocols.budget import MemoryBudget
from protocols.envelope import connection as heard
from protocols.envelope import replies
from protocols.envelope import requests as ask
from protocols.envelope.delivery import (
    FAILURES,
    Accepted,
    Delivery,
    DeliveryStore,
    Transaction,
    find_recipient,
)
from protocols.envelope.grammar import parse_command
from protocols.envelope.message import Collector, Failure, Trace
from protocols.envelope.replies import Reply
from protocols.limits import LmtpLimits
from protocols.transport import Channel, IdleTimeout

SWALLOWED_MESSAGES = 2
"""A chunk of more than so many times the message limit ends the connection."""


@dataclass(frozen=True, slots=True)
class LmtpServices:
    """What all LMTP connections of a worker share.

    ``tls`` is the context for STARTTLS, None when there is no certificate. ``now`` gives epoch seconds.
    """

    store: DeliveryStore
    limits: LmtpLimits
    hostname: bytes
    budget: MemoryBudget
    access_log: AccessLog
    tls: Any
    now: Callable[[], float]


@dataclass(frozen=True, slots=True)
class _Incoming:
    """Octets on their way: the message, a chunk of it, or octets to throw away (``refusal``)."""

    last: bool
    refusal: Reply | None = None


class LmtpSession:
    """See the module's docstring."""

    def __init__(self, channel: Channel, services: LmtpServices, secure: bool) -> None:
        self._channel = channel
        self._services = services
        self._limits = services.limits
        self._secure = secure
        self._connection = heard.Connection(services.limits)
        self._lhlo_name: bytes | None = None
        self._transaction: Transaction | None = None
        self._incoming: _Incoming | None = None
        self._output = bytearray()
        self._errors = 0
        self._over = False
        self._ending = False

    def end(self, reason: bytes) -> None:
        """Say 421 and close as soon as the running command is done; ``reason`` is not repeated."""
        self._ending = True
        self._channel.wake()

    async def run(self) -> None:
        """Serve the connection until it ends."""
        self._put(Reply(220, b"", self._services.hostname + b" LMTP Sealbox ready"))
        try:
            while not self._over:
                if self._channel.turn_is_over:
                    await self._flush()
                    await self._channel.turn()
                await self._step()
        except IdleTimeout:
            self._put(replies.TIMED_OUT)
        finally:
            self._end_transaction()
        await self._flush()

    async def refuse(self) -> None:
        """Turn the connection away because there are too many."""
        self._put(replies.TOO_MANY_CONNECTIONS)
        await self._flush()

    async def _step(self) -> None:
        if self._ending:
            self._close(replies.SHUTTING_DOWN)
            return
        event = self._connection.next_event()
        match event:
            case None:
                await self._flush()
                if not self._ending:
                    data = await self._channel.read(self._limits.idle_timeout_s)
                    self._connection.feed(data or b"")
            case heard.CommandLine(text):
                await self._command(text)
            case heard.Unreadable.TOO_LONG:
                self._answer(replies.LINE_TOO_LONG)
            case heard.Unreadable.NOT_CRLF:
                self._answer(replies.LINE_NOT_CRLF)
            case heard.DataReceived(data):
                if self._incoming is not None and self._incoming.refusal is None:
                    self._open_transaction.collector.add(data)
            case heard.DataEnded(ambiguous):
                await self._data_ended(ambiguous)
            case heard.Foreign():
                self._close(replies.FOREIGN)

    # -- commands --------------------------------------------------------------------------------

    async def _command(self, line: bytes) -> None:
        request = parse_command(line, self._limits)
        match request:
            case Reply():
                self._answer(request)
                if request is replies.BAD_BDAT:
                    self._over = True
            case ask.Lhlo(name):
                self._lhlo(name)
            case ask.Mail():
                self._answer(self._mail(request), "MAIL")
            case ask.Rcpt(recipient):
                await self._rcpt(recipient)
            case ask.Data():
                self._data()
            case ask.Bdat():
                self._bdat(request)
            case ask.Rset():
                self._end_transaction()
                self._answer(replies.OK)
            case ask.Noop():
                self._answer(replies.OK)
            case ask.Vrfy():
                self._answer(replies.CANNOT_VERIFY, "VRFY")
            case ask.Help():
                self._answer(replies.HELP)
            case ask.StartTls():
                await self._start_tls()
            case ask.Quit():
                self._close(replies.BYE)
            case _:
                assert_never(request)

    def _lhlo(self, name: bytes) -> None:
        self._end_transaction()
        self._lhlo_name = name
        self._errors = 0
        lines = [
            self._services.hostname,
            b"PIPELINING",
            b"ENHANCEDSTATUSCODES",
            b"8BITMIME",
            b"SMTPUTF8",
            b"CHUNKING",
            b"SIZE %d" % self._limits.message_max_bytes,
        ]
        if self._can_start_tls:
            lines.append(b"STARTTLS")
        self._output += b"".join(b"250-%s\r\n" % line for line in lines[:-1])
        self._output += b"250 %s\r\n" % lines[-1]

    def _mail(self, request: ask.Mail) -> Reply:
        if self._lhlo_name is None:
            return replies.LHLO_FIRST
        if self._transaction is not None:
            return replies.NESTED_MAIL
        size_bytes = request.size_bytes or 0
        if size_bytes > self._limits.message_max_bytes:
            return replies.TOO_LARGE
        collector = Collector(self._services.budget, self._limits.message_max_bytes)
        self._transaction = Transaction(request.sender, size_bytes, request.smtputf8, collector)
        return replies.SENDER_OK

    async def _rcpt(self, address: bytes) -> None:
        transaction = self._transaction
        if transaction is None:
            self._answer(replies.MAIL_FIRST, "RCPT")
            return
        if transaction.collector.begun:
            self._answer(replies.BDAT_BEGUN, "RCPT")
            return
        reply = await self._accept(transaction, address)
        if reply is not replies.RECIPIENT_OK:
            transaction.refused += 1
            self._record("RCPT", 0, reply)
        # Unknown recipients are everyday business, so they do not count as errors of the peer.
        self._put(reply)

    async def _accept(self, transaction: Transaction, address: bytes) -> Reply:
        limits = self._limits
        if len(transaction.accepted) >= limits.recipients_max:
            return replies.TOO_MANY_RECIPIENTS
        if transaction.refused >= limits.refused_recipients_max:
            return replies.TOO_MANY_RECIPIENTS
        if not transaction.smtputf8 and not address.isascii():
            return replies.NEEDS_SMTPUTF8
        found = await find_recipient(self._services.store, address, transaction.size_bytes)
        if isinstance(found, Reply):
            return found
        transaction.accepted.append(Accepted(address, found))
        return replies.RECIPIENT_OK

    def _not_ready(self) -> Reply | None:
        """Why no message can come now."""
        if self._transaction is None:
            return replies.MAIL_FIRST
        return None if self._transaction.accepted else replies.NO_RECIPIENTS

    def _data(self) -> None:
        refusal = self._not_ready()
        if refusal is None and self._open_transaction.collector.begun:
            refusal = replies.BDAT_BEGUN
        if refusal is not None:
            self._answer(refusal, "DATA")
            return
        self._open_transaction.command = "DATA"
        self._open_transaction.collector.begun = True
        self._incoming = _Incoming(last=True)
        self._connection.expect_data()
        self._answer(replies.SEND_DATA)

    def _bdat(self, request: ask.Bdat) -> None:
        if request.size_bytes > SWALLOWED_MESSAGES * self._limits.message_max_bytes:
            # Staying in step would mean to read and throw away whatever the peer calls a chunk.
            self._close(replies.CHUNK_TOO_LARGE)
            return
        refusal = self._not_ready()
        if refusal is None:
            transaction = self._open_transaction
            transaction.command = "BDAT"
            collector = transaction.collector
            if collector.failure is not None and not request.last:
                refusal = replies.CHUNK_AFTER_FAILURE
            elif collector.received_bytes + request.size_bytes > self._limits.message_max_bytes:
                collector.fail(Failure.TOO_LARGE)
            collector.begun = True
        self._incoming = _Incoming(request.last, refusal)
        self._connection.expect_chunk(request.size_bytes)

    async def _data_ended(self, ambiguous: bool) -> None:
        incoming, self._incoming = self._incoming, None
        assert incoming is not None
        if incoming.refusal is not None:
            self._answer(incoming.refusal)
            return
        collector = self._open_transaction.collector
        if ambiguous:
            collector.fail(Failure.AMBIGUOUS)
        if not incoming.last:
            failed = collector.failure
            self._put(replies.CHUNK_OK if failed is None else FAILURES[failed])
            return
        await self._deliver(self._open_transaction)
        self._end_transaction()

    async def _deliver(self, transaction: Transaction) -> None:
        services = self._services
        trace = Trace(
            sender=transaction.sender,
            lhlo_name=self._lhlo_name or b"unknown",
            address=self._channel.address,
            hostname=services.hostname,
            secure=self._secure,
            smtputf8=transaction.smtputf8,
            transaction_id=secrets.token_hex(8).encode("ascii"),
            received=int(services.now()),
        )
        delivery = Delivery(services.store, transaction, trace, self._limits)
        for accepted in transaction.accepted:
            reply = await delivery.reply_to(accepted)
            transaction.note(reply)
            self._put(reply)
            # At once: what is safe here must not be sent again because the connection broke later.
            await self._flush()

    def _end_transaction(self) -> None:
        """Forget sender, recipients and message; one line in the access log, its bytes the message's."""
        transaction, self._transaction = self._transaction, None
        if transaction is None:
            return
        transaction.collector.close()
        self._record(transaction.command, transaction.collector.received_bytes, transaction.worst)

    def _record(self, command: str, size_bytes: int, reply: Reply) -> None:
        self._services.access_log.record(
            Entry(
                address=self._channel.address,
                user_agent="",
                command="LMTP " + command,
                bytes=size_bytes,
                result=str(reply.code),
                failed=not reply.positive and reply is not replies.UNKNOWN_RECIPIENT,
            )
        )

    # -- TLS -------------------------------------------------------------------------------------

    @property
    def _can_start_tls(self) -> bool:
        return self._services.tls is not None and not self._secure

    async def _start_tls(self) -> None:
        if self._secure:
            self._answer(replies.TLS_ALREADY, "STARTTLS")
            return
        if not self._can_start_tls:
            self._answer(replies.NOT_OFFERED, "STARTTLS")
            return
        self._end_transaction()
        self._answer(replies.START_TLS)
        # Whatever came in clear behind STARTTLS could be an attacker's (RFC 3207 section 4.2).
        self._connection.take_rest()
        await self._flush()
        self._channel.start_tls(self._services.tls)
        self._secure = True
        self._lhlo_name = None

    # -- answering -------------------------------------------------------------------------------

    @property
    def _open_transaction(self) -> Transaction:
        assert self._transaction is not None
        return self._transaction

    def _put(self, reply: Reply) -> None:
        self._output += reply.wire

    def _answer(self, reply: Reply, command: str = "?") -> None:
        """Reply to a command, and count errors in a row. ``command`` is what the access log calls it."""
        self._put(reply)
        if reply.code < 500:
            self._errors = 0
            return
        self._record(command, 0, reply)
        self._errors += 1
        if self._errors > self._limits.errors_max:
            self._close(replies.TOO_MANY_ERRORS)

    def _close(self, reply: Reply) -> None:
        self._put(reply)
        self._over = True

    async def _flush(self) -> None:
        if self._output:
            data = bytes(self._output)
            self._output.clear()
            await self._channel.write(data)
