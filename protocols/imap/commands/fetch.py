"""FETCH and UID FETCH (RFC 3501 section 6.4.5): of which messages, and how it is sent.

Metadata is sent in bounded batches, content with back-pressure in between.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain

from twisted.internet.defer import CancelledError

from mailstore import search as criteria
from mailstore.errors import StorageFailed, StoreError
from mailstore.model import (
    ContentRow,
    FetchPlan,
    FetchResult,
    FetchRow,
    MessageFlags,
    MessageId,
    ModSeq,
    SectionData,
    Uid,
)
from mailstore.uidset import SequenceSet, UidSet
from protocols.imap.commands.fetch_responses import (
    FORMATS,
    Outcome,
    Response,
    Shape,
    Together,
    put_short,
    values_of,
)
from protocols.imap.commands.message_limit import allowed, exceeds, limited_answer, require_page
from protocols.imap.commands.resync import require_qresync, tell_vanished_earlier
from protocols.imap.context import Answer, Context, Hangup, Selected, log
from protocols.imap.grammar.fetch import Fetch, FetchItem, FetchSection, SectionForm
from protocols.imap.grammar.refusal import Disallowed
from protocols.imap.responses import lines
from protocols.imap.responses.search_results import on_page
from protocols.imap.telling import tell_keywords
from protocols.limits import ImapLimits
from protocols.redact import correlation_id, describe

_CONTENT_BATCH_ROWS = 200
"""Messages whose ``\\Seen`` one transaction sets before their content is sent."""
_FLAGS_ONLY = {FetchItem.UID, FetchItem.FLAGS, FetchItem.MODSEQ}


async def _chosen(ctx: Context, selected: Selected, request: Fetch, named: UidSet) -> Sequence[Uid]:
    """The messages that a FETCH is about, of those it names; with CHANGEDSINCE at the cost of the changes."""
    view, since, page = selected.view, request.changed_since, request.page
    changed: Sequence[Uid] | None = None
    if request.vanished and since is not None:
        require_qresync(ctx)
        # Asking for 1:* also means UIDs above the last message that is left.
        everything = request.numbers.resolve(view.uid_ceiling)
        missed = await tell_vanished_earlier(ctx, selected, everything, since)
        changed = [row.uid for row in missed.changed if row.modseq > since and row.uid in named]
    if since is not None or FetchItem.MODSEQ in request.items:
        ctx.enable_condstore()
    if page is not None:
        require_page(page.size, ctx.limits)
    if since is None or (page is None and not _is_worth_it(ctx, view.count(named))):
        uids = view.known(named)
    else:
        if changed is None:
            key = criteria.And((criteria.Uids(named), criteria.ModSeqAtLeast(ModSeq(since + 1))))
            found = await selected.mailbox.search(key, view.modseq)
            view.apply(found.delta)
            changed = found.uids
        uids = view.known(UidSet.of(changed))
    # A page is one of what would be told, so of what CHANGEDSINCE leaves (RFC 9394 section 3.4).
    return uids if page is None else on_page(uids, page)


def _is_worth_it(ctx: Context, count: int) -> bool:
    """Whether to look first which of the messages have changed; a limit is on all that are named."""
    return count > ctx.limits.fetch_batch_rows and not exceeds(count, ctx.limits)


async def fetch(ctx: Context, request: Fetch) -> Answer:
    """FETCH and UID FETCH."""
    selected = ctx.the_mailbox()
    named = selected.view.named(request.numbers, request.by_uid)
    uids = await _chosen(ctx, selected, request, named)
    asked = _Asked.of(request, ctx, selected)
    part = allowed(uids, ctx.limits)
    outcome = await _send(ctx, selected, part.batches(asked.batch_rows(ctx.limits)), asked)
    if outcome.unreadable:
        raise StorageFailed("the content of some messages cannot be read")
    if outcome.unknown_encoding:
        raise Disallowed(b"the transfer encoding of a part is not known", b"UNKNOWN-CTE")
    if outcome.missing and not request.by_uid:
        # RFC 5530 section 3: the numbers stay taken until EXPUNGE may be sent.
        return limited_answer(
            ctx, Answer(b"some messages were expunged meanwhile", b"EXPUNGEISSUED"), part.code
        )
    return limited_answer(ctx, Answer(b"done"), part.code)


def _decode_several(sections: Sequence[FetchSection]) -> bool:
    """Whether more than one part of a message is to be decoded: such parts are whole, and may be large."""
    return sum(section.read.decoded for section in sections) > 1


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a FETCH asks for, sorted by where the answers come from."""

    items: tuple[FetchItem, ...]
    sections: tuple[FetchSection, ...]
    plan: FetchPlan

    @classmethod
    def of(cls, request: Fetch, ctx: Context, selected: Selected) -> _Asked:
        """What ``request`` asks for, with the items that are told unasked."""
        items = [item for item in request.items if isinstance(item, FetchItem)]
        sections = tuple(item for item in request.items if isinstance(item, FetchSection))
        # RFC 3501 section 6.4.8: UID is always told (but for RFC 9586, where the response is called by it);
        # RFC 7162 section 3.1.4.1: so is MODSEQ.
        if request.by_uid and not selected.view.wording.uid_only and FetchItem.UID not in items:
            items.insert(0, FetchItem.UID)
        if request.changed_since is not None and FetchItem.MODSEQ not in items:
            items.append(FetchItem.MODSEQ)
        sets_seen = not selected.read_only and any(not section.peek for section in sections)
        # RFC 7162 section 3.2.4: a change of flags that is told is told with its MODSEQ.
        if ctx.condstore and FetchItem.FLAGS in items and FetchItem.MODSEQ not in items:
            items.append(FetchItem.MODSEQ)
        plan = FetchPlan(
            envelope=FetchItem.ENVELOPE in items,
            body=FetchItem.BODY in items,
            bodystructure=FetchItem.BODYSTRUCTURE in items,
            set_seen=sets_seen,
            changed_since=request.changed_since,
            preview=FetchItem.PREVIEW in items,
            object_ids=FetchItem.EMAILID in items or FetchItem.THREADID in items,
            flags_only=not sections and FetchItem.FLAGS in items and _FLAGS_ONLY.issuperset(items),
            sections=() if _decode_several(sections) else tuple(section.read for section in sections),
            max_bytes=ctx.limits.fetch_content_batch_bytes,
        )
        return cls(tuple(items), sections, plan)

    def batch_rows(self, limits: ImapLimits) -> int:
        """How many messages to send in a transaction."""
        most = limits.fetch_batch_rows
        return min(most, _CONTENT_BATCH_ROWS) if self.sections else most


