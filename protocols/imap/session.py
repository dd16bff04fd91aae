"""One IMAP session: receive a command, ask the table, run its handler, answer, tell what is pending."""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

from twisted.internet.defer import CancelledError

from mailstore.errors import AccountClosed, StoreError
from protocols.access_log import Entry
from protocols.imap.commands.append import require_mailbox
from protocols.imap.commands.entering import capability_text
from protocols.imap.commands.handlers import HANDLERS
from protocols.imap.commands.news import tell_between_commands, tell_news
from protocols.imap.compress import BrokenStream
from protocols.imap.connection import (
    CommandReceived,
    ContinuationNeeded,
    Event,
    Excess,
    Fatal,
    LineReceived,
    LineTooLong,
    LiteralRefused,
    Piece,
)
from protocols.imap.context import Answer, Context, Hangup, ImapServices, Moment, Unanswered, log
from protocols.imap.grammar.cursor import Cursor
from protocols.imap.grammar.refusal import Disallowed, Malformed, Refused
from protocols.imap.grammar.table import COMMANDS, CommandSpec, Parsed, State, Unparsed, begun, parse_command
from protocols.imap.picture.view import uid_required
from protocols.imap.progress import progress_reports
from protocols.imap.responses import lines
from protocols.imap.responses.failures import incident_of, refusal_of
from protocols.imap.telling import tell_pending
from protocols.redact import correlation_id, incident
from protocols.transport import Channel, IdleTimeout

_TROUBLE = {
    b"AUTHENTICATIONFAILED",
    b"PRIVACYREQUIRED",
    b"UNAVAILABLE",
    b"INUSE",
    b"SERVERBUG",
    b"CONTACTADMIN",
    b"OVERQUOTA",
    b"LIMIT",
    b"TOOBIG",
}
"""Response codes of a NO that an operator may want to see; all others are normal."""
_EXCESS_CODES = {Excess.SIZE: b"TOOBIG", Excess.MEMORY: b"UNAVAILABLE"}
_EXCESS_LIMITS = {Excess.SIZE: "imap.literal_max_bytes", Excess.MEMORY: "imap.literals_worker_max_bytes"}
_LIMITS = {b"OVERQUOTA": "quota", b"LIMIT": "store", b"TOOBIG": "imap.append_max_bytes"}
"""Which limit a response code speaks of, by the section of the settings where there is more than one."""
_PRIVACY = Disallowed(b"use STARTTLS first", b"PRIVACYREQUIRED")


