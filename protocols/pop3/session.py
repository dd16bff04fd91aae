"""One POP3 session (RFC 1939): receive a line, ask the table, run the command, answer.

Messages marked for deletion are removed at QUIT and nowhere else, in one transaction. A session that
ends in any other way removes nothing, and says nothing either (RFC 1939 section 3).

Decisions: a maildrop may be open in several sessions at once, so [IN-USE] only says that it is
being restored. UTF8 mode (RFC 6856) changes nothing on the wire: messages always go out as they are stored.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from twisted.internet.defer import CancelledError

from mailstore.errors import StoreError
from protocols.access_log import Entry
from protocols.errors import Meaning, meaning_of
from protocols.lines import Line, LineBuffer, LongLine
from protocols.pop3 import requests as ask
from protocols.pop3.authorization import Authorization
from protocols.pop3.commands import (
    Malformed,
    State,
    capabilities,
    find_command,
    is_foreign,
    parse_arguments,
)
from protocols.pop3.context import EVERYDAY_CODES, Hangup, Pop3Services, Refusal, Refused, log, refusal_of
from protocols.pop3.maildrop import NoSuchNumber
from protocols.pop3.retrieval import Sender
from protocols.pop3.transaction import Transaction
from protocols.redact import correlation_id, incident
from protocols.transport import Channel, IdleTimeout

_TLS_HANDSHAKE = b"\x16\x03"


class Pop3Session:
    """See the module's docstring. ``secure`` tells that TLS is there from the start."""

    def __init__(self, channel: Channel, services: Pop3Services, secure: bool) -> None:
        self._channel = channel
        self._services = services
        self._limits = services.limits
        self._sender = Sender(channel, services.limits)
        self._lines = LineBuffer()
        self._state = State.AUTHORIZATION if secure else State.PLAINTEXT
        self._authorization = Authorization(channel, services, self._sender, self._next_response)
        self._transaction: Transaction | None = None
        self._bad_in_row = 0
        self._began_s = 0.0
        self._over = False
        self._farewell: Refusal | None = None
        self._after_answer: Callable[[], None] | None = None
        self._deadline_s = services.clock.seconds() + services.limits.login_timeout_s

    def end(self, reason: bytes) -> None:
        """End the session without a reply as soon as the running command is done."""
        self._over = True
        self._channel.wake()

    @property
    def account_id(self) -> str | None:
        """See ``AccountSession``."""
        return None if self._transaction is None else self._transaction.account.account_id

    def disconnect(self, reason: bytes) -> None:
        """See ``AccountSession``. The client takes the line for the answer to its next command."""
        self._farewell = Refusal(reason, b"SYS/TEMP")
        self.end(reason)

    async def run(self) -> None:
        """The whole session; returns when the connection is to be closed."""
        try:
            self._sender.put(b"+OK Sealbox ready\r\n")
            while not self._over:
                if self._channel.turn_is_over:
                    await self._sender.flush()
                    await self._channel.turn()
                await self._step()
            if self._farewell is not None:
                self._sender.put(self._farewell.wire)
            await self._sender.flush()
        except (Hangup, IdleTimeout):
            return
        finally:
            self._release()

    async def refuse(self) -> None:
        """Refuse the connection because there are too many."""
        self._sender.put(b"-ERR [SYS/TEMP] too many connections, try again later\r\n")
        await self._sender.flush()

    def _release(self) -> None:
        if self._transaction is not None:
            self._transaction.release()

    # -- receiving -------------------------------------------------------------------------------

    async def _step(self) -> None:
        """Return the next line or wait for it; answers are sent when no further input is buffered."""
        event = self._lines.next_line(self._line_max())
        if event is None:
            if self._lines.startswith(_TLS_HANDSHAKE):
                self._foreign()
                return
            await self._sender.flush()
            if not self._over:
                await self._read()
            return
        self._sender.sent_bytes = 0
        self._began_s = self._services.clock.seconds()
        if is_foreign(event.text if isinstance(event, Line) else event.beginning):
            self._foreign()
        elif isinstance(event, LongLine):
            self._refuse(b"", Refusal(b"line too long"), "pop3.line_max_bytes")
        else:
            await self._command(event.text)

    def _line_max(self) -> int:
        limits = self._limits
        return limits.sasl_line_max_bytes if self._state is State.AUTHORIZATION else limits.line_max_bytes

    async def _read(self) -> None:
        """Wait for input. Raises IdleTimeout.

        After login: no input for too long. Before: a deadline, which neither trickling octets nor a flood
        of commands move.
        """
        timeout_s = self._limits.idle_timeout_s
        if self._state is not State.TRANSACTION:
            timeout_s = self._deadline_s - self._services.clock.seconds()
            if timeout_s <= 0:
                raise IdleTimeout
        self._lines.feed(await self._channel.read(timeout_s) or b"")

    def _foreign(self) -> None:
        self._sender.put(b"-ERR this is a POP3 server\r\n")
        self._over = True

    # -- one command -----------------------------------------------------------------------------

    async def _command(self, line: bytes) -> None:
        spec = find_command(line)
        if spec is None:
            self._refuse(b"", Refusal(b"unknown command"))
            return
        if self._state not in spec.states:
            self._refuse(spec.name, self._why_not(spec.states))
            return
        try:
            request = parse_arguments(spec, line, self._limits)
        except Malformed as error:
            self._refuse(spec.name, Refusal(str(error).encode("ascii")))
            return
        self._bad_in_row = 0
        outcome = await self._outcome(spec.name, request)
        if isinstance(outcome, bytes):
            self._sender.put(b"+OK %s\r\n" % outcome)
        elif isinstance(outcome, Refusal):
            self._sender.put(outcome.wire)
        refusal = outcome if isinstance(outcome, Refusal) else None
        failed = refusal is not None and refusal.code not in EVERYDAY_CODES
        self._record(spec.name, refusal, failed=failed)
        after, self._after_answer = self._after_answer, None
        if after is not None:
            await self._sender.flush()
            after()

    def _why_not(self, states: frozenset[State]) -> Refusal:
        if self._state is State.PLAINTEXT:
            return Refusal(b"use STLS first")
        return Refusal(b"log in first" if State.TRANSACTION in states else b"not possible any more")

    def _refuse(self, name: bytes, refusal: Refusal, limit: str = "") -> None:
        """A refusal of what is no command here; too many in a row end the connection."""
        self._sender.put(refusal.wire)
        self._record(name, refusal, failed=True, limit=limit)
        self._bad_in_row += 1
        limits = self._limits
        logged_in = self._state is State.TRANSACTION
        if self._bad_in_row >= (
            limits.bad_commands_max if logged_in else limits.bad_commands_before_login_max
        ):
            self._over = True

    async def _outcome(self, name: bytes, request: ask.Request) -> bytes | Refusal | None:
        """The text behind +OK, or the refusal; None when the response was put out already."""
        try:
            return await self._handle(request)
        except (CancelledError, Hangup, IdleTimeout):
            raise
        except Refused as refused:
            return refused.refusal
        except NoSuchNumber:
            return Refusal(b"no such message")
        except Exception as error:  # noqa: BLE001 - a bug in one command must not end the server's other work
            return self._failure(name, error)

    def _failure(self, name: bytes, error: Exception) -> Refusal:
        """The answer to a failure. Raises Hangup inside a multi-line response."""
        known = error if isinstance(error, StoreError) else StoreError()
        match meaning_of(known):
            case Meaning.FAULT | Meaning.OPERATOR:
                account = self._transaction.account if self._transaction is not None else None
                log.error("%s", incident(name, correlation_id(), account, error))
            case Meaning.ENDED:
                self._over = True
        if self._sender.in_response:
            raise Hangup from None
        return refusal_of(known)

    def _record(self, name: bytes, refusal: Refusal | None, *, failed: bool, limit: str = "") -> None:
        result = "+OK" if refusal is None else f"-ERR {refusal.code.decode('ascii')}".rstrip()
        self._services.access_log.record(
            Entry(
                address=self._channel.address,
                user_agent="",
                command="POP3 " + (name.decode("ascii") or "?"),
                bytes=self._sender.sent_bytes,
                result=result,
                failed=failed,
                took_s=max(self._services.clock.seconds() - self._began_s, 0.0),
                limit=limit,
            )
        )

    async def _handle(self, request: ask.Request) -> bytes | None:
        match request:
            case ask.Capa():
                await self._capabilities()
                return None
            case ask.Stls():
                return self._start_tls()
            case ask.Utf8():
                return b"UTF8"
            case ask.Lang(tag):
                return self._language(tag)
            case ask.User(name):
                self._authorization.user(name)
                return b"send PASS"
            case ask.Mechanisms():
                self._sender.lines(b"+OK mechanisms\r\n", self._authorization.mechanisms())
                return None
            case ask.Pass(secret):
                return await self._enter(self._authorization.password(secret))
            case ask.Auth():
                return await self._enter(self._authorization.sasl(request))
            case ask.Quit():
                return await self._quit()
            case _:
                assert self._transaction is not None
                return await self._transaction.handle(request)

    async def _capabilities(self) -> None:
        services, transaction = self._services, self._transaction
        if transaction is None:
            delay_s = await services.largest_login_delay_s()
        else:
            delay_s = services.login_delay_s(transaction.account)
        mechanisms = self._authorization.mechanisms()
        lines = capabilities(self._state, services.tls is not None, mechanisms, delay_s)
        self._sender.lines(b"+OK capabilities\r\n", lines)

    def _language(self, tag: bytes | None) -> bytes | None:
        """LANG (RFC 6856 section 3): all texts are English."""
        if tag is None:
            self._sender.lines(b"+OK languages\r\n", (b"en English",))
            return None
        if tag not in (b"*", b"i-default") and tag.partition(b"-")[0] != b"en":
            raise Refused(b"no such language")
        return b"en English selected"

    async def _quit(self) -> bytes:
        """QUIT: the UPDATE state (RFC 1939 section 6). The connection ends in any case."""
        self._over = True
        if self._transaction is not None:
            try:
                await self._transaction.update()
            except StoreError as error:
                self._failure(b"QUIT", error)
                raise Refused(b"no message was removed", b"SYS/TEMP") from None
        return b"goodbye"

    # -- TLS and login ---------------------------------------------------------------------------

    def _start_tls(self) -> bytes:
        """STLS: nothing from before the handshake survives (RFC 2595 section 4)."""
        if self._state is not State.PLAINTEXT:
            raise Refused(b"TLS is active already")
        if self._services.tls is None:
            raise Refused(b"TLS is not available")

        def begin() -> None:
            self._lines.take_rest()
            self._channel.start_tls(self._services.tls)
            self._state = State.AUTHORIZATION

        self._after_answer = begin
        return b"begin TLS now"

    async def _next_response(self) -> bytes:
        """The client's SASL response. Raises Refused when it is too long, Hangup when the session is over."""
        await self._sender.flush()
        while True:
            event = self._lines.next_line(self._limits.sasl_line_max_bytes)
            if isinstance(event, Line):
                return event.text
            if event is not None:
                raise Refused(b"SASL response too long")
            if self._over:
                raise Hangup
            await self._read()

    async def _enter(self, login: Coroutine[Any, Any, Transaction]) -> bytes:
        """The TRANSACTION state, once ``login`` has opened the maildrop."""
        try:
            transaction = await login
        finally:
            self._over = self._over or self._authorization.is_over
        self._transaction = transaction
        self._state = State.TRANSACTION
        transaction.account.on_closed(lambda: self.end(b""))
        return b"%d messages" % transaction.count