async def push(
    ctx: Context, selected: Selected, uids: Sequence[Uid], items: Sequence[FetchItem | FetchSection]
) -> None:
    """Tell of messages unasked (RFC 5465 section 5.2); none becomes ``\\Seen`` by that."""
    peeked = (replace(item, peek=True) if isinstance(item, FetchSection) else item for item in items)
    request = Fetch(SequenceSet(()), tuple(peeked), by_uid=True)
    asked = _Asked.of(request, ctx, selected)
    size = asked.batch_rows(ctx.limits)
    await _send(ctx, selected, (uids[at : at + size] for at in range(0, len(uids), size)), asked)


async def _send(ctx: Context, selected: Selected, batches: Iterable[Sequence[Uid]], asked: _Asked) -> Outcome:
    """The responses, a batch of messages in a transaction."""
    view = selected.view
    outcome = Outcome()
    for batch in batches:
        result = await _fetched(selected, batch, asked.plan)
        view.apply(result.delta)
        tell_keywords(ctx, selected)
        rows: Sequence[MessageFlags | FetchRow] = result.flags or result.rows
        if asked.sections:
            outcome.sent = 0
            content = deque(result.content)
            # Without its content, which would stay in memory until all of it is sent.
            result = FetchResult(result.rows, result.delta, result.seen_now)
            await _send_content(ctx, selected, asked, result, content, outcome)
            sent = outcome.sent
        else:
            sent = len(rows)
            for block in _blocks(selected, asked, result):
                ctx.output.put(block)
                await ctx.output.drain()
            if FetchItem.FLAGS in asked.items:
                view.flags_sent(rows)
        due = len(batch) if asked.plan.changed_since is None else len(rows)
        outcome.missing = outcome.missing or sent < due
    return outcome


