"""SELECT, EXAMINE, CLOSE and UNSELECT (RFC 3501 sections 6.3 and 6.4, RFC 3691)."""

from __future__ import annotations

from mailstore.model import Opened
from protocols.imap.commands.resync import require_qresync, tell_missed
from protocols.imap.context import Answer, Context, Selected
from protocols.imap.grammar.select import Close, Select, Unselect
from protocols.imap.grammar.table import State
from protocols.imap.picture.view import View, uid_required
from protocols.imap.responses import lines

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
        # RFC 9051 section 6.3.2: LIST is sent; RECENT and UNSEEN no longer exist.
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
    """CLOSE: expunges without reporting it, unless the mailbox is read-only (section 6.4.2)."""
    selected = ctx.the_mailbox()
    if not selected.read_only:
        await selected.mailbox.expunge(None, selected.view.modseq)
    ctx.leave_mailbox()
    return _DONE


async def unselect(ctx: Context, request: Unselect) -> Answer:
    """UNSELECT (RFC 3691)."""
    ctx.leave_mailbox()
    return _DONE
