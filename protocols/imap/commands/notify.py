"""NOTIFY (RFC 5465), and the unasked METADATA responses of ENABLE METADATA (RFC 5464 section 4.4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from mailstore.model import Overview
from protocols.imap.commands.news import put_news, selected_id, tell_news
from protocols.imap.context import Answer, Context, Moment
from protocols.imap.grammar.notify import Event, EventGroup, Filter, Notify
from protocols.imap.grammar.refusal import Disallowed
from protocols.imap.picture.known import ANY_VERSION, AccountPicture, Interest, TooMuch
from protocols.imap.picture.view import NOTHING, WantedEvents
from protocols.imap.picture.watch import Watch

_DONE = Answer(b"done")
_METADATA_ONLY = EventGroup(
    Filter.PERSONAL, events=frozenset({Event.MAILBOX_METADATA_CHANGE, Event.SERVER_METADATA_CHANGE})
)


async def notify(ctx: Context, request: Notify) -> Answer:
    """NOTIFY; one that is refused leaves everything as it was (section 3.1)."""
    if not request.groups:
        ctx.stop_watching()
        ctx.notified, ctx.wanted_events = True, NOTHING
        return _DONE
    selected = ctx.selected
    if selected is not None:
        selected.view.apply(await selected.mailbox.sync(selected.view.modseq))
    try:
        watch, now = await _watch(ctx, request.groups, pushes=True)
    except TooMuch:
        raise Disallowed(b"too many mailboxes to watch", b"NOTIFICATIONOVERFLOW") from None
    ctx.stop_watching()
    ctx.notified = True
    wanted = _wanted_events(request.groups)
    # Send what is pending first, whatever events are selected from now on.
    ctx.wanted_events = replace(wanted, messages=True, flags=True)
    await tell_news(ctx, Moment.FREE)
    ctx.watch, ctx.wanted_events = watch, wanted
    if request.status:
        await put_news(ctx, now, watch.picture.everything())
    return _DONE


def _wanted_events(groups: Sequence[EventGroup]) -> WantedEvents:
    """What is wanted of the selected mailbox; nothing when no group is about it (section 3.1)."""
    for group in groups:
        if group.filter in (Filter.SELECTED, Filter.SELECTED_DELAYED):
            return WantedEvents(
                messages=Event.MESSAGE_NEW in group.events,
                flags=Event.FLAG_CHANGE in group.events,
                uids=True,
                at_once=group.filter is Filter.SELECTED,
                items=group.items,
            )
    return NOTHING


async def _watch(ctx: Context, groups: Sequence[EventGroup], pushes: bool) -> tuple[Watch, Overview]:
    """A watch that starts from the current state; stop it if it is not used. Raises TooMuch."""
    account, interest, hint = ctx.the_account(), Interest(groups), ctx.new_hint()
    # Subscribe before reading, so that no change is missed.
    hint.changed = False
    stop = account.listen(hint.note)
    try:
        now = await account.overview(ANY_VERSION if interest.metadata else None)
        picture = AccountPicture(interest, now, selected_id(ctx), ctx.limits.notify_mailboxes_max)
    except BaseException:
        stop()
        raise
    return Watch(hint, stop, picture, pushes), now


async def watch_metadata(ctx: Context) -> None:
    """ENABLE METADATA: annotations that others change are told during commands (RFC 5464 section 4.4).

    Once NOTIFY has been used, it alone decides.
    """
    if ctx.watch is None and not ctx.notified:
        ctx.watch, _ = await _watch(ctx, (_METADATA_ONLY,), pushes=False)
