"""SEARCH (RFC 3501 section 6.4.4) with ESEARCH (RFC 4731), SEARCHRES (RFC 5182), MODSEQ (RFC 7162)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

from mailstore import search as criteria
from mailstore.errors import StoreError
from mailstore.model import FetchPlan, ModSeq, Uid
from mailstore.uidset import UidSet
from protocols.imap import requests as ask
from protocols.imap import responses
from protocols.imap.context import Answer, Context, Selected
from protocols.imap.refusal import Disallowed
from protocols.imap.requests import SearchReturn
from protocols.imap.view import View

_ENDS = {SearchReturn.MIN, SearchReturn.MAX, SearchReturn.SAVE}


def resolve(key: criteria.Key, view: View) -> criteria.Key:
    """Replace what only the session knows by UIDs. The tree's depth is bounded by the grammar.

    Raises:
        Malformed: a sequence number that no message has.
    """
    match key:
        case criteria.And(keys):
            return criteria.And(tuple(resolve(one, view) for one in keys))
        case criteria.Or(left, right):
            return criteria.Or(resolve(left, view), resolve(right, view))
        case criteria.Not(inner):
            return criteria.Not(resolve(inner, view))
        case criteria.SeqNums(numbers):
            return criteria.Uids(UidSet.of(view.resolve(numbers, by_uid=False)))
        case criteria.UidNumbers(numbers):
            return criteria.Uids(numbers.resolve(view.largest_uid))
        case criteria.Recent():
            return criteria.Uids(view.recent)
        case criteria.SavedResult():
            return criteria.Uids(view.saved)
        case (
            criteria.All()
            | criteria.Uids()
            | criteria.HasFlag()
            | criteria.HasKeyword()
            | criteria.DateRange()
            | criteria.Larger()
            | criteria.Smaller()
            | criteria.WithinSeconds()
            | criteria.HeaderText()
            | criteria.BodyText()
            | criteria.AnyText()
            | criteria.ModSeqAtLeast()
            | criteria.EmailIdIs()
            | criteria.ThreadIdIs()
        ):
            return key
        case _:
            assert_never(key)


async def search(ctx: Context, request: ask.Search) -> Answer:
    """SEARCH and UID SEARCH. New messages are announced before a number can name them."""
    try:
        return await _search(ctx, request)
    except (StoreError, Disallowed):
        if SearchReturn.SAVE in (request.returned or ()):
            ctx.the_mailbox().view.saved = UidSet()
        raise


async def refused_search(ctx: Context, request: ask.RefusedSearch) -> Answer:
    """A failed SEARCH with SAVE empties the saved result (RFC 5182 section 2.1)."""
    ctx.the_mailbox().view.saved = UidSet()
    raise request.refusal


def saved_by(returned: frozenset[SearchReturn], uids: Sequence[Uid]) -> UidSet:
    """What ``$`` becomes (RFC 5182 section 2.4): with MIN or MAX and nothing else but SAVE, just these."""
    if returned & {SearchReturn.ALL, SearchReturn.COUNT} or returned == {SearchReturn.SAVE} or not uids:
        return UidSet.of(uids)
    ends = uids[:1] if SearchReturn.MIN in returned else []
    return UidSet.of([*ends, *(uids[-1:] if SearchReturn.MAX in returned else [])])


async def _search(ctx: Context, request: ask.Search) -> Answer:
    selected = ctx.the_mailbox()
    view = selected.view
    if request.uses_modseq:
        ctx.enable_condstore()
    result = await selected.mailbox.search(resolve(request.key, view), view.modseq)
    view.apply(result.delta)
    ctx.output.put_all(view.flush(allow_expunge=False, modseqs=ctx.condstore))
    uids = view.known(UidSet.of(result.uids))
    numbers: list[int] = list(uids)
    if not request.by_uid:
        numbers = [seq for uid in uids if (seq := view.seq_of(uid)) is not None]
    modseq = result.highest_modseq if request.uses_modseq else None
    if request.returned is None:
        ctx.output.put(responses.search_line(numbers, modseq))
        return Answer(b"done")
    if SearchReturn.SAVE in request.returned:
        view.saved = saved_by(request.returned, uids)
    # RFC 5182 section 2.2: with SAVE alone there is no ESEARCH response.
    if request.returned != {SearchReturn.SAVE}:
        if modseq is not None and uids and request.returned <= _ENDS:
            modseq = await _modseq_of_ends(selected, uids, request.returned)
        ctx.output.put(_esearch_line(ctx.tag, request, numbers, modseq))
    return Answer(b"done")


async def _modseq_of_ends(
    selected: Selected, uids: list[Uid], returned: frozenset[SearchReturn]
) -> ModSeq | None:
    """With MIN or MAX alone MODSEQ is that of the messages named (RFC 4731 section 3.2)."""
    ends = [uids[0]] if SearchReturn.MIN in returned else []
    if SearchReturn.MAX in returned and uids[-1] not in ends:
        ends.append(uids[-1])
    found = await selected.mailbox.fetch(ends, FetchPlan(), selected.view.modseq)
    selected.view.apply(found.delta)
    return max((row.modseq for row in found.rows), default=None)


def _esearch_line(tag: bytes, request: ask.Search, numbers: list[int], modseq: ModSeq | None) -> bytes:
    """ESEARCH (RFC 4731 section 3.1); MIN, MAX and ALL are left out when nothing was found."""
    wanted = request.returned or frozenset()
    parts = [b'* ESEARCH (TAG "%s")' % tag]
    if request.by_uid:
        parts.append(b"UID")
    if numbers and SearchReturn.MIN in wanted:
        parts.append(b"MIN %d" % numbers[0])
    if numbers and SearchReturn.MAX in wanted:
        parts.append(b"MAX %d" % numbers[-1])
    if SearchReturn.COUNT in wanted:
        parts.append(b"COUNT %d" % len(numbers))
    if numbers and SearchReturn.ALL in wanted:
        parts.append(b"ALL " + UidSet.of(numbers).to_bytes())
    if modseq is not None and numbers:
        parts.append(b"MODSEQ %d" % modseq)
    return b" ".join(parts) + b"\r\n"
