"""Results of searches that are kept up to date (RFC 5267 section 4): what has come to them, and what left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mailstore import search as criteria
from mailstore.errors import StoreError
from mailstore.model import ModSeq, Uid
from mailstore.uidset import UidSet
from protocols.imap.context import Context, Moment, Selected
from protocols.imap.grammar.fetch import FetchItem, FetchSection
from protocols.imap.picture.live import InMailboxOrder, InSortOrder, LiveSearch
from protocols.imap.picture.numbering import resolve
from protocols.imap.picture.places import Places
from protocols.imap.responses import search_results
from protocols.imap.telling import tell_backlog, tell_pending


@dataclass(frozen=True, slots=True)
class Come:
    """What has come to a result: its ADDTO, and what the client wants to know of new messages."""

    line: bytes
    uids: UidSet
    items: tuple[FetchItem | FetchSection, ...]


@dataclass(frozen=True, slots=True)
class _Change:
    """What leaves a result, and what comes to it: messages with their places, in order of the result."""

    tag: bytes
    live: LiveSearch
    gone: UidSet
    places: Mapping[Uid, int]


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
        changes = await _refresh(ctx, selected)
    except StoreError:
        for tag in selected.live:
            ctx.output.put(search_results.no_update_line(tag, b"updates are not possible now"))
        selected.live.clear()
        changes = []
    tell_pending(ctx, moment)
    for change in changes:
        if change.gone:
            pairs = change.live.result.remove(change.gone)
            ctx.output.put(change.live.line(change.tag, selected.view, b"REMOVEFROM", pairs))
    return [come for change in changes if (come := _come(selected, change)) is not None]


def _may_have_changed(selected: Selected) -> bool:
    """Whether there is anything to look at again: a change, or a message that was announced at last."""
    if selected.live and selected.live_modseq != selected.view.modseq:
        return True
    return any(selected.view.present(live.unknown) for live in selected.live.values())


def _come(selected: Selected, change: _Change) -> Come | None:
    """What comes to a result now; messages that are not announced yet wait until they are."""
    view, live = selected.view, change.live
    matching = UidSet.of(change.places)
    known = view.present(matching)
    live.unknown = matching - known
    if not known:
        return None
    pairs = live.result.add({uid: place for uid, place in change.places.items() if uid in known})
    return Come(live.line(change.tag, view, b"ADDTO", pairs), known, live.items)


async def _refresh(ctx: Context, selected: Selected) -> list[_Change]:
    """Look what has changed, tell what was expunged, and return what else leaves results or comes to them.

    After a command that changed anything, and in IDLE, only messages that changed are looked at again.
    """
    view = selected.view
    delta = await selected.mailbox.sync(selected.live_modseq)
    # The view was told of the earlier changes by the commands themselves.
    view.catch_up(delta)
    changed = UidSet.of(row.uid for row in delta.changed)
    changes: list[_Change] = []
    for tag, live in selected.live.items():
        looked_at = changed | live.unknown
        matching = await _matching(selected, live, looked_at) if looked_at else ()
        expunged = live.result.members & delta.expunged
        if expunged:
            pairs = live.result.remove(expunged)
            ctx.output.put(live.line(tag, view, b"REMOVEFROM", pairs))
        gone = live.result.members & (looked_at - UidSet.of(matching))
        come = [uid for uid in matching if uid not in live.result.members]
        places = await _places(selected, live.result, gone, come) if come else {}
        changes.append(_Change(tag, live, gone, places))
        await ctx.give_way()
    selected.live_modseq = ModSeq(delta.highest)
    return changes


async def _matching(selected: Selected, live: LiveSearch, uids: UidSet) -> Sequence[Uid]:
    """Which of these messages match now, in order of the result."""
    key = criteria.And((criteria.Uids(uids), resolve(live.key, selected.view)))
    if isinstance(live.result, InSortOrder):
        return await _sorted(selected, key, live.result)
    found = await selected.mailbox.search(key, selected.view.modseq)
    selected.view.apply(found.delta)
    return found.uids


async def _sorted(selected: Selected, key: criteria.Key, result: InSortOrder) -> Sequence[Uid]:
    answer = await selected.mailbox.sort(key, result.order, selected.view.modseq)
    selected.view.apply(answer.delta)
    return answer.uids


async def _places(
    selected: Selected, result: InMailboxOrder | InSortOrder, gone: UidSet, come: Sequence[Uid]
) -> Mapping[Uid, int]:
    """Where messages that come belong, once those that leave are gone."""
    if not isinstance(result, InSortOrder):
        return dict.fromkeys(come, 0)
    places = Places(result.without(gone), come)
    for asked in (places.sample, places.rest):
        if uids := asked():
            places.learn(await _sorted(selected, criteria.Uids(uids), result))
    return places.found()
