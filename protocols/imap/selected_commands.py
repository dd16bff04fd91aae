"""Handlers for selecting a mailbox and changing what is in it (RFC 3501 sections 6.3 and 6.4)."""

from __future__ import annotations

from collections.abc import Sequence

from mailstore import search as criteria
from mailstore.errors import NoSuchMailbox
from mailstore.model import CopyResult, Opened, SystemFlag, Uid
from mailstore.uidset import UidSet
from protocols.imap.connection import LineReceived
from protocols.imap.context import Answer, Context, Selected, Unanswered
from protocols.imap.grammar.fetch import Copy, Expunge, Move
from protocols.imap.grammar.refusal import Disallowed, Malformed
from protocols.imap.grammar.select import Close, Select, Unselect
from protocols.imap.grammar.session import Idle
from protocols.imap.grammar.table import State
from protocols.imap.message_limit import allowed, require_saving, told
from protocols.imap.picture.view import View, uid_required
from protocols.imap.responses import lines
from protocols.imap.resync import require_qresync, tell_missed
from protocols.imap.watching import changes_heard, tell_in_idle

_EXPUNGED = Answer(b"some messages were expunged meanwhile", b"EXPUNGEISSUED")
_DONE = Answer(b"done")


async def select(ctx: Context, request: Select) -> Answer:
    """SELECT and EXAMINE; a failed one leaves nothing selected (section 6.3.1)."""
    if request.resync is not None:
        require_qresync(ctx)
        if request.resync.by_number and ctx.uid_only:
            raise uid_required()
    if ctx.selected is not None:
        ctx.leave_mailbox()
        # RFC 7162 section 3.2.11: what follows is about the new mailbox.
        ctx.output.put(lines.tagged(b"*", b"OK", b"the previous mailbox is closed", b"CLOSED"))
    mailbox = await ctx.the_account().select(request.mailbox, request.read_only)
    opened = mailbox.opened
    view = View(opened, ctx.wording)
    if request.condstore:
        ctx.condstore = True
    ctx.selected = Selected(mailbox, view, opened.name, opened.read_only)
    ctx.state = State.SELECTED
    put = ctx.output.put
    ctx.output.put_all(view.flags_defined())
    put(lines.untagged(b"%d EXISTS" % view.exists))
    if ctx.rev2:
        # RFC 9051 section 6.3.2: the name is told, RECENT and UNSEEN are no more.
        supplied = ctx.respelled.get(request.mailbox)
        put(lines.list_line((), opened.name, ctx.utf8, old_name=supplied))
    else:
        _put_recent_and_unseen(ctx, view, opened)
    put(lines.tagged(b"*", b"OK", b"UIDs are valid", b"UIDVALIDITY %d" % opened.status.uid_validity))
    put(lines.tagged(b"*", b"OK", b"predicted next UID", b"UIDNEXT %d" % opened.status.uid_next))
    put(lines.tagged(b"*", b"OK", b"highest", b"HIGHESTMODSEQ %d" % opened.status.highest_modseq))
    # RFC 8474 section 4.2.
    put(lines.tagged(b"*", b"OK", b"its id", b"MAILBOXID " + lines.object_id(opened.status.object_id)))
    if request.resync is not None:
        await tell_missed(ctx, ctx.selected, request.resync)
    return Answer(b"selected", b"READ-ONLY" if opened.read_only else b"READ-WRITE")


def _put_recent_and_unseen(ctx: Context, view: View, opened: Opened) -> None:
    """RECENT and UNSEEN (RFC 3501 section 6.3.1)."""
    ctx.output.put(lines.untagged(b"%d RECENT" % len(opened.recent)))
    if ctx.uid_only:
        # RFC 9586 section 3: no sequence number is told, and this one has no other form.
        return
    unseen = view.seq_of(opened.first_unseen) if opened.first_unseen is not None else None
    if unseen is not None:
        ctx.output.put(lines.tagged(b"*", b"OK", b"first unseen", b"UNSEEN %d" % unseen))


async def close(ctx: Context, request: Close) -> Answer:
    """CLOSE: expunges in silence, but not when opened for reading only (section 6.4.2)."""
    selected = ctx.the_mailbox()
    if not selected.read_only:
        await selected.mailbox.expunge(None, selected.view.modseq)
    ctx.leave_mailbox()
    return _DONE


async def unselect(ctx: Context, request: Unselect) -> Answer:
    """UNSELECT (RFC 3691)."""
    ctx.leave_mailbox()
    return _DONE


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
    return told(ctx, _up_to_date(ctx, view) if delta.expunged else _DONE, code)


async def _deleted(selected: Selected, uids: Sequence[Uid]) -> Sequence[Uid]:
    """Those with ``\\Deleted``, which alone count for UID EXPUNGE (RFC 9738 section 3.1)."""
    key = criteria.And((criteria.Uids(UidSet.of(uids)), criteria.HasFlag(SystemFlag.DELETED)))
    found = await selected.mailbox.search(key, selected.view.modseq)
    selected.view.apply(found.delta)
    return found.uids


def _up_to_date(ctx: Context, view: View) -> Answer:
    """The answer to a command behind which nothing is left to tell (RFC 7162 sections 3.2.8 and 3.2.9).

    A client that does not want to hear of all changes (RFC 5465) would miss them for good.
    """
    if not ctx.qresync or not ctx.wanted.flags:
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

    Moving what somebody else has moved already is no failure.
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
        return told(ctx, _up_to_date(ctx, view), part.code)
    return told(ctx, _DONE, part.code)


async def idle(ctx: Context, request: Idle) -> Answer:
    """IDLE (RFC 2177): tell changes as they come until the client says DONE.

    With NOTIFY these are the ones that the client has asked for (RFC 5465 section 4).
    """
    ctx.output.put(b"+ idling\r\n")
    with changes_heard(ctx) as heard:
        while ctx.goodbye is None:
            if heard.due:
                await tell_in_idle(ctx, heard)
            await ctx.output.flush()
            line = ctx.connection.next_line()
            if isinstance(line, LineReceived):
                if line.text.rstrip(b" ").upper() == b"DONE":
                    return _DONE
                raise Malformed(b"DONE expected")
            if line is not None:
                raise Malformed(b"line too long")
            data = await ctx.channel.read(ctx.limits.idle_timeout_s)
            if data is not None:
                ctx.connection.feed(data)
    # RFC 2177 section 3: the tagged response comes behind DONE; programs show anything else as an error.
    raise Unanswered
