"""Searches whose results are kept up to date: UPDATE and CANCELUPDATE (RFC 5267 section 4).

What comes to results, and leaves them, is told with everything else (``live_results``).
"""

from __future__ import annotations

from mailstore import search as criteria
from mailstore.model import SortKey
from mailstore.uidset import UidSet
from protocols.imap.commands.message_limit import limited_answer
from protocols.imap.commands.search import Found, search
from protocols.imap.context import Answer, Context, Selected
from protocols.imap.grammar.search import CancelUpdate, Search, SearchReturn
from protocols.imap.picture.live import InMailboxOrder, InSortOrder, LiveSearch
from protocols.imap.picture.live_texts import LiveTexts
from protocols.imap.picture.numbering import Numbering, resolve
from protocols.imap.responses import search_results

_DONE = Answer(b"done")


def _frozen(key: criteria.Key, view: Numbering) -> criteria.Key:
    """Sequence numbers and ``$`` mean the messages they meant when the search was made."""
    match key:
        case criteria.And(keys):
            return criteria.And(tuple(_frozen(part, view) for part in keys))
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
    key, there = _frozen(request.key, selected.view), selected.view.largest_uid
    found = await search(ctx, request, correlator)
    if SearchReturn.UPDATE in (request.returned or ()):
        texts = LiveTexts(key)
        if there and not found.code:
            texts.found_at_first(UidSet(((1, there),)), UidSet.of(found.uids) | found.unknown)
        _keep_up_to_date(ctx, selected, request, texts, found)
    return limited_answer(ctx, _DONE, found.code)


def _keep_up_to_date(
    ctx: Context, selected: Selected, request: Search, texts: LiveTexts, found: Found
) -> None:
    live = selected.live
    live.pop(ctx.tag, None)  # an earlier search of this tag has another result
    if any(by.key is SortKey.RELEVANCY for by in request.order):
        # What is relevant depends on all messages, so none of them keeps its place.
        ctx.output.put(search_results.no_update_line(ctx.tag, b"relevancy is not kept up to date"))
        return
    if len(live) >= ctx.limits.live_searches_max:
        # Section 4.3.1: the search itself is done all the same.
        ctx.output.put(search_results.no_update_line(ctx.tag, b"too many searches are kept up to date"))
        return
    if not live:
        selected.live_modseq = found.modseq
    uids, order = found.uids, request.order
    result = InSortOrder(order, uids) if order else InMailboxOrder(uids)
    live[ctx.tag] = LiveSearch(texts, request.by_uid, result, found.unknown, request.update_items)


async def cancel_update(ctx: Context, request: CancelUpdate) -> Answer:
    """CANCELUPDATE; a search that is no longer kept up to date may be named (section 4.3.5)."""
    live = ctx.the_mailbox().live
    for tag in request.tags:
        live.pop(tag, None)
    return _DONE
