"""FETCH and UID FETCH (RFC 3501 section 6.4.5)."""

from __future__ import annotations

from collections.abc import Sequence

from mailstore import search as criteria
from mailstore.model import ModSeq, Uid
from mailstore.uidset import UidSet
from protocols.imap.commands.message_limit import allowed, limited_answer, require_page
from protocols.imap.commands.resync import require_qresync, tell_vanished_earlier
from protocols.imap.context import Answer, Context, Selected
from protocols.imap.fetch_sender import Asked, send
from protocols.imap.grammar.fetch import Fetch, FetchItem
from protocols.imap.grammar.page import Page
from protocols.imap.grammar.refusal import Disallowed
from protocols.imap.responses.search_results import on_page


async def _paged(
    selected: Selected, uids: Sequence[Uid], changed_since: ModSeq | None, page: Page
) -> Sequence[Uid]:
    """A page of what would be told, so of what CHANGEDSINCE leaves (RFC 9394 section 3.4)."""
    if changed_since is None:
        return on_page(uids, page)
    key = criteria.And((criteria.Uids(UidSet.of(uids)), criteria.ModSeqAtLeast(ModSeq(changed_since + 1))))
    changed = await selected.mailbox.search(key, selected.view.modseq)
    selected.view.apply(changed.delta)
    return on_page(changed.uids, page)


async def fetch(ctx: Context, request: Fetch) -> Answer:
    """FETCH and UID FETCH."""
    selected = ctx.the_mailbox()
    view = selected.view
    uids: Sequence[Uid] = view.resolve(request.numbers, request.by_uid)
    if request.vanished and request.changed_since is not None:
        require_qresync(ctx)
        # Asking for 1:* also means UIDs above the last message that is left.
        named = UidSet.of(uids) | request.numbers.resolve(view.uid_ceiling)
        await tell_vanished_earlier(ctx, selected, named, request.changed_since)
    if request.changed_since is not None or FetchItem.MODSEQ in request.items:
        ctx.enable_condstore()
    if request.page is not None:
        require_page(request.page.size, ctx.limits)
        uids = await _paged(selected, uids, request.changed_since, request.page)
    asked = Asked.of(request, ctx.condstore, selected)
    part = allowed(uids, ctx.limits)
    outcome = await send(ctx, selected, part.batches(asked.batch_rows(ctx.limits)), asked)
    if outcome.unknown_encoding:
        raise Disallowed(b"the transfer encoding of a part is not known", b"UNKNOWN-CTE")
    if outcome.missing and not request.by_uid:
        # RFC 5530 section 3: the numbers stay taken until EXPUNGE may be sent.
        return limited_answer(
            ctx, Answer(b"some messages were expunged meanwhile", b"EXPUNGEISSUED"), part.code
        )
    return limited_answer(ctx, Answer(b"done"), part.code)
