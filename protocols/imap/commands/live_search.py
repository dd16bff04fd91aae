"""Searches whose results are kept up to date: UPDATE, ADDTO, REMOVEFROM, CANCELUPDATE (RFC 5267 section 4).

After a command that changed anything, and in IDLE, only messages that changed are looked at again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mailstore import search as criteria
from mailstore.errors import StoreError
from mailstore.model import ModSeq, Uid
from mailstore.uidset import UidSet
from protocols.imap.commands.message_limit import told
from protocols.imap.commands.search import search
from protocols.imap.context import Answer, Context, Moment, Selected
from protocols.imap.grammar.fetch_items import FetchItem, FetchSection
from protocols.imap.grammar.search import CancelUpdate, Search, SearchReturn
from protocols.imap.picture.live import LiveSearch
from protocols.imap.picture.numbering import Numbering, resolve
from protocols.imap.responses import lines

_DONE = Answer(b"done")


def _frozen(key: criteria.Key, view: Numbering) -> criteria.Key:
    """Sequence numbers and ``$`` mean the messages they meant when the search was made."""
    match key:
        case criteria.And(keys):
            return criteria.And(tuple(_frozen(one, view) for one in keys))
        case criteria.Or(left, right):
            return criteria.Or(_frozen(left, view), _frozen(right, view))
        case criteria.Not(inner):
            return criteria.Not(_frozen(inner, view))
        case criteria.Fuzzy(inner):
            return criteria.Fuzzy(_frozen(inner, view))
        case criteria.SeqNums() | criteria.SavedResult():
            return resolve(key, view)
        case _:
            return key


async def live_search(ctx: Context, request: Search, correlator: bytes = b"") -> Answer:
    """SEARCH and SORT, by UID or not; with UPDATE the result is kept up to date from here on."""
    selected = ctx.the_mailbox()
    key = _frozen(request.key, selected.view)
    found = await search(ctx, request, correlator)
    if SearchReturn.UPDATE in (request.returned or ()):
        _keep_up_to_date(ctx, selected, request, key, found.uids)
    return told(ctx, _DONE, found.code)


def _keep_up_to_date(
    ctx: Context, selected: Selected, request: Search, key: criteria.Key, uids: Sequence[Uid]
) -> None:
    live = selected.live
    if ctx.tag not in live and len(live) >= ctx.limits.live_searches_max:
        # Section 4.3.1: the search itself is done all the same.
        ctx.output.put(_no_update(ctx.tag, b"too many searches are kept up to date"))
        return
    if not live:
        selected.live_modseq = selected.view.modseq
    live[ctx.tag] = LiveSearch(key, request.by_uid, UidSet.of(uids), request.update_items)


async def cancel_update(ctx: Context, request: CancelUpdate) -> Answer:
    """CANCELUPDATE; a search that is no longer kept up to date may be named (section 4.3.5)."""
    live = ctx.the_mailbox().live
    for tag in request.tags:
        live.pop(tag, None)
    return _DONE


@dataclass(frozen=True, slots=True)
class Come:
    """What has come to a result: its ADDTO, and what the client wants to know of new messages."""

    line: bytes
    uids: UidSet
    items: tuple[FetchItem | FetchSection, ...]


async def tell_changes(ctx: Context, moment: Moment) -> list[Come]:
    """All that is pending and legal now, with the changes of live searches around it; ADDTO is left to say.

    REMOVEFROM of what is expunged comes while its number is still the one that the client knows,
    everything else once the client has heard what the messages are like now (RFC 5465 section 5.1).
    """
    await ctx.tell_backlog()
    selected = ctx.selected
    if selected is None or not selected.live or selected.live_modseq == selected.view.modseq:
        ctx.tell_changes(moment)
        return []
    try:
        found = await _refresh(ctx, selected)
    except StoreError:
        for tag in selected.live:
            ctx.output.put(_no_update(tag, b"updates are not possible now"))
        selected.live.clear()
        found = []
    ctx.tell_changes(moment)
    for tag, one, gone, _ in found:
        if gone:
            ctx.output.put(one.line(tag, selected.view, b"REMOVEFROM", gone))
    view = selected.view
    return [Come(one.line(tag, view, b"ADDTO", come), come, one.items) for tag, one, _, come in found if come]


async def _refresh(ctx: Context, selected: Selected) -> list[tuple[bytes, LiveSearch, UidSet, UidSet]]:
    """Bring all results up to date, tell what was expunged, and return what else left them or came."""
    view, mailbox = selected.view, selected.mailbox
    delta = await mailbox.sync(selected.live_modseq)
    # The view was told of the earlier changes by the commands themselves.
    view.catch_up(delta)
    changed = UidSet.of(row.uid for row in delta.changed)
    found: list[tuple[bytes, LiveSearch, UidSet, UidSet]] = []
    for tag, one in selected.live.items():
        matching = UidSet()
        if changed:
            key = criteria.And((criteria.Uids(changed), resolve(one.key, view)))
            result = await mailbox.search(key, view.modseq)
            view.apply(result.delta)
            matching = UidSet.of(result.uids)
        expunged = one.uids & delta.expunged
        gone = (one.uids & (changed - matching)) - expunged
        come = matching - one.uids
        one.uids = (one.uids - expunged - gone) | come
        if expunged:
            ctx.output.put(one.line(tag, view, b"REMOVEFROM", expunged))
        if gone or come:
            found.append((tag, one, gone, come))
    selected.live_modseq = ModSeq(delta.highest)
    return found


def _no_update(tag: bytes, text: bytes) -> bytes:
    return lines.tagged(b"*", b"NO", text, b'NOUPDATE "%s"' % tag)
