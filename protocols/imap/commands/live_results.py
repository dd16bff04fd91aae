"""Results of searches that are kept up to date (RFC 5267 section 4): what has come to them, and what left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mailstore import search as criteria
from mailstore.errors import AccountClosed, StoreError
from mailstore.model import ModSeq, Uid
from mailstore.uidset import UidSet
from protocols.imap.context import Context, Moment, Selected
from protocols.imap.grammar.fetch import FetchItem, FetchSection
from protocols.imap.picture.live import InMailboxOrder, InSortOrder, LiveSearch
from protocols.imap.picture.live_texts import LiveTexts
from protocols.imap.picture.numbering import resolve
from protocols.imap.picture.places import Places
from protocols.imap.responses import search_results
from protocols.imap.telling import tell_backlog, tell_pending, tell_removed


@dataclass(frozen=True, slots=True)
class Come:
    """What has come to a result: its ADDTO, and what the client wants to know of new messages."""

    line: bytes
    uids: UidSet
    items: tuple[FetchItem | FetchSection, ...]


@dataclass(frozen=True, slots=True)
class _Change:
    """What leaves a result, and what comes to it, in order of the result; ``places`` where that is sorted."""

    tag: bytes
    live: LiveSearch
    gone: UidSet
    come: Sequence[Uid]
    places: Places | None


async def tell_with_searches(ctx: Context, moment: Moment) -> list[Come]:
    """All that is pending and legal now, with the changes of live searches around it; ADDTO is left to say.

    REMOVEFROM of what is expunged comes before EXPUNGE, everything else once the client has heard what the
    messages are like now (RFC 5465 section 5.1).
    """
    await tell_backlog(ctx)
    selected = ctx.selected
    if selected is None or not _may_have_changed(selected):
        tell_pending(ctx, moment)
        return []
    try:
        changes = await _refresh(ctx, selected)
    except AccountClosed:
        raise
    except StoreError:
        for tag in selected.live:
            ctx.output.put(search_results.no_update_line(tag, b"updates are not possible now"))
        selected.live.clear()
        changes = []
    tell_pending(ctx, moment)
    for change in changes:
        # Some may have been expunged while others were looked at; they have left the result by now.
        if gone := change.gone & change.live.result.members:
            pairs = change.live.result.remove(gone)
            await ctx.give_way()
            ctx.output.put(change.live.line(change.tag, selected.view, b"REMOVEFROM", pairs))
            await ctx.give_way()
    come: list[Come] = []
    for change in changes:
        if (one := _come(selected, change)) is not None:
            come.append(one)
            await ctx.give_way()
    return come


def _may_have_changed(selected: Selected) -> bool:
    """Whether there is anything to look at again: a change, or a message that was announced at last."""
    if selected.live and selected.live_modseq != selected.view.modseq:
        return True
    return any(selected.view.present(live.unknown) for live in selected.live.values())


def _come(selected: Selected, change: _Change) -> Come | None:
    """What comes to a result now; messages that are not announced yet wait until they are."""
    view, live = selected.view, change.live
    places = _found(change)
    matching = UidSet.of(places)
    known = view.present(matching)
    live.unknown = matching - known
    if not known:
        return None
    pairs = live.result.add({uid: place for uid, place in places.items() if uid in known})
    return Come(live.line(change.tag, view, b"ADDTO", pairs), known, live.items)


def _found(change: _Change) -> Mapping[Uid, int]:
    """Where messages that come belong in what is left of a result."""
    result = change.live.result
    if change.places is None or not isinstance(result, InSortOrder):
        return dict.fromkeys(change.come, 0)
    return change.places.found(result.without(UidSet()))


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
        tell_removed(ctx, selected, tag)
        gone = live.result.members & (looked_at - UidSet.of(matching))
        come = [uid for uid in matching if uid not in live.result.members]
        places = await _places(selected, live.result, gone, come) if come else None
        changes.append(_Change(tag, live, gone, come, places))
        await ctx.give_way()
    selected.live_modseq = ModSeq(delta.highest)
    return changes


async def _matching(selected: Selected, live: LiveSearch, uids: UidSet) -> Sequence[Uid]:
    """Which of these messages match now, in order of the result."""
    uids = await _look_up_texts(selected, live.texts, uids)
    key = criteria.And((criteria.Uids(uids), resolve(live.texts.decided(), selected.view)))
    if isinstance(live.result, InSortOrder):
        return await _sorted(selected, key, live.result)
    return await _search(selected, key)


async def _look_up_texts(selected: Selected, texts: LiveTexts, uids: UidSet) -> UidSet:
    """Look for the texts in messages that were not looked at yet; those that can match at all are left."""
    new = texts.undecided(uids)
    if not new:
        return uids
    possible = await _found_among(selected, new, texts.possible())
    for number, part in enumerate(texts.parts):
        if unseen := texts.unseen(number, possible):
            texts.learn(number, unseen, await _found_among(selected, unseen, part))
    return (uids - new) | possible


async def _found_among(selected: Selected, uids: UidSet, key: criteria.Key) -> UidSet:
    among = criteria.And((criteria.Uids(uids), resolve(key, selected.view)))
    return UidSet.of(await _search(selected, among))


async def _search(selected: Selected, key: criteria.Key) -> Sequence[Uid]:
    found = await selected.mailbox.search(key, selected.view.modseq)
    selected.view.apply(found.delta)
    return found.uids


async def _sorted(selected: Selected, key: criteria.Key, result: InSortOrder) -> Sequence[Uid]:
    answer = await selected.mailbox.sort(key, result.order, selected.view.modseq)
    selected.view.apply(answer.delta)
    return answer.uids


async def _places(
    selected: Selected, result: InMailboxOrder | InSortOrder, gone: UidSet, come: Sequence[Uid]
) -> Places | None:
    """Where messages that come belong, once those that leave are gone; None in the order of the mailbox."""
    if not isinstance(result, InSortOrder):
        return None
    places = Places(result.without(gone), come)
    for asked in (places.sample, places.rest):
        if uids := asked():
            places.learn(await _sorted(selected, criteria.Uids(uids), result))
    return places
