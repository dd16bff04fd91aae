"""SEARCH, SORT and THREAD in the selected mailbox (RFC 3501 section 6.4.4, RFC 4731, RFC 5182, RFC 5256)."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from mailstore import search as criteria
from mailstore.errors import StoreError
from mailstore.model import FetchPlan, ModSeq, SearchResult, SortBy, SortKey, Uid
from mailstore.uidset import UidSet
from protocols.imap.commands.message_limit import require_whole, searched
from protocols.imap.context import Answer, Context, Selected
from protocols.imap.grammar.refusal import Disallowed
from protocols.imap.grammar.search import RefusedSearch, Search, SearchReturn, Thread
from protocols.imap.picture.fuzzy import BETTER, among, scores
from protocols.imap.picture.numbering import resolve
from protocols.imap.responses import lines, search_results
from protocols.imap.telling import tell_delta

T = TypeVar("T")

_DONE = Answer(b"done")
_ENDS = {SearchReturn.MIN, SearchReturn.MAX, SearchReturn.SAVE, SearchReturn.UPDATE, SearchReturn.CONTEXT}

_TABLE_OF = 8
"""Numbers of more than one of so many messages are looked up in a table of all."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a search has found.

    ``unknown`` are messages that match and that the client has not been told of; ``modseq`` is up to where
    the search has seen the mailbox; ``code`` is to be said when it did not look at all messages (RFC 9738).
    """

    uids: Sequence[Uid]
    unknown: UidSet
    modseq: ModSeq
    code: bytes


async def search(ctx: Context, request: Search, correlator: bytes = b"") -> Found:
    """Search or sort, tell the outcome, and return what was found.

    New messages are announced before a number can name them. ``correlator`` is what an ESEARCH
    response begins with, the tag alone by default.
    """
    try:
        return await _search(ctx, request, correlator or b'TAG "%s"' % ctx.tag)
    except (StoreError, Disallowed):
        if SearchReturn.SAVE in (request.returned or ()):
            ctx.the_mailbox().view.saved = UidSet()
        raise


async def refused_search(ctx: Context, request: RefusedSearch) -> Answer:
    """A failed SEARCH with SAVE empties the saved result (RFC 5182 section 2.1)."""
    ctx.the_mailbox().view.saved = UidSet()
    raise request.refusal


async def _known(ctx: Context, found: SearchResult, ordered: bool) -> tuple[Sequence[Uid], Sequence[int]]:
    """The messages that the client knows, with their numbers; yields to other sessions in between.

    ``ordered`` tells that the UIDs ascend.
    """
    matching = found.uids
    if (places := found.places) is not None and ctx.the_mailbox().view.goes_by(places):
        return matching, places.numbers
    numbers = await (_ascending if ordered else _numbers)(ctx, matching)
    if 0 not in numbers:
        return matching, numbers
    pairs = [pair for pair in zip(matching, numbers, strict=True) if pair[1]]
    return [uid for uid, _ in pairs], [number for _, number in pairs]


async def _ascending(ctx: Context, uids: Sequence[int]) -> list[int]:
    """The numbers of messages that ascend, 0 for those that the client does not know."""
    view, size = ctx.the_mailbox().view, ctx.limits.lines_batch_rows
    numbers: list[int] = []
    for at in range(0, len(uids), size):
        if at:
            await ctx.turn()
        numbers.extend(view.seqs_of(uids[at : at + size]))
    return numbers


async def _numbers(ctx: Context, uids: Sequence[int]) -> list[int]:
    """As ``_ascending``, in any order."""
    view, size = ctx.the_mailbox().view, ctx.limits.lines_batch_rows
    find: Callable[[int], int | None] = view.seq_of
    if len(uids) > view.exists // _TABLE_OF:
        # For so many it is faster to go through all once than to search for each.
        table: dict[int, int] = {}
        for at in range(0, view.exists, size):
            table.update(view.numbers(at, at + size))
            await ctx.give_way()
        find = table.get
    numbers: list[int] = []
    for at in range(0, len(uids), size):
        if at:
            await ctx.turn()
        numbers += [find(uid) or 0 for uid in uids[at : at + size]]
    return numbers


async def _search(ctx: Context, request: Search, correlator: bytes) -> Found:
    if ctx.rev2 and request.returned is None and not request.order:
        # RFC 9051 section 6.4.4: ESEARCH is the only answer, ALL what it holds by default.
        request = replace(request, returned=frozenset({SearchReturn.ALL}))
    selected = ctx.the_mailbox()
    view = selected.view
    if request.uses_modseq:
        ctx.enable_condstore()
    key, code = resolve(request.key, view), b""
    # Now, because what numbers mean may have changed when something has been found.
    stricter = [resolve(request.key, view, degree) for degree in BETTER] if request.scored else []
    better: tuple[UidSet, ...] = ()
    if request.order:
        require_whole(key, view, ctx.limits)
        order = request.order
        if any(by.key is SortKey.RELEVANCY for by in order):
            first = await selected.mailbox.search(key, view.modseq, ctx.progress)
            view.apply(first.delta)
            better = await _better(selected, stricter, first.uids)
            key, order = criteria.Uids(UidSet.of(first.uids)), _ranked(order, better)
        result = await selected.mailbox.sort(key, order, view.modseq, ctx.progress)
    else:
        key, code = searched(key, view, ctx.limits)
        result = await selected.mailbox.search(key, view.modseq, ctx.progress)
    await tell_delta(ctx, selected, result.delta)
    if stricter and not better:
        better = await _better(selected, stricter, result.uids)
    uids, seqs = await _known(ctx, result, ordered=not request.order)
    unknown = UidSet.of(result.uids) - UidSet.of(uids) if len(uids) < len(result.uids) else UidSet()
    found = Found(uids, unknown, result.delta.highest, code)
    numbers: Sequence[int] = uids if request.by_uid else seqs
    modseq = result.highest_modseq if request.uses_modseq else None
    if request.returned is None:
        line = search_results.sort_line if request.order else lines.search_line
        ctx.output.put(line(numbers, modseq))
        return found
    if SearchReturn.SAVE in request.returned:
        view.saved = search_results.saved_by(request, uids)
    if request.answers:
        if modseq is not None and uids and request.page is None and request.returned <= _ENDS:
            modseq = await _modseq_of_ends(selected, uids, request.returned)
        relevancies = scores(uids, better) if better else ()
        ctx.output.put(search_results.esearch_line(correlator, request, numbers, modseq, relevancies))
    return found


def _ranked(order: tuple[SortBy, ...], better: tuple[UidSet, ...]) -> tuple[SortBy, ...]:
    return tuple(replace(by, ranked=better) if by.key is SortKey.RELEVANCY else by for by in order)


async def _better(
    selected: Selected, stricter: Sequence[criteria.Key], found: Sequence[Uid]
) -> tuple[UidSet, ...]:
    """The results of stricter readings of FUZZY among what was found, the best first.

    No other messages are read again, and none that a still stricter reading has found.
    """
    view, left = selected.view, UidSet.of(found)
    results = []
    for key in stricter:
        better = UidSet()
        if left:
            result = await selected.mailbox.search(among(left, key), view.modseq)
            view.apply(result.delta)
            better = UidSet.of(result.uids)
        results.append(better)
        left -= better
    return tuple(results)


async def _modseq_of_ends(
    selected: Selected, uids: Sequence[Uid], returned: frozenset[SearchReturn]
) -> ModSeq | None:
    """With MIN or MAX alone MODSEQ is that of the messages named (RFC 4731 section 3.2)."""
    ends = [uids[0]] if SearchReturn.MIN in returned else []
    if SearchReturn.MAX in returned and uids[-1] not in ends:
        ends.append(uids[-1])
    fetched = await selected.mailbox.fetch(sorted(ends), FetchPlan(), selected.view.modseq)
    selected.view.apply(fetched.delta)
    return max((row.modseq for row in fetched.rows), default=None)


async def thread(ctx: Context, request: Thread) -> Answer:
    """THREAD and UID THREAD (RFC 5256 section 3)."""
    selected = ctx.the_mailbox()
    view = selected.view
    key = resolve(request.key, view)
    require_whole(key, view, ctx.limits)
    if not ctx.wanted_events.messages:
        # Of newer ones the client does not want to hear (RFC 5465 section 3.1), so they are in no thread.
        newest = view.largest_uid
        key = criteria.And((key, criteria.Uids(UidSet(((1, newest),)) if newest else UidSet())))
    threads, delta = await selected.mailbox.threads(key, request.algorithm, view.modseq, ctx.progress)
    await tell_delta(ctx, selected, delta)
    rendered = threads.rendered
    if isinstance(rendered, search_results.ThreadTemplate):
        template = rendered
    else:
        template = await _made(ctx, search_results.thread_template(threads))
        threads.rendered = template
    ctx.output.put(template.line(template.uids if request.by_uid else await _placed(ctx, template)))
    return _DONE


async def _made(ctx: Context, steps: Generator[None, None, T]) -> T:
    """The result of work that pauses, while others have their turns."""
    while True:
        try:
            next(steps)
        except StopIteration as finished:
            result: T = finished.value
            return result
        await ctx.give_way()


async def _placed(ctx: Context, template: search_results.ThreadTemplate) -> Sequence[int]:
    """The sequence numbers of the messages in threads, which sessions share that began with the same ones."""
    view = ctx.the_mailbox().view
    if template.places is not None and view.goes_by(template.places):
        return template.places.numbers
    numbers = await _numbers(ctx, template.uids)
    template.places = view.places_of(numbers) or template.places
    return numbers
