"""UNAUTHENTICATE (RFC 8437): the connection goes back to the state before login; TLS stays."""

from __future__ import annotations

from functools import partial

from protocols.imap.commands.entering import capability_text
from protocols.imap.compress import CompressedChannel
from protocols.imap.context import Answer, Context
from protocols.imap.grammar.session import Unauthenticate
from protocols.imap.grammar.table import State
from protocols.imap.output import Output


async def unauthenticate(ctx: Context, request: Unauthenticate) -> Answer:
    """UNAUTHENTICATE: nothing is expunged, and nothing of the old user is left in the session.

    The account is closed without LOGOUT's grace period, so its key is forgotten at once unless
    another session holds it. Enabled extensions are disabled (section 4.1). Failed logins still count.
    """
    ctx.leave_mailbox()
    account, ctx.account = ctx.the_account(), None
    account.release_at_once()
    ctx.forget_enabled()
    ctx.user_agent = ""
    ctx.expect_login()
    ctx.state = State.NOT_AUTHENTICATED
    ctx.connection.authenticated = False
    channel = ctx.channel
    if isinstance(channel, CompressedChannel):
        # The tagged answer is the last that is compressed, as a SASL security layer would end (section 3).
        ctx.after_answer = partial(_end_compression, ctx, channel)
    return Answer(b"log in again", capability_text(ctx))


def _end_compression(ctx: Context, channel: CompressedChannel) -> None:
    ctx.connection = ctx.new_connection()
    ctx.channel = channel.inner
    ctx.output = Output(ctx.channel, ctx.limits.write_chunk_bytes)
    ctx.compressed = False
