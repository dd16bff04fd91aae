"""Looking for what has happened, and telling it: the selected mailbox, and all that NOTIFY watches.

The store only says that something may have changed (``AccountApi.listen``). Then one read shows the
account as it is, and ``AccountPicture`` knows what of it is new to the client. However many changes there
were, they are told once, when the client has taken what was said before.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from mailstore.errors import AccountClosed, StoreError
from mailstore.model import Delta, MailboxId, MailboxInfo, Overview, Uid
from mailstore.uidset import UidSet
from protocols.imap.commands.fetch import push
from protocols.imap.commands.live_results import Come, tell_with_searches
from protocols.imap.context import Context, Moment, Selected
from protocols.imap.grammar.fetch import FetchItem, FetchSection
from protocols.imap.grammar.mailbox import StatusItem
from protocols.imap.picture.known import ListNews, MetadataNews, News, StatusNews, TooMuch
from protocols.imap.picture.view import NOTHING
from protocols.imap.picture.watch import Hint
from protocols.imap.responses import lines
from protocols.imap.responses.listing import attributes_of
from protocols.imap.telling import tell_pending


def selected_id(ctx: Context) -> MailboxId | None:
    """The mailbox that is selected."""
    return None if ctx.selected is None else ctx.selected.mailbox.opened.mailbox_id


async def tell_news(ctx: Context, moment: Moment) -> None:
    """Tell all that is pending, legal now and wanted.

    Raises StoreError when what is new cannot be read for the selected mailbox.
    """
    watch = ctx.watch
    if watch is None or not watch.hint.due:
        await _tell_selected(ctx, moment)
        return
    watch.hint.changed = False
    clock = ctx.services.clock
    began = clock.seconds()
    try:
        now = await ctx.the_account().overview(watch.picture.annotations_version)
        news = watch.picture.news(now, selected_id(ctx), ctx.condstore)
    except AccountClosed:
        raise
    except (StoreError, TooMuch):
        if not watch.pushes:
            raise
        _overflow(ctx)
        await _tell_selected(ctx, moment)
        return
    watch.hint.looked(clock.seconds() - began)
    selected = ctx.selected
    if selected is not None and ctx.wanted_events.messages:
        counters = now.counters.get(selected.mailbox.opened.mailbox_id)
        if counters is None or counters.highest_modseq != selected.view.modseq:
            selected.view.apply(await selected.mailbox.news(selected.view.modseq))
    await put_news(ctx, now, news)
    await _tell_selected(ctx, moment)


async def _tell_selected(ctx: Context, moment: Moment) -> None:
    """What is new in the selected mailbox, and what came to results of searches there.

    Data of new messages stand behind ADDTO for a client that uses NOTIFY (section 5.2), and before it
    for one that has only asked with UPDATE (section 7).
    """
    changes = await tell_with_searches(ctx, moment)
    said = [come.line for come in changes]
    if ctx.notified:
        ctx.output.put_all(said)
        await _tell_data(ctx, changes)
        return
    try:
        await _tell_data(ctx, changes)
    finally:
        ctx.output.put_all(said)


async def _tell_data(ctx: Context, changes: Sequence[Come]) -> None:
    """One FETCH for each new message that NOTIFY or UPDATE asks about; none for the client's own."""
    selected = ctx.selected
    if selected is None or not selected.view.announced:
        return
    announced, selected.view.announced = selected.view.announced, []
    own, selected.own = selected.own, selected.own - UidSet.of(announced)
    if not ctx.wanted_events.items and not any(come.items for come in changes):
        return
    groups: dict[tuple[FetchItem | FetchSection, ...], list[Uid]] = {}
    for uid in announced:
        if uid in own:
            continue
        items = ctx.wanted_events.items
        for come in changes:
            if come.items and uid in come.uids:
                items += come.items
        if items:
            groups.setdefault(tuple(dict.fromkeys(items)), []).append(Uid(uid))
    for items, uids in groups.items():
        await push(ctx, selected, uids, items)


