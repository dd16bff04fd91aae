"""IDLE (RFC 2177)."""

from __future__ import annotations

from protocols.imap.commands.news import changes_heard, tell_in_idle
from protocols.imap.connection import LineReceived
from protocols.imap.context import Answer, Context, Unanswered
from protocols.imap.grammar.refusal import Malformed
from protocols.imap.grammar.session import Idle

_DONE = Answer(b"done")


async def idle(ctx: Context, request: Idle) -> Answer:
    """IDLE (RFC 2177): tell changes as they come until the client says DONE.

    With NOTIFY these are the ones that the client has asked for (RFC 5465 section 4).
    """
    ctx.output.put(b"+ idling\r\n")
    with changes_heard(ctx) as heard:
        while ctx.goodbye is None:
            if heard.due:
                await tell_in_idle(ctx, heard)
            await ctx.output.flush()
            line = ctx.connection.next_line()
            if isinstance(line, LineReceived):
                if line.text.rstrip(b" ").upper() == b"DONE":
                    return _DONE
                raise Malformed(b"DONE expected")
            if line is not None:
                raise Malformed(b"line too long")
            data = await ctx.channel.read(ctx.limits.idle_timeout_s)
            if data is not None:
                ctx.connection.feed(data)
    # RFC 2177 section 3: the tagged response comes behind DONE; programs show anything else as an error.
    raise Unanswered
