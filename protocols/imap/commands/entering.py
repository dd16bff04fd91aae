"""What all login commands share: reading responses, counting failures, opening the session."""

from __future__ import annotations

from mailstore.errors import AuthenticationFailed
from protocols.imap.connection import LineReceived
from protocols.imap.context import Answer, Context
from protocols.imap.grammar.refusal import Disallowed, Malformed, Refused
from protocols.imap.grammar.table import State
from protocols.imap.responses.capabilities import capabilities
from protocols.sasl import OtherIdentity, SaslError, decode_response, encode_challenge
from protocols.store_api import AccountApi

_SESSION_ENDED = b"this session has been ended, please log in again"


def capability_text(ctx: Context) -> bytes:
    """``CAPABILITY ...`` for this state."""
    can_bind = ctx.channel.channel_binding() is not None
    scram = ctx.services.login.limits.list_scram
    return b"CAPABILITY " + capabilities(ctx.state, ctx.limits, ctx.compressed, scram, can_bind)


async def ask_client(ctx: Context, challenge: bytes) -> bytes:
    """Send a SASL challenge; the client's response, decoded (RFC 3501 section 6.2.2).

    Raises:
        Refused: the line is too long, the client aborts with ``*``, or the session is to end.
        SaslError: the response is not base64.
    """
    ctx.output.put(b"+ " + encode_challenge(challenge) + b"\r\n")
    line = (await _next_line(ctx)).rstrip(b" ")
    if line == b"*":
        raise Malformed(b"authentication aborted")
    return decode_response(line)


async def _next_line(ctx: Context) -> bytes:
    await ctx.output.flush()
    while True:
        event = ctx.connection.next_line()
        if isinstance(event, LineReceived):
            return event.text
        if event is not None:
            raise Malformed(b"SASL response too long")
        data = await ctx.channel.read(ctx.patience_s())
        if data is not None:
            ctx.connection.feed(data)
        elif ctx.goodbye is not None:
            raise Disallowed(b"the session is ending", b"UNAVAILABLE")


def rejected(ctx: Context, error: SaslError) -> Refused:
    """The answer to an invalid SASL response; it counts as a failed login.

    NO is for credentials that are rejected, BAD for what is no response at all (RFC 9051 section 6.2.2).
    """
    _count_failure(ctx)
    text = str(error).encode("ascii")
    if isinstance(error, OtherIdentity):
        return Disallowed(text, b"AUTHENTICATIONFAILED")
    return Malformed(text)


def failed(ctx: Context) -> AuthenticationFailed:
    """The answer to a login that failed, whatever the cause."""
    _count_failure(ctx)
    return AuthenticationFailed("authentication failed")


def _count_failure(ctx: Context) -> None:
    ctx.failed_logins += 1
    if ctx.failed_logins >= ctx.services.login.limits.attempts_per_connection_max:
        ctx.after_answer = lambda: ctx.end(b"too many failed logins")


def enter(ctx: Context, account: AccountApi) -> Answer:
    """The session is the account's; the capabilities change, so they are sent along (section 6.2.3)."""
    ctx.account = account
    ctx.state = State.AUTHENTICATED
    ctx.connection.authenticated = True
    account.on_closed(lambda: ctx.end(_SESSION_ENDED))
    return Answer(b"logged in", capability_text(ctx))
