"""Handlers for any state and for logging in (RFC 3501 sections 6.1 and 6.2, RFCs 2971, 4978)."""

from __future__ import annotations

from functools import partial

from mailstore.errors import AuthenticationFailed
from protocols.access_log import user_agent
from protocols.imap import requests as ask
from protocols.imap import responses
from protocols.imap.capabilities import capabilities
from protocols.imap.commands import State
from protocols.imap.compress import CompressedChannel
from protocols.imap.connection import Connection, LineReceived
from protocols.imap.context import Answer, Context
from protocols.imap.output import Output
from protocols.imap.refusal import Disallowed, Malformed
from protocols.sasl import MECHANISMS, Credentials, Exchange, SaslError, decode_response, encode_challenge

_ACCOUNT_CLOSED = b"the account was closed"


def capability_text(ctx: Context) -> bytes:
    """``CAPABILITY ...`` for this state."""
    return b"CAPABILITY " + capabilities(ctx.state, ctx.limits, ctx.compressed)


async def capability(ctx: Context, request: ask.Capability) -> Answer:
    """CAPABILITY."""
    ctx.output.put(responses.untagged(capability_text(ctx)))
    return Answer(b"done")


async def noop(ctx: Context, request: ask.Noop | ask.Check) -> Answer:
    """NOOP and CHECK: tell what changed."""
    if ctx.selected is not None:
        view = ctx.selected.view
        view.apply(await ctx.selected.mailbox.sync(view.modseq))
    return Answer(b"done")


async def logout(ctx: Context, request: ask.Logout) -> Answer:
    """LOGOUT: BYE comes before the tagged OK (section 6.1.3)."""
    ctx.output.put(responses.untagged(b"BYE logging out"))
    ctx.after_answer = lambda: ctx.end(b"")
    return Answer(b"done")


async def start_tls(ctx: Context, request: ask.StartTls) -> Answer:
    """STARTTLS: nothing from before the handshake survives (section 6.2.1, RFC 3207 section 4.2)."""
    if ctx.services.tls is None:
        raise Disallowed(b"TLS is not available", b"UNAVAILABLE")

    ctx.after_answer = partial(_begin_tls, ctx)
    return Answer(b"begin TLS now")


def _begin_tls(ctx: Context) -> None:
    ctx.connection = Connection(ctx.limits)
    ctx.user_agent = ""
    ctx.channel.start_tls(ctx.services.tls)
    ctx.state = State.NOT_AUTHENTICATED


async def login(ctx: Context, request: ask.Login) -> Answer:
    """LOGIN."""
    return await _log_in(ctx, Credentials(request.name, request.secret))


async def authenticate(ctx: Context, request: ask.Authenticate) -> Answer:
    """AUTHENTICATE with or without initial response; the client may abort with ``*`` (section 6.2.2)."""
    mechanism = MECHANISMS.get(request.mechanism)
    if mechanism is None:
        raise Disallowed(b"mechanism not supported", b"CANNOT")
    exchange: Exchange = mechanism()
    try:
        credentials: Credentials | None = None
        if request.initial is not None:
            credentials = exchange.respond(decode_response(request.initial))
        while credentials is None:
            ctx.output.put(b"+ " + encode_challenge(exchange.challenge()) + b"\r\n")
            response = await _next_line(ctx)
            if response == b"*":
                raise Malformed(b"authentication aborted")
            credentials = exchange.respond(decode_response(response))
    except SaslError as error:
        _count_failure(ctx)
        raise Malformed(str(error).encode("ascii")) from None
    return await _log_in(ctx, credentials)


async def _next_line(ctx: Context) -> bytes:
    """The client's next SASL response.

    Raises:
        Refused: the line is too long, or the session is to end.
    """
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


def _count_failure(ctx: Context) -> None:
    ctx.failed_logins += 1
    if ctx.failed_logins >= ctx.services.login.limits.attempts_per_connection_max:
        ctx.after_answer = lambda: ctx.end(b"too many failed logins")


async def _log_in(ctx: Context, credentials: Credentials) -> Answer:
    """Open the account; the capabilities change, so they are sent along (section 6.2.3)."""
    try:
        account = await ctx.services.login.login(ctx.address, credentials.name, credentials.secret, "imap")
    except AuthenticationFailed:
        _count_failure(ctx)
        raise
    ctx.account = account
    ctx.state = State.AUTHENTICATED
    ctx.connection.authenticated = True
    account.on_closed(lambda: ctx.end(_ACCOUNT_CLOSED))
    return Answer(b"logged in", capability_text(ctx))


async def identify(ctx: Context, request: ask.Identify) -> Answer:
    """ID (RFC 2971): our name and no version; the client's name is for the access log."""
    if request.fields is not None:
        ctx.user_agent = user_agent(request.fields, ctx.services.log_limits)
    ctx.output.put(responses.untagged(b'ID ("name" "Sealbox")'))
    return Answer(b"done")


async def compress(ctx: Context, request: ask.Compress) -> Answer:
    """COMPRESS (RFC 4978): everything after this command and its answer is deflated."""
    if request.mechanism != b"DEFLATE":
        raise Disallowed(b"mechanism not supported", b"CANNOT")
    if ctx.compressed:
        raise Disallowed(b"compression is active already", b"COMPRESSIONACTIVE")

    ctx.after_answer = partial(_begin_compression, ctx)
    return Answer(b"deflate from here on")


def _begin_compression(ctx: Context) -> None:
    early = ctx.connection.take_rest()
    ctx.channel = CompressedChannel(ctx.channel, ctx.limits.inflate_chunk_bytes, early)
    ctx.output = Output(ctx.channel, ctx.limits.write_chunk_bytes)
    ctx.compressed = True