async def _fetched(selected: Selected, batch: Sequence[Uid], plan: FetchPlan) -> FetchResult:
    """A batch; without its content where some of that cannot be read, as may not be true of all messages."""
    mailbox, since = selected.mailbox, selected.view.modseq
    try:
        return await mailbox.fetch(batch, plan, since)
    except StorageFailed:
        if not plan.sections:
            raise
        return await mailbox.fetch(batch, replace(plan, sections=()), since)


def _blocks(selected: Selected, asked: _Asked, result: FetchResult) -> Iterator[bytes]:
    """Responses without content, a block of rows formatted at a time."""
    view, rows = selected.view, result.rows
    if asked.plan.flags_only:
        items = asked.items
        yield from view.flag_lines(result.flags, FetchItem.UID in items, FetchItem.MODSEQ in items)
        return
    template = (
        b"* %d " + view.wording.fetch + b" (" + b" ".join(FORMATS[item] for item in asked.items) + b")\r\n"
    )
    values = values_of(asked.items, view.recent)
    for at in range(0, len(rows), lines.BLOCK_ROWS):
        block = rows[at : at + lines.BLOCK_ROWS]
        seqs = view.seqs_of(row.uid for row in block)
        cells = chain.from_iterable(
            (seq, *[value(row) for value in values]) for seq, row in zip(seqs, block, strict=True)
        )
        yield template * len(block) % tuple(cells)


async def _send_content(
    ctx: Context,
    selected: Selected,
    asked: _Asked,
    result: FetchResult,
    content: deque[ContentRow],
    outcome: Outcome,
) -> None:
    """Responses with content, of which ``content`` has come along. Everything is let go once it is sent."""
    if not asked.plan.sections:  # they must not be read together
        await _send_by_section(ctx, selected, asked, result, outcome)
        return
    waiting = {row.uid: row for row in result.rows}
    while waiting:
        if not content:
            content.extend(await _readable(selected, asked.plan, waiting, outcome))
        if not content:
            break
        uids = [row.uid for row in content]
        await _send_rows(ctx, selected, asked, result.seen_now, waiting, content, outcome)
        outcome.sent += len(uids)
        _note_flags_sent(selected, asked, result, (waiting[uid] for uid in uids))
        waiting = {uid: row for uid, row in waiting.items() if uid > uids[-1]}


