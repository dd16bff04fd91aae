"""The only place that sends what is pending of the selected mailbox, and decides whether EXPUNGE may be.

``protocols.imap.commands.news`` looks for more before it tells.
"""

from __future__ import annotations

from mailstore.model import Delta
from protocols.imap.context import Context, Moment, Selected


def tell_pending(ctx: Context, moment: Moment) -> None:
    """Send what is pending, as far as it is legal now and wanted."""
    if ctx.selected is None:
        return
    view, wanted = ctx.selected.view, ctx.wanted_events
    match moment:
        case Moment.NUMBERS_IN_USE:
            may_expunge = False
        case Moment.FREE:
            may_expunge = wanted.messages
        case Moment.EXPUNGING:
            may_expunge = True
        case Moment.BETWEEN:
            may_expunge = wanted.messages and wanted.at_once
    if may_expunge:
        for tag in ctx.selected.live:
            tell_removed(ctx, ctx.selected, tag)
    ctx.output.put_all(view.flush(may_expunge, ctx.condstore, wanted))
    if view.mailbox_gone:
        # RFC 2180 section 3: a mailbox deleted under a session may end it.
        ctx.end(b"the selected mailbox was deleted")


def tell_removed(ctx: Context, selected: Selected, tag: bytes) -> None:
    """REMOVEFROM of what is expunged, which comes while its number is still the one that the client knows.

    So it stands before EXPUNGE, whoever has that sent (RFC 5267 section 4.3.4).
    """
    live = selected.live[tag]
    if removed := live.result.members & selected.view.gone:
        ctx.output.put(live.line(tag, selected.view, b"REMOVEFROM", live.result.remove(removed)))


def tell_keywords(ctx: Context, selected: Selected) -> None:
    """FLAGS and PERMANENTFLAGS, when keywords have come up that the client was not told of.

    They come before the first response that has such a keyword (RFC 3501 section 7.2.6).
    """
    ctx.output.put_all(selected.view.new_keywords())


async def tell_backlog(ctx: Context) -> None:
    """Send changed flags in batches until at most one batch is left."""
    most = ctx.limits.lines_batch_rows
    while ctx.selected is not None and ctx.selected.view.backlog > most:
        said = ctx.selected.view.flush_flags(most, ctx.condstore, ctx.wanted_events)
        if not said:
            return
        ctx.output.put_all(said)
        await ctx.output.drain()
        await ctx.turn()


async def tell_delta(ctx: Context, selected: Selected, delta: Delta) -> None:
    """Send what is new in the mailbox, without EXPUNGE because sequence numbers are in use."""
    selected.view.apply(delta)
    await tell_backlog(ctx)
    tell_pending(ctx, Moment.NUMBERS_IN_USE)
