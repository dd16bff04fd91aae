"""One connection that brings mail, by LMTP or SMTP: commands against the store, replies in order.

What MAIL, RCPT, DATA and BDAT may do is the transaction's, what the protocols differ in is the
``Dialect``. Decisions: a failed message sent in chunks fails again at ``BDAT LAST``; a malformed BDAT
ends the connection, because the octets behind it would be taken for commands.
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
from protocols.envelope.authentication import COMMAND as AUTH
from protocols.envelope.authentication import Authentication, Logins, Refused
from protocols.envelope.delivery import Delivery
from protocols.envelope.dialect import Dialect
from protocols.envelope.grammar import parse_command
from protocols.envelope.message import Failure, Trace
from protocols.envelope.onward import Onward
from protocols.envelope.recipients import DeliveryStore
from protocols.envelope.replies import Reply
from protocols.envelope.transaction import Transaction
from protocols.limits import EnvelopeLimits
from protocols.output import Output
from protocols.transport import Channel, IdleTimeout

SWALLOWED_MESSAGES = 2
"""A chunk larger than this many message limits ends the connection."""

_LIMITS = {
    replies.TOO_LARGE: "lmtp.message_max_bytes",
    replies.NO_MEMORY_NOW: "lmtp.data_total_max_bytes",
    replies.TOO_MANY_RECIPIENTS: "lmtp.recipients_max",
    replies.LINE_TOO_LONG: "lmtp.line_max_bytes",
}
"""Replies that a limit is behind, with the setting."""


@dataclass(frozen=True, slots=True)
class EnvelopeServices:
    """What all connections of a worker share that speak the same protocol.

    ``tls`` is the context for STARTTLS, None when there is no certificate. ``now`` gives epoch seconds.
    ``onward`` brings mail to other nodes; None where that is not to be. ``logins`` checks who peers are
    (AUTH), where the dialect has that.
    """

    dialect: Dialect
    store: DeliveryStore
    limits: EnvelopeLimits
    hostname: bytes
    budget: MemoryBudget
    access_log: AccessLog
    tls: Any
    now: Callable[[], float]
    onward: Onward | None = None
    logins: Logins | None = None


@dataclass(frozen=True, slots=True)
class _Incoming:
    """Octets on their way: the message, a chunk of it, or octets to throw away (``refusal``)."""

    last: bool
    refusal: Reply | None = None


class EnvelopeSession:
    """See the module's docstring."""

    def __init__(self, channel: Channel, services: EnvelopeServices, secure: bool) -> None:
        self._channel = channel
        self._services = services
        self._dialect = services.dialect
        self._limits = services.limits
        self._secure = secure
        self._address = channel.address
        """The client's, which may not be the peer's (XCLIENT)."""
        self._connection = heard.Connection(services.limits)
        self._greeting: ask.Greeting | None = None
        self._transaction: Transaction | None = None
        self._incoming: _Incoming | None = None
        self._authentication = self._nobody()
        self._output = Output()
        self._errors = 0
        self._began_s = services.now()
        self._over = False
        self._ending = False

    def end(self, reason: bytes) -> None:
        """Say 421 and close as soon as the running command is done; ``reason`` is not repeated."""
        self._ending = True
        self._channel.wake()

    async def run(self) -> None:
        """Serve the connection until it ends."""
        self._put(self._ready)
        try:
            while not self._over:
                if self._channel.turn_is_over:
                    await self._output.flush(self._channel)
                    await self._channel.turn()
                await self._step()
        except IdleTimeout:
            self._put(replies.TIMED_OUT)
        finally:
            self._end_transaction()
        await self._output.flush(self._channel)

    async def refuse(self) -> None:
        """Refuse the connection because there are too many."""
        self._put(replies.TOO_MANY_CONNECTIONS)
        await self._output.flush(self._channel)

    async def _step(self) -> None:
        if self._ending:
            self._close(replies.SHUTTING_DOWN)
            return
        event = self._connection.next_event()
        self._began_s = self._services.now()
        match event:
            case None:
                await self._hear()
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
                self._close(self._dialect.foreign)

    async def _hear(self) -> None:
        """Send what there is to say, and wait for the peer, unless the session is to end."""
        await self._output.flush(self._channel)
        if not self._ending:
            data = await self._channel.read(self._limits.idle_timeout_s)
            self._connection.feed(data or b"")

    # -- commands --------------------------------------------------------------------------------

    async def _command(self, line: bytes) -> None:
        request = parse_command(line, self._limits, self._dialect.verbs)
        match request:
            case Reply():
                self._answer(request)
                self._over = self._over or request is replies.BAD_BDAT
            case ask.Greeting():
                self._greet(request)
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
                self._answer(self._dialect.help)
            case ask.StartTls():
                await self._start_tls()
            case ask.Auth() | ask.XClient():
                await self._identify(request)
            case ask.Quit():
                self._close(replies.BYE)
            case _:
                assert_never(request)

    def _greet(self, greeting: ask.Greeting) -> None:
        self._end_transaction()
        self._greeting = greeting
        self._errors = 0
        if not greeting.extended:
            self._put(Reply(250, b"", self._services.hostname))
            return
        lines = [
            self._services.hostname,
            b"PIPELINING",
            b"ENHANCEDSTATUSCODES",
            b"8BITMIME",
            b"SMTPUTF8",
            b"CHUNKING",
            b"SIZE %d" % self._limits.message_max_bytes,
            *self._dialect.capabilities,
        ]
        if self._can_start_tls:
            lines.append(b"STARTTLS")
        if self._services.logins is not None and self._secure:
            lines.append(self._services.logins.capability)
        self._output += b"".join(b"250-%s\r\n" % line for line in lines[:-1])
        self._output += b"250 %s\r\n" % lines[-1]

    def _mail(self, request: ask.Mail) -> Reply:
        if self._greeting is None:
            return self._dialect.greeting_first
        if self._transaction is not None:
            return replies.NESTED_MAIL
        if (request.size_bytes or 0) > self._limits.message_max_bytes:
            return replies.TOO_LARGE
        self._transaction = Transaction(
            request, self._limits, self._services.budget, self._services.onward is not None
        )
        return replies.SENDER_OK

    async def _rcpt(self, address: bytes) -> None:
        if self._transaction is None:
            self._answer(replies.MAIL_FIRST, "RCPT")
            return
        reply = await self._transaction.rcpt(self._services.store, address)
        if reply is replies.BDAT_BEGUN:
            self._answer(reply, "RCPT")
            return
        if reply is not replies.RECIPIENT_OK:
            self._record("RCPT", 0, reply)
        # Unknown recipients are normal, so they do not count as errors of the peer.
        self._put(reply)

    def _data(self) -> None:
        reply = replies.MAIL_FIRST if self._transaction is None else self._transaction.data()
        self._answer(reply, "DATA")
        if reply is replies.SEND_DATA:
            self._incoming = _Incoming(last=True)
            self._connection.expect_data()

    def _bdat(self, request: ask.Bdat) -> None:
        if request.size_bytes > SWALLOWED_MESSAGES * self._limits.message_max_bytes:
            # Staying in step would mean reading and discarding whatever size the peer claims.
            self._close(replies.CHUNK_TOO_LARGE)
            return
        refusal = replies.MAIL_FIRST if self._transaction is None else self._transaction.bdat(request)
        self._incoming = _Incoming(request.last, refusal)
        self._connection.expect_chunk(request.size_bytes)

    async def _data_ended(self, ambiguous: bool) -> None:
        incoming, self._incoming = self._incoming, None
        assert incoming is not None
        if incoming.refusal is not None:
            self._answer(incoming.refusal, "BDAT")
            return
        if ambiguous:
            self._open_transaction.collector.fail(Failure.AMBIGUOUS)
        if not incoming.last:
            self._put(self._open_transaction.chunk_ended())
            return
        await self._deliver(self._open_transaction)
        self._end_transaction()

    async def _deliver(self, transaction: Transaction) -> None:
        services, greeting = self._services, self._greeting
        assert greeting is not None, "MAIL comes after a greeting"
        trace = Trace(
            # The E is for the extensions (RFC 3848).
            spoken=self._dialect.name if greeting.extended else self._dialect.name.removeprefix(b"E"),
            sender=transaction.sender,
            greeting_name=greeting.name,
            address=self._address,
            hostname=services.hostname,
            secure=self._secure,
            smtputf8=transaction.smtputf8,
            transaction_id=secrets.token_hex(8).encode("ascii"),
            received=int(services.now()),
        )

        async def send(reply: Reply) -> None:
            """At once: a message that is safe must not come again because the connection broke later."""
            transaction.note(reply)
            await self._send(reply)

        delivery = Delivery(services.store, transaction, trace, self._limits, services.onward)
        await self._dialect.deliver(delivery, send)

    def _end_transaction(self) -> None:
        """Forget sender, recipients and message; one line in the access log, its bytes the message's."""
        transaction, self._transaction = self._transaction, None
        if transaction is None:
            return
        transaction.close()
        self._record(transaction.command, transaction.collector.received_bytes, transaction.worst)

    def _record(self, command: str, size_bytes: int, reply: Reply) -> None:
        self._services.access_log.record(
            Entry(
                address=self._address,
                user_agent="",
                command=f"{self._dialect.name.decode()} {command}",
                bytes=size_bytes,
                result=str(reply.code),
                failed=not reply.positive and reply is not replies.UNKNOWN_RECIPIENT,
                took_s=max(self._services.now() - self._began_s, 0.0),
                limit=_LIMITS.get(reply, ""),
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
        await self._output.flush(self._channel)
        self._channel.start_tls(self._services.tls)
        self._secure = True
        self._greeting = None

    # -- who the peer is -------------------------------------------------------------------------

    def _nobody(self) -> Authentication | None:
        """Where AUTH begins."""
        logins = self._services.logins
        return None if logins is None else Authentication(logins, self._send, self._response)

    async def _identify(self, request: ask.Auth | ask.XClient) -> None:
        if isinstance(request, ask.XClient):
            self._answer(self._speak_for(request.address), "XCLIENT")
        else:
            await self._authenticate(request)

    async def _authenticate(self, request: ask.Auth) -> None:
        authentication = self._authentication
        if authentication is None:
            reply = replies.NOT_OFFERED
        elif self._greeting is None:
            reply = self._dialect.greeting_first
        elif self._transaction is not None:
            reply = replies.NOT_NOW
        elif not self._secure:
            reply = replies.NEEDS_TLS
        else:
            await self._output.flush(self._channel)
            reply = await authentication.run(request, self._address)
            if reply.code < 500:
                self._record(AUTH, 0, reply)
        self._answer(reply, AUTH)
        if authentication is not None and authentication.is_over and not self._over:
            self._close(replies.TOO_MANY_ERRORS)

    async def _response(self) -> bytes:
        """The line that answers a challenge. Raises Refused."""
        while (event := self._connection.next_event()) is None:
            if self._ending:
                raise Refused(replies.CANNOT_CHECK_NOW)
            await self._hear()
        match event:
            case heard.CommandLine(text):
                return text
            case heard.Unreadable.TOO_LONG:
                raise Refused(replies.AUTH_TOO_LONG)
            case _:
                raise Refused(replies.BAD_RESPONSE)

    def _speak_for(self, address: str) -> Reply:
        """The session begins anew, for a client of the peer's."""
        if self._transaction is not None:
            return replies.NOT_NOW
        self._address, self._greeting, self._authentication = address, None, self._nobody()
        return self._ready

    @property
    def _ready(self) -> Reply:
        return Reply(220, b"", b"%b %b Sealbox ready" % (self._services.hostname, self._dialect.name))

    # -- answering -------------------------------------------------------------------------------

    @property
    def _open_transaction(self) -> Transaction:
        assert self._transaction is not None
        return self._transaction

    def _put(self, reply: Reply) -> None:
        self._output += reply.wire

    async def _send(self, reply: Reply) -> None:
        self._put(reply)
        await self._output.flush(self._channel)

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