async def _readable(
    selected: Selected, plan: FetchPlan, waiting: dict[Uid, FetchRow], outcome: Outcome
) -> Sequence[ContentRow]:
    """The next content; those whose content cannot be read are passed over and wait no longer."""
    uids = tuple(waiting)
    while uids:
        try:
            return await selected.mailbox.content(uids, plan.sections, plan.max_bytes)
        except StorageFailed:
            if len(uids) > 1:
                uids = uids[: len(uids) // 2]
                continue
            outcome.unreadable = True
            del waiting[uids[0]]
            uids = tuple(waiting)
    return ()


async def _send_rows(
    ctx: Context,
    selected: Selected,
    asked: _Asked,
    seen_now: UidSet,
    rows: Mapping[Uid, FetchRow],
    content: deque[ContentRow],
    outcome: Outcome,
) -> None:
    """A response for all of ``content``, which is empty then."""
    plain, seen = _shapes(ctx, selected, asked)
    together = Together(ctx.output, plain, asked.sections, ctx.limits.write_chunk_bytes)
    some_seen = bool(seen_now)
    for seq in tuple(selected.view.seqs_of(row.uid for row in content)):
        uid, message_id, sections = content.popleft()
        is_seen = some_seen and uid in seen_now
        if not is_seen and together.takes(seq, rows[uid], sections):
            await together.drain()
            continue
        await together.finish()
        left = deque(sections)
        del sections
        response = (seen if is_seen else plain).begun(ctx.output, seq, rows[uid])
        await _put_sections(ctx, selected, response, asked.sections, message_id, left, outcome)
        response.finish()
        await ctx.output.drain()
    await together.finish()


async def _put_sections(
    ctx: Context,
    selected: Selected,
    response: Response,
    sections: Sequence[FetchSection],
    message_id: MessageId,
    left: deque[SectionData],
    outcome: Outcome,
) -> None:
    """The content of one message; ``left`` is empty then."""
    for section in sections:
        if put_short(response, section, left[0], outcome):
            left.popleft()
        else:
            await _put_long(ctx, selected, response, section, message_id, left.popleft())


async def _send_by_section(
    ctx: Context, selected: Selected, asked: _Asked, result: FetchResult, outcome: Outcome
) -> None:
    """As ``_send_content``, one section at a time: decoded parts are whole, so only one may be in memory."""
    plain, seen = _shapes(ctx, selected, asked)
    for fetched in result.rows:
        shape = seen if fetched.uid in result.seen_now else plain
        response = shape.begun(ctx.output, selected.view.seq_of(fetched.uid) or 0, fetched)
        is_there = False
        for section in asked.sections:
            try:
                found = deque(
                    await selected.mailbox.content((fetched.uid,), (section.read,), asked.plan.max_bytes)
                )
            except StoreError as error:
                if not response.is_begun:
                    raise
                log.warning("response cut short, id %s: %s", correlation_id(), describe(error))
                raise Hangup from None  # no other line may follow in the middle of this one
            is_there = bool(found)
            while found:
                _, message_id, data = found.popleft()
                left = deque(data)
                del data
                await _put_sections(ctx, selected, response, (section,), message_id, left, outcome)
        response.finish()
        await ctx.output.drain()
        outcome.sent += is_there
        _note_flags_sent(selected, asked, result, [fetched])


def _shapes(ctx: Context, selected: Selected, asked: _Asked) -> tuple[Shape, Shape]:
    """How responses look, and those of messages whose ``\\Seen`` was just set: it is told (section 6.4.5)."""
    items = seen = asked.items
    if FetchItem.FLAGS not in items:
        seen = (*seen, FetchItem.FLAGS)
        if ctx.condstore and FetchItem.MODSEQ not in items:
            seen = (*seen, FetchItem.MODSEQ)
    return Shape.of(items, selected.view), Shape.of(seen, selected.view)


def _note_flags_sent(
    selected: Selected, asked: _Asked, result: FetchResult, rows: Iterable[FetchRow]
) -> None:
    """Note which flags the client has now been sent."""
    if FetchItem.FLAGS in asked.items:
        selected.view.flags_sent(rows)
    elif result.seen_now:
        selected.view.flags_sent(row for row in rows if row.uid in result.seen_now)


async def _put_long(
    ctx: Context,
    selected: Selected,
    response: Response,
    section: FetchSection,
    message_id: MessageId,
    data: SectionData,
) -> None:
    """Send one item whose literal is long and may not have been read completely yet."""
    assert data.total is not None
    complete = len(data.data) == data.total
    # RFC 3516 section 4.2 again; what is still to be read may have a NUL.
    binary = section.form is SectionForm.DECODED and (not complete or b"\0" in data.data)
    response.put(b"%b %b{%d}\r\n" % (section.label, b"~" if binary else b"", data.total))
    response.flush()
    ctx.output.put(data.data)
    offset, left = data.next_offset, data.total - len(data.data)
    del data
    await ctx.output.drain()
    await _put_rest(ctx, selected, message_id, offset, left)


async def _put_rest(ctx: Context, selected: Selected, message_id: MessageId, offset: int, left: int) -> None:
    """Send the last ``left`` octets, from ``offset`` in the message, of a literal that has been announced.

    Raises:
        Hangup: it cannot be read to the end, so nothing the client could make sense of can follow.
    """
    while left:
        try:
            piece = await selected.mailbox.read_span(
                message_id, offset, min(left, ctx.limits.fetch_content_batch_bytes)
            )
        except CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it was, the literal stays unfinished
            log.warning("literal cut short, id %s: %s", correlation_id(), describe(error))
            raise Hangup from None
        if not piece:
            log.warning("literal cut short, id %s", correlation_id())
            raise Hangup
        offset += len(piece)
        left -= len(piece)
        ctx.output.put(piece)
        del piece  # while the next one is read
        await ctx.output.drain()
