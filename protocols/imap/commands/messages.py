"""EXPUNGE, COPY and MOVE (RFC 3501 section 6.4, RFC 4315, RFC 6851)."""

from __future__ import annotations

from collections.abc import Sequence

from mailstore import search as criteria
from mailstore.errors import NoSuchMailbox
from mailstore.model import CopyResult, SystemFlag, Uid
from mailstore.uidset import UidSet
from protocols.imap.commands.message_limit import allowed, limited_answer, require_saving
from protocols.imap.context import Answer, Context, Selected
from protocols.imap.grammar.messages import Copy, Expunge, Move
from protocols.imap.grammar.refusal import Disallowed
from protocols.imap.picture.view import View
from protocols.imap.responses import lines

_EXPUNGED = Answer(b"some messages were expunged meanwhile", b"EXPUNGEISSUED")
_DONE = Answer(b"done")


async def expunge(ctx: Context, request: Expunge) -> Answer:
    """EXPUNGE and UID EXPUNGE; HIGHESTMODSEQ tells a QRESYNC client that it is up to date."""
    selected = ctx.the_mailbox()
    view = selected.view
    uids, code = None, b""
    if request.uids is not None:
        named = view.resolve(request.uids, by_uid=True)
        part = allowed(named, ctx.limits)
        if part.code:
            part = allowed(await _deleted(selected, named), ctx.limits)
        uids, code = UidSet.of(part.uids), part.code
    delta = await selected.mailbox.expunge(uids, view.modseq)
    view.apply(delta)
    return limited_answer(ctx, _up_to_date(ctx, view) if delta.expunged else _DONE, code)


async def _deleted(selected: Selected, uids: Sequence[Uid]) -> Sequence[Uid]:
    """Those with ``\\Deleted``, which alone count for UID EXPUNGE (RFC 9738 section 3.1)."""
    key = criteria.And((criteria.Uids(UidSet.of(uids)), criteria.HasFlag(SystemFlag.DELETED)))
    found = await selected.mailbox.search(key, selected.view.modseq)
    selected.view.apply(found.delta)
    return found.uids


def _up_to_date(ctx: Context, view: View) -> Answer:
    """The answer once nothing is pending, with HIGHESTMODSEQ (RFC 7162 sections 3.2.8 and 3.2.9).

    A client that does not want to hear of all changes (RFC 5465) would miss them for good.
    """
    if not ctx.qresync or not ctx.wanted_events.flags:
        return _DONE
    return Answer(b"done", b"HIGHESTMODSEQ %d" % view.modseq)


def _copy_uid(result: CopyResult) -> bytes:
    return b"COPYUID %d %s %s" % (
        result.uid_validity,
        lines.ordered_set(result.source),
        lines.ordered_set(result.destination),
    )


async def copy(ctx: Context, request: Copy) -> Answer:
    """COPY with COPYUID (RFC 4315 section 3)."""
    selected = ctx.the_mailbox()
    view = selected.view
    uids = view.resolve(request.numbers, request.by_uid)
    if not uids:
        return _DONE
    require_saving(uids, ctx.limits)
    try:
        result = await selected.mailbox.copy(UidSet.of(uids), request.mailbox, view.modseq)
    except NoSuchMailbox:
        raise Disallowed(b"no such mailbox", b"TRYCREATE") from None
    view.apply(result.delta)
    if not result.source:
        return _DONE if request.by_uid else _EXPUNGED
    ctx.has_put(request.mailbox, result.destination)
    return Answer(b"copied", _copy_uid(result))


async def move(ctx: Context, request: Move) -> Answer:
    """MOVE: COPYUID comes untagged, before the EXPUNGEs (RFC 6851 section 4.3).

    Moving a message that another session has moved already is not an error.
    """
    selected = ctx.the_mailbox()
    view = selected.view
    uids = view.resolve(request.numbers, request.by_uid)
    if not uids:
        return _DONE
    if selected.read_only:
        raise Disallowed(b"the mailbox is open for reading only", b"NOPERM")
    part = allowed(uids, ctx.limits)
    try:
        result = await selected.mailbox.move(UidSet.of(part.uids), request.mailbox, view.modseq)
    except NoSuchMailbox:
        raise Disallowed(b"no such mailbox", b"TRYCREATE") from None
    await ctx.turn_after(len(result.source))
    view.apply(result.delta)
    if result.source:
        ctx.has_put(request.mailbox, result.destination)
        await ctx.turn_after(len(result.source))
        ctx.output.put(lines.tagged(b"*", b"OK", b"moved", _copy_uid(result)))
        await ctx.turn_after(len(result.source))
        return limited_answer(ctx, _up_to_date(ctx, view), part.code)
    return limited_answer(ctx, _DONE, part.code)
