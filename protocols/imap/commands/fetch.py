"""FETCH and UID FETCH (RFC 3501 section 6.4.5): of which messages, and the responses.

Metadata is sent in bounded batches, content with back-pressure in between.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain

from twisted.internet.defer import CancelledError

from mailstore import search as criteria
from mailstore.model import (
    ContentRow,
    FetchPlan,
    FetchResult,
    FetchRow,
    MessageFlags,
    ModSeq,
    SectionData,
    Uid,
)
from mailstore.uidset import SequenceSet, UidSet
from protocols.imap.commands.message_limit import allowed, exceeds, limited_answer, require_page
from protocols.imap.commands.resync import require_qresync, tell_vanished_earlier
from protocols.imap.context import Answer, Context, Hangup, Selected, log
from protocols.imap.grammar.fetch import Fetch, FetchItem, FetchSection, SectionForm
from protocols.imap.grammar.refusal import Disallowed
from protocols.imap.output import Output
from protocols.imap.picture.view import View
from protocols.imap.responses import lines
from protocols.imap.responses.search_results import on_page
from protocols.imap.telling import tell_keywords
from protocols.limits import ImapLimits
from protocols.redact import correlation_id, describe

_CONTENT_BATCH_ROWS = 200
"""Messages whose ``\\Seen`` one transaction sets before their content is sent."""
_SHORT_BYTES = 16 * 1024
"""Literals up to this size are copied into their response rather than sent by themselves."""
_FLAGS_ONLY = {FetchItem.UID, FetchItem.FLAGS, FetchItem.MODSEQ}
_FORMATS: dict[FetchItem, bytes] = {
    FetchItem.UID: b"UID %d",
    FetchItem.FLAGS: b"FLAGS (%b)",
    FetchItem.INTERNALDATE: b"INTERNALDATE %b",
    FetchItem.SIZE: b"RFC822.SIZE %d",
    FetchItem.ENVELOPE: b"ENVELOPE %b",
    FetchItem.BODY: b"BODY %b",
    FetchItem.BODYSTRUCTURE: b"BODYSTRUCTURE %b",
    FetchItem.MODSEQ: b"MODSEQ (%d)",
    FetchItem.EMAILID: b"EMAILID %b",
    FetchItem.THREADID: b"THREADID %b",
    FetchItem.SAVEDATE: b"SAVEDATE %b",
    FetchItem.PREVIEW: b"PREVIEW %b",
}


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
    if outcome.unknown_encoding:
        raise Disallowed(b"the transfer encoding of a part is not known", b"UNKNOWN-CTE")
    if outcome.missing and not request.by_uid:
        # RFC 5530 section 3: the numbers stay taken until EXPUNGE may be sent.
        return limited_answer(
            ctx, Answer(b"some messages were expunged meanwhile", b"EXPUNGEISSUED"), part.code
        )
    return limited_answer(ctx, Answer(b"done"), part.code)


def _values(items: Sequence[FetchItem], recent: UidSet) -> list[Callable[[FetchRow], int | bytes]]:
    getters: dict[FetchItem, Callable[[FetchRow], int | bytes]] = {
        FetchItem.UID: lambda row: row.uid,
        FetchItem.FLAGS: lambda row: lines.flags(row.flags, bool(recent) and row.uid in recent),
        FetchItem.INTERNALDATE: lambda row: lines.internal_date(row.internal_date),
        FetchItem.SIZE: lambda row: row.size_bytes,
        FetchItem.ENVELOPE: lambda row: row.envelope or b"NIL",
        FetchItem.BODY: lambda row: row.body or b"NIL",
        FetchItem.BODYSTRUCTURE: lambda row: row.bodystructure or b"NIL",
        FetchItem.MODSEQ: lambda row: row.modseq,
        FetchItem.EMAILID: lambda row: lines.object_id(row.email_id),
        FetchItem.THREADID: lambda row: lines.object_id(row.thread_id),
        FetchItem.SAVEDATE: lambda row: lines.save_date(row.save_date),
        # RFC 8970 section 3.2: always UTF-8; "" where a message has no text.
        FetchItem.PREVIEW: lambda row: lines.quoted((row.preview or "").encode()),
    }
    return [getters[item] for item in items]


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


@dataclass(slots=True)
class _Outcome:
    """The result of sending: messages sent with content, whether any was missing or could not be decoded."""

    sent: int = 0
    missing: bool = False
    unknown_encoding: bool = False


class _Response:
    """A FETCH response built item by item; without items nothing is sent."""

    def __init__(self, output: Output, said: bytes, has_items: bool) -> None:
        """``said`` is how it begins, with items in it or without."""
        self._output = output
        self._parts = [said]
        self._has_items = has_items

    def put(self, item: bytes) -> None:
        """One more item."""
        if self._has_items:
            self._parts.append(b" ")
        self._parts.append(item)
        self._has_items = True

    def flush(self) -> None:
        """Send what there is so far, because a long literal follows."""
        self._output.put(b"".join(self._parts))
        self._parts.clear()

    def finish(self) -> None:
        """No more items."""
        if self._has_items:
            self._parts.append(b")\r\n")
            self.flush()


@dataclass(frozen=True, slots=True)
class _Shape:
    """The part of a response that precedes content, prepared once for many messages."""

    template: bytes
    values: tuple[Callable[[FetchRow], int | bytes], ...]

    @classmethod
    def of(cls, items: Sequence[FetchItem], view: View) -> _Shape:
        """The shape of responses with these items."""
        cells = b" ".join(_FORMATS[item] for item in items)
        return cls(b"* %d " + view.wording.fetch + b" (" + cells, tuple(_values(items, view.recent)))

    def begun(self, output: Output, seq: int, row: FetchRow) -> _Response:
        """A response about one message."""
        said = self.template % (seq, *[value(row) for value in self.values])
        return _Response(output, said, bool(self.values))


async def push(
    ctx: Context, selected: Selected, uids: Sequence[Uid], items: Sequence[FetchItem | FetchSection]
) -> None:
    """Tell of messages unasked (RFC 5465 section 5.2); none becomes ``\\Seen`` by that."""
    peeked = (replace(item, peek=True) if isinstance(item, FetchSection) else item for item in items)
    request = Fetch(SequenceSet(()), tuple(peeked), by_uid=True)
    asked = _Asked.of(request, ctx, selected)
    size = asked.batch_rows(ctx.limits)
    await _send(ctx, selected, (uids[at : at + size] for at in range(0, len(uids), size)), asked)


async def _send(
    ctx: Context, selected: Selected, batches: Iterable[Sequence[Uid]], asked: _Asked
) -> _Outcome:
    """The responses, a batch of messages in a transaction."""
    view = selected.view
    outcome = _Outcome()
    for batch in batches:
        result = await selected.mailbox.fetch(batch, asked.plan, view.modseq)
        view.apply(result.delta)
        tell_keywords(ctx, selected)
        rows: Sequence[MessageFlags | FetchRow] = result.flags or result.rows
        if asked.sections:
            outcome.sent = 0
            await _send_content(ctx, selected, asked, result, outcome)
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


def _blocks(selected: Selected, asked: _Asked, result: FetchResult) -> Iterator[bytes]:
    """Responses without content, a block of rows formatted at a time."""
    view, rows = selected.view, result.rows
    if asked.plan.flags_only:
        items = asked.items
        yield from view.flag_lines(result.flags, FetchItem.UID in items, FetchItem.MODSEQ in items)
        return
    template = (
        b"* %d " + view.wording.fetch + b" (" + b" ".join(_FORMATS[item] for item in asked.items) + b")\r\n"
    )
    values = _values(asked.items, view.recent)
    for at in range(0, len(rows), lines.BLOCK_ROWS):
        block = rows[at : at + lines.BLOCK_ROWS]
        seqs = view.seqs_of(row.uid for row in block)
        cells = chain.from_iterable(
            (seq, *[value(row) for value in values]) for seq, row in zip(seqs, block, strict=True)
        )
        yield template * len(block) % tuple(cells)


async def _send_content(
    ctx: Context, selected: Selected, asked: _Asked, result: FetchResult, outcome: _Outcome
) -> None:
    """Responses with content."""
    if not asked.plan.sections:  # they must not be read together
        await _send_by_section(ctx, selected, asked, result, outcome)
        return
    plain, seen = _shapes(ctx, selected, asked)
    waiting = {row.uid: row for row in result.rows}
    came_along = result.content
    while waiting:
        rows = came_along or await selected.mailbox.content(
            tuple(waiting), asked.plan.sections, asked.plan.max_bytes
        )
        came_along = ()
        if not rows:
            break
        seqs = selected.view.seqs_of(row.uid for row in rows)
        for seq, row in zip(seqs, rows, strict=True):
            shape = seen if row.uid in result.seen_now else plain
            response = shape.begun(ctx.output, seq, waiting[row.uid])
            for section, data in zip(asked.sections, row.sections, strict=True):
                if not _put_short(response, section, data, outcome):
                    await _put_long(ctx, selected, response, section, row, data)
            response.finish()
            await ctx.output.drain()
        outcome.sent += len(rows)
        _note_flags_sent(selected, asked, result, [waiting[row.uid] for row in rows])
        last = rows[-1].uid
        waiting = {uid: row for uid, row in waiting.items() if uid > last}


async def _send_by_section(
    ctx: Context, selected: Selected, asked: _Asked, result: FetchResult, outcome: _Outcome
) -> None:
    """As ``_send_content``, one section at a time: decoded parts are whole, so only one may be in memory."""
    plain, seen = _shapes(ctx, selected, asked)
    for fetched in result.rows:
        shape = seen if fetched.uid in result.seen_now else plain
        response = shape.begun(ctx.output, selected.view.seq_of(fetched.uid) or 0, fetched)
        found: tuple[ContentRow, ...] = ()
        for section in asked.sections:
            found = await selected.mailbox.content((fetched.uid,), (section.read,), asked.plan.max_bytes)
            for row in found:
                if not _put_short(response, section, row.sections[0], outcome):
                    await _put_long(ctx, selected, response, section, row, row.sections[0])
        response.finish()
        await ctx.output.drain()
        outcome.sent += len(found)
        _note_flags_sent(selected, asked, result, [fetched])


def _shapes(ctx: Context, selected: Selected, asked: _Asked) -> tuple[_Shape, _Shape]:
    """How responses look, and those of messages whose ``\\Seen`` was just set: it is told (section 6.4.5)."""
    items = seen = asked.items
    if FetchItem.FLAGS not in items:
        seen = (*seen, FetchItem.FLAGS)
        if ctx.condstore and FetchItem.MODSEQ not in items:
            seen = (*seen, FetchItem.MODSEQ)
    return _Shape.of(items, selected.view), _Shape.of(seen, selected.view)


def _note_flags_sent(
    selected: Selected, asked: _Asked, result: FetchResult, rows: Sequence[FetchRow]
) -> None:
    """Note which flags the client has now been sent."""
    if FetchItem.FLAGS in asked.items:
        selected.view.flags_sent(rows)
    elif result.seen_now:
        selected.view.flags_sent(row for row in rows if row.uid in result.seen_now)


def _put_short(response: _Response, section: FetchSection, data: SectionData, outcome: _Outcome) -> bool:
    """Add one item whose content is short and complete; False if it is not.

    One whose encoding is not known is left out (RFC 3516 section 4.3).
    """
    if data.unknown_encoding:
        outcome.unknown_encoding = True
    elif section.form is SectionForm.DECODED_SIZE:
        response.put(b"%b %d" % (section.label, data.total or 0))
    elif data.total is None:
        response.put(section.label + b" NIL")
    elif len(data.data) == data.total <= _SHORT_BYTES:
        # RFC 3516 section 4.2: with a NUL it has to be a literal8.
        binary = section.form is SectionForm.DECODED and b"\0" in data.data
        response.put(b"%b %b{%d}\r\n%b" % (section.label, b"~" if binary else b"", data.total, data.data))
    else:
        return False
    return True


async def _put_long(
    ctx: Context,
    selected: Selected,
    response: _Response,
    section: FetchSection,
    row: ContentRow,
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
    await ctx.output.drain()
    if not complete:
        await _put_rest(ctx, selected, row, data)


async def _put_rest(ctx: Context, selected: Selected, row: ContentRow, data: SectionData) -> None:
    """Send the rest of a literal whose length has been announced.

    Raises:
        Hangup: it cannot be read to the end, so nothing the client could make sense of can follow.
    """
    assert data.total is not None
    offset, left = data.next_offset, data.total - len(data.data)
    while left:
        try:
            piece = await selected.mailbox.read_span(
                row.message_id, offset, min(left, ctx.limits.fetch_content_batch_bytes)
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
        await ctx.output.drain()