async def put_news(ctx: Context, now: Overview, news: Sequence[News]) -> None:
    """Send news of mailboxes that are not selected."""
    infos: dict[str, MailboxInfo] = {info.name: info for info in now.listed.mailboxes}
    subscribed: set[str] = {info.name for info in now.listed.mailboxes if info.subscribed}
    subscribed.update(now.listed.orphan_subscriptions)
    for item in news:
        match item:
            case StatusNews(name, items, counters):
                values: dict[StatusItem, int | bytes] = {
                    StatusItem.MESSAGES: counters.messages,
                    StatusItem.UIDNEXT: counters.uid_next,
                    StatusItem.UIDVALIDITY: counters.uid_validity,
                    StatusItem.UNSEEN: counters.unseen,
                    StatusItem.HIGHESTMODSEQ: counters.highest_modseq,
                }
                chosen = {item: values[item] for item in items}
                ctx.output.put(lines.status_values_line(name, chosen, ctx.utf8))
            case ListNews(name, old_name):
                attributes = attributes_of(infos.get(name), name in subscribed, True)
                ctx.output.put(lines.list_line(attributes, name, ctx.utf8, old_name=old_name))
            case MetadataNews(name, entries):
                # RFC 5464 section 4.4.2: names only.
                words = b" ".join(lines.astring(entry.encode("ascii")) for entry in entries)
                mailbox = lines.mailbox(name, ctx.utf8) if name else b'""'
                ctx.output.put(lines.untagged(b"METADATA %s %s" % (mailbox, words)))
        await ctx.output.drain()


def _overflow(ctx: Context) -> None:
    """Stop notifying, as after NOTIFY NONE (section 5.8)."""
    ctx.stop_watching()
    ctx.wanted_events = NOTHING
    ctx.output.put(lines.tagged(b"*", b"OK", b"no more notifications", b"NOTIFICATIONOVERFLOW"))


async def tell_between_commands(ctx: Context) -> bool:
    """Send what NOTIFY promises between commands; returns whether there was anything to check."""
    if not _is_due(ctx):
        return False
    try:
        await tell_news(ctx, Moment.BETWEEN)
    except AccountClosed:
        ctx.end(b"this session has been ended, please log in again")
    except StoreError:
        _overflow(ctx)
    await ctx.output.flush()
    return True


def _is_due(ctx: Context) -> bool:
    """Whether there may be something to tell now; SELECTED-DELAYED lets what is gone wait."""
    watch, selected, wanted = ctx.watch, ctx.selected, ctx.wanted_events
    if watch is None or not watch.pushes:
        return False
    return watch.hint.due or (selected is not None and selected.view.has_pending(wanted, wanted.at_once))


async def tell_in_idle(ctx: Context, hint: Hint) -> None:
    """Check for changes and report them (RFC 2177, RFC 5465 section 4)."""
    selected = ctx.selected
    first_look, hint.first_look = hint.first_look, False
    if ctx.watch is None:
        hint.changed = False
    # With NOTIFY further looks are at the whole account, and begin with what has been filed.
    if selected is not None and ctx.wanted_events.messages and (first_look or ctx.watch is None):
        fresh = None if first_look or selected.live else selected.mailbox.fresh(selected.view.modseq)
        if fresh is not None:
            await _tell_fresh(ctx, selected, fresh)
        else:
            look = selected.mailbox.sync if first_look else selected.mailbox.news
            selected.view.apply(await look(selected.view.modseq))
    await tell_news(ctx, Moment.FREE)


async def _tell_fresh(ctx: Context, selected: Selected, fresh: Delta) -> None:
    """Tell of new mail before it is decided to which session it is ``\\Recent``: that takes a transaction."""
    selected.view.apply_unclaimed(fresh)
    recent = UidSet()
    try:
        tell_pending(ctx, Moment.FREE)
        await ctx.output.flush()
        recent = await selected.mailbox.claim(fresh)
    finally:
        selected.view.claimed(recent)


@contextmanager
def changes_heard(ctx: Context) -> Iterator[Hint]:
    """While the block runs, a hint whenever this session has something to check."""
    if ctx.watch is not None:
        ctx.watch.hint.changed = ctx.watch.hint.first_look = True
        yield ctx.watch.hint
        return
    hint = ctx.new_hint()
    selected: Selected | None = ctx.selected
    if selected is not None:
        selected.mailbox.on_change(hint.note)
    try:
        yield hint
    finally:
        if selected is not None:
            selected.mailbox.on_change(None)
