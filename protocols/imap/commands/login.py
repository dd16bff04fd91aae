"""Handlers for any state and for logging in (RFC 3501 sections 6.1 and 6.2, RFCs 2971, 4978)."""

from __future__ import annotations

from functools import partial

from mailstore.errors import AuthenticationFailed
from mailstore.model import AccessProtocol
from protocols.access_log import user_agent
from protocols.imap.commands import scram
from protocols.imap.commands.entering import ask_client, capability_text, enter, failed, rejected
from protocols.imap.commands.shedding import can_wait
from protocols.imap.compress import CompressedChannel
from protocols.imap.context import Answer, Context
from protocols.imap.grammar.refusal import Disallowed
from protocols.imap.grammar.session import (
    Authenticate,
    Capability,
    Check,
    Compress,
    Identify,
    Login,
    Logout,
    Noop,
    StartTls,
)
from protocols.imap.grammar.table import State
from protocols.imap.output import Output
from protocols.imap.responses import lines
from protocols.load import is_high
from protocols.sasl import MECHANISMS, Credentials, SaslError, read_credentials
from protocols.scram import SCRAM, SCRAM_PLUS


async def capability(ctx: Context, request: Capability) -> Answer:
    """CAPABILITY."""
    ctx.output.put(lines.untagged(capability_text(ctx)))
    return Answer(b"done")


async def noop(ctx: Context, request: Noop | Check) -> Answer:
    """NOOP and CHECK: tell what changed."""
    if ctx.selected is not None:
        view = ctx.selected.view
        view.apply(await ctx.selected.mailbox.sync(view.modseq))
    return Answer(b"done")


async def logout(ctx: Context, request: Logout) -> Answer:
    """LOGOUT: BYE precedes the tagged OK (section 6.1.3); nothing else is sent."""
    ctx.stop_watching()
    ctx.leave_mailbox()
    ctx.output.put(lines.untagged(b"BYE logging out"))
    ctx.after_answer = lambda: ctx.end(b"")
    return Answer(b"done")


async def start_tls(ctx: Context, request: StartTls) -> Answer:
    """STARTTLS: nothing from before the handshake survives (section 6.2.1, RFC 3207 section 4.2)."""
    if ctx.services.tls is None:
        raise Disallowed(b"TLS is not available", b"UNAVAILABLE")

    ctx.after_answer = partial(_begin_tls, ctx)
    return Answer(b"begin TLS now")


def _begin_tls(ctx: Context) -> None:
    ctx.connection = ctx.new_connection()
    ctx.user_agent = ""
    ctx.channel.start_tls(ctx.services.tls)
    ctx.state = State.NOT_AUTHENTICATED


async def login(ctx: Context, request: Login) -> Answer:
    """LOGIN."""
    return await _log_in(ctx, Credentials(request.name, request.secret))


async def authenticate(ctx: Context, request: Authenticate) -> Answer:
    """AUTHENTICATE with or without initial response; the client may abort with ``*`` (section 6.2.2)."""
    if request.mechanism in (SCRAM, SCRAM_PLUS):
        return await scram.authenticate(ctx, request)
    mechanism = MECHANISMS.get(request.mechanism)
    if mechanism is None:
        raise Disallowed(b"mechanism not supported", b"CANNOT")
    try:
        credentials = await read_credentials(mechanism(), request.initial, partial(ask_client, ctx))
    except SaslError as error:
        raise rejected(ctx, error) from None
    return await _log_in(ctx, credentials)


async def _log_in(ctx: Context, credentials: Credentials) -> Answer:
    try:
        account = await ctx.services.login.login(
            ctx.address, credentials.name, credentials.secret, AccessProtocol.IMAP
        )
    except AuthenticationFailed:
        failed(ctx)
        raise
    return enter(ctx, account)


async def identify(ctx: Context, request: Identify) -> Answer:
    """ID (RFC 2971): our name and no version; the client's name is for the access log.

    Background clients are refused while the worker is loaded (see ``shedding``).
    """
    if request.fields is not None:
        ctx.user_agent = user_agent(request.fields, ctx.services.log_limits)
        if can_wait(request.fields) and is_high(ctx.services.load(), ctx.services.load_limits):
            raise Disallowed(b"server busy, try again later", b"UNAVAILABLE")
    ctx.output.put(lines.untagged(b'ID ("name" "Sealbox")'))
    return Answer(b"done")


async def compress(ctx: Context, request: Compress) -> Answer:
    """COMPRESS (RFC 4978): everything after this command and its answer is deflated."""
    if request.mechanism != b"DEFLATE":
        raise Disallowed(b"mechanism not supported", b"CANNOT")
    if ctx.compressed:
        raise Disallowed(b"compression is active already", b"COMPRESSIONACTIVE")

    ctx.after_answer = partial(_begin_compression, ctx)
    return Answer(b"DEFLATE active")


def _begin_compression(ctx: Context) -> None:
    early = ctx.connection.take_rest()
    ctx.channel = CompressedChannel(ctx.channel, ctx.limits.inflate_chunk_bytes, early)
    ctx.output = Output(ctx.channel, ctx.limits.write_chunk_bytes)
    ctx.compressed = True
