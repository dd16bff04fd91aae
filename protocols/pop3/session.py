"""One POP3 session (RFC 1939): receive a line, ask the table, run the command, answer.

Messages marked for deletion are removed at QUIT and nowhere else, in one transaction. A session that
ends in any other way removes nothing, and says nothing either (RFC 1939 section 3).

Decisions: a maildrop may be open in several sessions at once, so [IN-USE] only says that it is
being restored. UTF8 mode (RFC 6856) changes nothing on the wire: messages always go out as they are stored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import assert_never, cast

from twisted.internet.defer import CancelledError

from mailstore.errors import AuthenticationFailed, StoreError
from mailstore.model import INBOX, UidValidity
from protocols.access_log import Entry
from protocols.errors import Meaning, meaning_of
from protocols.lines import Line, LineBuffer, LongLine
from protocols.pop3 import requests as ask
from protocols.pop3.commands import (
    Malformed,
    State,
    capabilities,
    find_command,
    is_foreign,
    parse_arguments,
)
from protocols.pop3.context import Hangup, MaildropApi, Pop3Services, Refusal, Refused, log, refusal_of
from protocols.pop3.maildrop import Maildrop, NoSuchNumber
from protocols.pop3.requests import MaildropRequest
from protocols.pop3.retrieval import Sender
from protocols.pop3.top import TopCutter
from protocols.redact import correlation_id, describe
from protocols.sasl import Credentials, PlainExchange, SaslError, decode_response, encode_challenge
from protocols.store_api import AccountApi
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
        self._user: bytes | None = None
        self._account: AccountApi | None = None
        self._mailbox: MaildropApi | None = None
        self._drop = Maildrop(UidValidity(0), ())
        self._bad_in_row = 0
        self._failed_logins = 0
        self._over = False
        self._after_answer: Callable[[], None] | None = None
        self._deadline_s = services.clock.seconds() + services.limits.login_timeout_s

    def end(self, reason: bytes) -> None:
        """End the session, without a word, as soon as the running command is done."""
        self._over = True
        self._channel.wake()

    async def run(self) -> None:
        """The whole session; returns when the connection is to be closed."""
        try:
            self._sender.put(b"+OK Sealbox ready\r\n")
            while not self._over:
                if self._channel.turn_is_over:
                    await self._sender.flush()
                    await self._channel.turn()
                await self._step()
            await self._sender.flush()
        except (Hangup, IdleTimeout):
            return
        finally:
            self._release()

    async def refuse(self) -> None:
        """Turn the connection away because there are too many."""
        self._sender.put(b"-ERR [SYS/TEMP] too many connections, try again later\r\n")
        await self._sender.flush()

    def _release(self) -> None:
        if self._mailbox is not None:
            self._mailbox.close()
        if self._account is not None:
            self._account.release()

    # -- receiving -------------------------------------------------------------------------------

    async def _step(self) -> None:
        """Take the next line or wait for it; what is answered goes out when nothing more is there."""
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
        if is_foreign(event.text if isinstance(event, Line) else event.beginning):
            self._foreign()
        elif isinstance(event, LongLine):
            self._refuse(b"", Refusal(b"line too long"))
        else:
            await self._command(event.text)

    def _line_max(self) -> int:
        limits = self._limits
        return limits.sasl_line_max_bytes if self._state is State.AUTHORIZATION else limits.line_max_bytes

    async def _read(self) -> None:
        """Wait for input. Raises IdleTimeout.

        Once logged in: without input for too long. Before: a deadline, which neither trickling octets
        nor a flood of commands move.
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
        # A refusal without a code (RFC 2449 section 8) says what the client can know itself.
        self._record(spec.name, refusal, failed=refusal is not None and bool(refusal.code))
        after, self._after_answer = self._after_answer, None
        if after is not None:
            await self._sender.flush()
            after()

    def _why_not(self, states: frozenset[State]) -> Refusal:
        if self._state is State.PLAINTEXT:
            return Refusal(b"use STLS first")
        return Refusal(b"log in first" if State.TRANSACTION in states else b"not possible any more")

    def _refuse(self, name: bytes, refusal: Refusal) -> None:
        """A refusal of what is no command here; too many in a row end the connection."""
        self._sender.put(refusal.wire)
        self._record(name, refusal, failed=True)
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
        """What is said when the store or we failed. Raises Hangup inside of a multi-line response."""
        known = error if isinstance(error, StoreError) else StoreError()
        match meaning_of(known):
            case Meaning.FAULT | Meaning.OPERATOR:
                log.error("%s failed, id %s: %s", name.decode("ascii"), correlation_id(), describe(error))
            case Meaning.ENDED:
                self._over = True
        if self._sender.in_response:
            raise Hangup from None
        return refusal_of(known)

    def _record(self, name: bytes, refusal: Refusal | None, *, failed: bool) -> None:
        result = "+OK" if refusal is None else f"-ERR {refusal.code.decode('ascii')}".rstrip()
        self._services.access_log.record(
            Entry(
                address=self._channel.address,
                user_agent="",
                command="POP3 " + (name.decode("ascii") or "?"),
                bytes=self._sender.sent_bytes,
                result=result,
                failed=failed,
            )
        )

    async def _handle(self, request: ask.Request) -> bytes | None:
        match request:
            case ask.Capa():
                lines = capabilities(self._state, self._services.tls is not None)
                await self._listing(b"capabilities", (b"%s\r\n" % line for line in lines))
                return None
            case ask.Stls():
                return self._start_tls()
            case ask.Utf8():
                return b"UTF8"
            case ask.Lang(tag):
                return await self._language(tag)
            case ask.User(name):
                self._user = name
                return b"send PASS"
            case ask.Pass(secret):
                user, self._user = self._user, None
                if user is None:
                    raise Refused(b"USER first")
                return await self._log_in(Credentials(user, secret))
            case ask.Auth():
                return await self._authenticate(request)
            case ask.Quit():
                return await self._quit()
            case _:
                assert self._mailbox is not None
                return await self._handle_maildrop(request, self._mailbox)

    async def _handle_maildrop(self, request: MaildropRequest, mailbox: MaildropApi) -> bytes | None:
        drop = self._drop
        match request:
            case ask.Stat():
                return b"%d %d" % (drop.count, drop.size_bytes)
            case ask.Scan(number) | ask.Uidl(number):
                return await self._about(request, number)
            case ask.Retr(number):
                entry = drop.entry(number)
                await self._sender.message(mailbox, entry, b"+OK %d octets\r\n" % entry.size_bytes, None)
                return None
            case ask.Top(number, lines):
                await self._sender.message(mailbox, drop.entry(number), b"+OK\r\n", TopCutter(lines))
                return None
            case ask.Dele(number):
                if mailbox.opened.read_only:
                    raise Refused(b"only reading is allowed")
                drop.delete(number)
                return b"marked for deletion"
            case ask.Rset():
                drop.reset()
                return b"%d messages" % drop.count
            case ask.Noop():
                return b"done"
            case _:
                assert_never(request)

    async def _about(self, request: ask.Scan | ask.Uidl, number: int | None) -> bytes | None:
        """LIST and UIDL, of one message or of all."""
        drop = self._drop
        sizes = isinstance(request, ask.Scan)
        if number is None:
            lines = drop.scan_lines() if sizes else drop.unique_id_lines()
            await self._listing(b"%d messages" % drop.count, lines)
            return None
        entry = drop.entry(number)
        return b"%d %s" % (number, b"%d" % entry.size_bytes if sizes else drop.unique_id(entry))

    async def _listing(self, text: bytes, lines: Iterator[bytes]) -> None:
        await self._sender.lines(b"+OK %s\r\n" % text, lines)

    async def _language(self, tag: bytes | None) -> bytes | None:
        """LANG (RFC 6856 section 3): all texts are English."""
        if tag is None:
            await self._listing(b"languages", iter((b"en English\r\n",)))
            return None
        if tag not in (b"*", b"i-default") and tag.partition(b"-")[0] != b"en":
            raise Refused(b"no such language")
        return b"en English it is"

    async def _quit(self) -> bytes:
        """QUIT: the UPDATE state (RFC 1939 section 6). The connection ends whatever comes of it."""
        self._over = True
        marked = self._drop.deleted
        if marked and self._mailbox is not None:
            try:
                await self._mailbox.remove(marked)
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

    async def _authenticate(self, request: ask.Auth) -> bytes:
        """AUTH PLAIN with or without initial response; the client may abort with ``*`` (RFC 5034)."""
        if request.mechanism != b"PLAIN":
            raise Refused(b"mechanism not supported")
        exchange = PlainExchange()
        try:
            response = request.initial
            if response is None:
                self._sender.put(b"+ %s\r\n" % encode_challenge(exchange.challenge()))
                response = await self._next_response()
                if response == b"*":
                    raise Refused(b"authentication aborted")
            credentials = exchange.respond(decode_response(response))
        except SaslError as error:
            self._count_failure()
            raise Refused(str(error).encode("ascii")) from None
        assert credentials is not None  # PLAIN has one step
        return await self._log_in(credentials)

    async def _next_response(self) -> bytes:
        """The client's SASL response. Raises Refused when it is too long or the session is to end."""
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

    def _count_failure(self) -> None:
        self._failed_logins += 1
        if self._failed_logins >= self._services.login.limits.attempts_per_connection_max:
            self._over = True

    async def _log_in(self, credentials: Credentials) -> bytes:
        """Open the account and the maildrop, as it is now."""
        try:
            account = await self._services.login.login(
                self._channel.address, credentials.name, credentials.secret, "pop3"
            )
        except AuthenticationFailed:
            self._count_failure()
            raise
        try:
            # The shared interface leaves out what only POP3 needs; the store's mailboxes have it.
            mailbox = cast(MaildropApi, await account.select(INBOX, read_only=False))
            entries = await mailbox.maildrop()
        except BaseException:
            account.release()
            raise
        self._account, self._mailbox = account, mailbox
        self._drop = Maildrop(mailbox.opened.status.uid_validity, entries)
        self._state = State.TRANSACTION
        account.on_closed(lambda: self.end(b""))
        return b"%d messages" % self._drop.count
