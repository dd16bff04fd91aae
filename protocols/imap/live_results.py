"""Results of searches that are kept up to date (RFC 5267 section 4): what has come to them, and what left."""

from __future__ import annotations

from dataclasses import dataclass

from mailstore import search as criteria
from mailstore.errors import StoreError
from mailstore.model import ModSeq
from mailstore.uidset import UidSet
from protocols.imap.context import Context, Moment, Selected
from protocols.imap.grammar.fetch_items import FetchItem, FetchSection
from protocols.imap.picture.live import LiveSearch
from protocols.imap.picture.numbering import resolve
from protocols.imap.responses import search_results
from protocols.imap.telling import tell_backlog, tell_pending


@dataclass(frozen=True, slots=True)
class Come:
    """What has come to a result: its ADDTO, and what the client wants to know of new messages."""

    line: bytes
    uids: UidSet
    items: tuple[FetchItem | FetchSection, ...]


async def tell_with_searches(ctx: Context, moment: Moment) -> list[Come]:
    """All that is pending and legal now, with the changes of live searches around it; ADDTO is left to say.

    REMOVEFROM of what is expunged comes while its number is still the one that the client knows,
    everything else once the client has heard what the messages are like now (RFC 5465 section 5.1).
    """
    await tell_backlog(ctx)
    selected = ctx.selected
    if selected is None or not _may_have_changed(selected):
        tell_pending(ctx, moment)
        return []
    try:
        found = await _refresh(ctx, selected)
    except StoreError:
        for tag in selected.live:
            ctx.output.put(search_results.no_update_line(tag, b"updates are not possible now"))
        selected.live.clear()
        found = []
    tell_pending(ctx, moment)
    view, come = selected.view, []
    for tag, live, gone, matching in found:
        if gone:
            ctx.output.put(live.line(tag, view, b"REMOVEFROM", gone))
        known = view.present(matching)
        live.unknown = matching - known
        live.uids |= known
        if known:
            come.append(Come(live.line(tag, view, b"ADDTO", known), known, live.items))
    return come


def _may_have_changed(selected: Selected) -> bool:
    """Whether there is anything to look at again: a change, or a message that was announced at last."""
    if selected.live and selected.live_modseq != selected.view.modseq:
        return True
    return any(selected.view.present(live.unknown) for live in selected.live.values())


async def _refresh(ctx: Context, selected: Selected) -> list[tuple[bytes, LiveSearch, UidSet, UidSet]]:
    """Bring all results up to date, tell what was expunged, and return what else left them or came.

    After a command that changed anything, and in IDLE, only messages that changed are looked at again.
    """
    view, mailbox = selected.view, selected.mailbox
    delta = await mailbox.sync(selected.live_modseq)
    # The view was told of the earlier changes by the commands themselves.
    view.catch_up(delta)
    all_changed = UidSet.of(row.uid for row in delta.changed)
    found: list[tuple[bytes, LiveSearch, UidSet, UidSet]] = []
    for tag, one in selected.live.items():
        matching = UidSet()
        changed = all_changed | one.unknown
        if changed:
            key = criteria.And((criteria.Uids(changed), resolve(one.key, view)))
            result = await mailbox.search(key, view.modseq)
            view.apply(result.delta)
            matching = UidSet.of(result.uids)
        expunged = one.uids & delta.expunged
        gone = (one.uids & (changed - matching)) - expunged
        come = matching - one.uids
        one.uids = one.uids - expunged - gone
        if expunged:
            ctx.output.put(one.line(tag, view, b"REMOVEFROM", expunged))
        if gone or come:
            found.append((tag, one, gone, come))
    selected.live_modseq = ModSeq(delta.highest)
    return found
