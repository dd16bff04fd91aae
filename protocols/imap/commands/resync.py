"""Telling a client what happened while it was away (RFC 7162 section 3.2)."""

from __future__ import annotations

from mailstore.model import Delta, ModSeq
from mailstore.uidset import UidSet
from protocols.imap.context import Context, Selected
from protocols.imap.grammar.refusal import Malformed
from protocols.imap.grammar.select import Resync
from protocols.imap.responses import lines


def require_qresync(ctx: Context) -> None:
    """Refuse what is only for clients that have said ENABLE QRESYNC (sections 3.2.5 and 3.2.6).

    Raises:
        Malformed: this one has not.
    """
    if not ctx.qresync:
        raise Malformed(b"QRESYNC is not enabled")


async def tell_missed(ctx: Context, selected: Selected, resync: Resync) -> None:
    """What SELECT adds: UIDs that are gone, then flags that changed (section 3.2.5.1).

    Nothing when UIDVALIDITY has changed: the client's cache is void then.
    """
    view = selected.view
    if resync.uid_validity != selected.mailbox.opened.status.uid_validity:
        return
    known = resync.known_uids if resync.known_uids is not None else UidSet(((1, view.uid_ceiling),))
    missed = await tell_vanished_earlier(ctx, selected, known, resync.modseq)
    rows = [row for row in missed.changed if row.modseq > resync.modseq and row.uid in known]
    await ctx.put_in_turns(view.flag_lines(rows, uids=not ctx.uid_only, modseqs=True))
    view.flags_sent(rows)


async def tell_vanished_earlier(ctx: Context, selected: Selected, uids: UidSet, since: ModSeq) -> Delta:
    """VANISHED (EARLIER) for those of ``uids`` expunged after ``since`` (section 3.2.10).

    What the client still counts in this session is left out: its going has to be told by VANISHED
    without EARLIER, which lowers the number of messages. Gives everything that changed since.
    """
    view = selected.view
    missed = await selected.mailbox.sync(min(since, view.modseq))
    gone = (missed.expunged & uids) - view.present(missed.expunged)
    # Apply every sync to the view, so that later ones need not report it again.
    view.catch_up(missed)
    if gone:
        ctx.output.put(lines.vanished_line(gone, earlier=True))
    return missed