class ImapSession:
    """See the module's docstring. ``secure`` tells that TLS is there from the start."""

    def __init__(self, channel: Channel, services: ImapServices, secure: bool) -> None:
        self._ctx = Context(channel, services, secure)
        self._bad_in_row = 0
        self._began_s = 0.0
        self._is_welcome = False
        """The command that is being received sends its messages to a mailbox that is there."""

    def end(self, reason: bytes) -> None:
        """End the session with BYE as soon as the running command is done."""
        self._ctx.end(reason)

    @property
    def account_id(self) -> str | None:
        """See ``AccountSession``."""
        return None if self._ctx.account is None else self._ctx.account.account_id

    def disconnect(self, reason: bytes) -> None:
        """See ``AccountSession``."""
        self.end(reason)

    async def run(self) -> None:
        """The whole session; returns when the connection is to be closed."""
        ctx = self._ctx
        try:
            # What can be offered depends on what the handshake brings.
            await ctx.channel.handshake(ctx.patience_s())
            ctx.output.put(lines.tagged(b"*", b"OK", b"Sealbox ready", capability_text(ctx)))
            await ctx.output.flush()
            await self._serve()
            if ctx.goodbye:
                ctx.output.put(lines.untagged(b"BYE " + ctx.goodbye))
            await ctx.output.flush()
        except (Hangup, BrokenStream):
            return
        except IdleTimeout:
            # RFC 3501 section 5.4.
            reason = b"login timed out" if ctx.account is None else b"idle timeout"
            ctx.output.put(lines.untagged(b"BYE " + reason))
            await ctx.output.flush()
        finally:
            ctx.release()

    async def _serve(self) -> None:
        ctx = self._ctx
        while ctx.goodbye is None:
            await ctx.give_way()
            event = ctx.connection.next_event()
            if event is not None:
                await self._handle(event)
                continue
            if await tell_between_commands(ctx):
                continue
            data = await ctx.channel.read(ctx.patience_s())
            if data is not None:
                ctx.connection.feed(data)

    async def _handle(self, event: Event) -> None:
        ctx = self._ctx
        ctx.output.sent_bytes = 0
        self._began_s = ctx.services.clock.seconds()
        match event:
            case CommandReceived():
                await self._command(event)
            case ContinuationNeeded(pieces):
                await self._ask_for_literal(pieces)
            case LiteralRefused(tag, excess, pieces):
                unwelcome = await self._unwelcome(pieces)
                refusal: Refused = Disallowed(excess.value.encode("ascii"), _EXCESS_CODES[excess])
                if unwelcome is not None:
                    _, refusal = unwelcome
                counts, limit = unwelcome is None and excess is Excess.SIZE, _EXCESS_LIMITS[excess]
                self._refuse(tag, b"", refusal, counts=counts, limit=limit)
            case LineTooLong(tag):
                self._refuse(tag, b"", Malformed(b"line too long"), counts=True, limit="imap.line_max_bytes")
            case Fatal(reason):
                ctx.end(reason.value.encode("ascii"))
            case LineReceived():
                raise AssertionError("lines come only when they are asked for")
            case _:
                assert_never(event)
        if not isinstance(event, ContinuationNeeded):
            self._is_welcome = False
            ctx.literals.release()
        await ctx.output.flush()

    async def _ask_for_literal(self, pieces: Sequence[Piece]) -> None:
        """Have the client send it, or refuse the command before it does (RFC 3501 section 7.5)."""
        unwelcome = await self._unwelcome(pieces)
        if unwelcome is None:
            self._ctx.output.put(b"+ go ahead\r\n")
        else:
            spec, refusal = unwelcome
            self._refuse(self._ctx.connection.abandon(), spec.name, refusal, counts=False)
            self._ctx.literals.release()

    async def _unwelcome(self, pieces: Sequence[Piece]) -> tuple[CommandSpec, Refused] | None:
        """A command that is refused before its messages are sent, and why; checked once per command."""
        ctx = self._ctx
        if self._is_welcome or ctx.account is None:
            return None
        cursor = Cursor(pieces, ctx.limits, ctx.utf8_accept, ctx.rev2)
        spec = begun(cursor)
        if spec is None or spec.destination is None:
            return None
        try:
            mailbox = spec.destination(cursor)
            if mailbox is not None:
                await require_mailbox(ctx, mailbox)
                self._is_welcome = True
        except Refused as refusal:
            return spec, refusal
        return None

    async def _command(self, event: CommandReceived) -> None:
        ctx = self._ctx
        parsed = parse_command(event, ctx.limits, ctx.utf8_accept, ctx.rev2)
        if isinstance(parsed, Unparsed):
            refusal = parsed.refusal
            if refusal.status == b"NO":
                refusal = self._illegal(COMMANDS[parsed.name]) or refusal
            self._refuse(parsed.tag, parsed.name, refusal, counts=refusal.status == b"BAD")
            return
        illegal = self._illegal(parsed.spec)
        if illegal is not None:
            self._refuse(parsed.tag, parsed.spec.name, illegal, counts=True)
            return
        self._bad_in_row = 0
        ctx.tag, ctx.respelled = parsed.tag, parsed.respelled
        try:
            answer = await self._run_handler(parsed)
        except Refused as refusal:
            answer = Answer(refusal.text, refusal.code, refusal.status)
        except Unanswered:
            self._record(parsed.spec.name, b"BYE", b"")
            return
        # A refused command has sent nothing pending yet, and sending may have brought up more.
        tell_pending(ctx, Moment.during(parsed.spec))
        await self._answer(parsed.tag, parsed.spec.name, answer)

    def _illegal(self, spec: CommandSpec) -> Refused | None:
        state = self._ctx.state
        if state in spec.states:
            return uid_required() if spec.uses_seqs and self._ctx.uid_only else None
        if state is State.PLAINTEXT and State.NOT_AUTHENTICATED in spec.states:
            return _PRIVACY
        return Malformed(b"command not possible " + state.value.encode("ascii"))

    async def _run_handler(self, parsed: Parsed) -> Answer:
        """Run the handler; any failure becomes a refusal, unless the connection is to end."""
        try:
            with progress_reports(self._ctx, parsed):
                answer = await HANDLERS[type(parsed.request)](self._ctx, parsed.request)
                await tell_news(self._ctx, Moment.during(parsed.spec))
                return answer
        except (CancelledError, Refused, Hangup, Unanswered, IdleTimeout, BrokenStream):
            raise
        except AccountClosed as error:
            self._ctx.end(b"this session has been ended, please log in again")
            raise refusal_of(error) from None
        except Exception as error:  # noqa: BLE001 - a bug in one command must not end the server's other work
            raise self._failure(parsed.spec.name, error) from None

    def _failure(self, name: bytes, error: Exception) -> Refused:
        """The answer to an error of the store or a bug; what an operator has to see is logged."""
        incident_id = correlation_id()
        refusal = incident_of(error, incident_id)
        if refusal is None:
            assert isinstance(error, StoreError), "everything else is an incident"
            return refusal_of(error)
        log.error("%s", incident(name, incident_id, self._ctx.account, error))
        return refusal

    def _refuse(self, tag: bytes, name: bytes, refusal: Refused, counts: bool, limit: str = "") -> None:
        """A refusal that no handler has seen; too many in a row end the connection."""
        ctx = self._ctx
        ctx.output.put(lines.tagged(tag, refusal.status, refusal.text, refusal.code))
        self._record(name, refusal.status, refusal.code, limit)
        if counts:
            self._bad_in_row += 1
            limits = ctx.limits
            most = limits.bad_commands_max if ctx.account else limits.bad_commands_before_login_max
            if self._bad_in_row >= most:
                ctx.end(b"too many bad commands")

    async def _answer(self, tag: bytes, name: bytes, answer: Answer) -> None:
        """The tagged response, then whatever has to follow it at once."""
        ctx = self._ctx
        ctx.output.put(lines.tagged(tag, answer.status, answer.text, answer.code))
        self._record(name, answer.status, answer.code)
        after, ctx.after_answer = ctx.after_answer, None
        if after is not None:
            await ctx.output.flush()
            after()

    def _record(self, name: bytes, status: bytes, code: bytes, limit: str = "") -> None:
        ctx = self._ctx
        word = code.partition(b" ")[0] if status != b"OK" else b""
        ctx.services.access_log.record(
            Entry(
                address=ctx.address,
                user_agent=ctx.user_agent,
                command="IMAP " + (name.decode("ascii") or "?"),
                bytes=ctx.output.sent_bytes,
                result=b" ".join(filter(None, (status, word))).decode("ascii"),
                failed=status == b"BAD" or word in _TROUBLE,
                took_s=max(ctx.services.clock.seconds() - self._began_s, 0.0),
                limit=limit or _LIMITS.get(word, ""),
            )
        )
