"""STORE (RFC 3501 section 6.4.6), conditional or not (RFC 7162 section 3.1.3), in bounded batches.

Each batch is a transaction with a modification sequence of its own, so memory is bounded and other
sessions are served in between. Nothing asks for one transaction: the conditional STORE tests and sets
message by message, a failed test of one message keeps no other one from being changed (RFC 7162 section
3.1.3), and messages changed together may, but need not, share their modification sequence (section 3.1).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from mailstore.errors import StoreError
from mailstore.model import ModSeq, StoreResult
from mailstore.uidset import UidSet
from protocols.imap.commands.message_limit import Allowed, allowed, limited_answer
from protocols.imap.context import Answer, Context, Selected
from protocols.imap.grammar.messages import Store
from protocols.imap.grammar.refusal import Disallowed
from protocols.imap.picture.view import View
from protocols.imap.responses import lines
from protocols.imap.telling import tell_keywords

_EXPUNGED = Answer(b"some messages were expunged meanwhile", b"EXPUNGEISSUED")
_DONE = Answer(b"done")


@dataclass(slots=True)
class _Outcome:
    """The result of the batches so far."""

    modified: UidSet = field(default_factory=UidSet)
    missing: bool = False


async def store(ctx: Context, request: Store) -> Answer:
    """STORE and UID STORE."""
    selected = ctx.the_mailbox()
    view = selected.view
    uids = view.resolve(request.numbers, request.by_uid)
    if request.unchanged_since is not None:
        ctx.enable_condstore()
    if selected.read_only:
        raise Disallowed(b"the mailbox is open for reading only", b"NOPERM")
    part = allowed(uids, ctx.limits)
    outcome = await _store_in_batches(ctx, selected, request, part)
    return limited_answer(ctx, _answer(view, request, outcome), part.code)


def _answer(view: View, request: Store, outcome: _Outcome) -> Answer:
    if outcome.modified:
        # RFC 7162 section 3.1.3: the numbers are of the kind the command used.
        failed = outcome.modified
        if not request.by_uid:
            failed = UidSet.of(seq for uid in failed if (seq := view.seq_of(uid)) is not None)
        return Answer(b"conditional STORE failed", b"MODIFIED " + failed.to_bytes())
    return _EXPUNGED if outcome.missing and not request.by_uid else _DONE


async def _store_in_batches(ctx: Context, selected: Selected, request: Store, part: Allowed) -> _Outcome:
    view, outcome, began = selected.view, _Outcome(), selected.view.modseq
    try:
        for batch in part.batches(ctx.limits.store_batch_rows):
            since = view.modseq
            result = await selected.mailbox.store_flags(
                UidSet.of(batch), request.mode, request.flags, request.unchanged_since, since
            )
            view.apply(result.delta)
            tell_keywords(ctx, selected)
            _report(ctx, view, request, result, since)
            await ctx.output.drain()
            outcome.modified |= result.modified
            outcome.missing = outcome.missing or bool(result.missing)
    except StoreError:
        if request.silent and view.modseq != began:
            await _tell_after_all(selected, began)
        raise
    return outcome


async def _tell_after_all(selected: Selected, began: ModSeq) -> None:
    """The command failed after some batches: report what .SILENT has suppressed so far."""
    selected.view.apply(await selected.mailbox.sync(began))


def _tells_uids(ctx: Context, request: Store) -> bool:
    return (request.by_uid or ctx.qresync) and not ctx.uid_only


def _report(ctx: Context, view: View, request: Store, result: StoreResult, since: ModSeq) -> None:
    """Report the new flags; with .SILENT only what the client cannot know.

    When another session may have changed the same messages just before, .SILENT keeps quiet about
    nothing: the pending update stays and tells the whole state.
    """
    if not request.silent:
        ctx.output.put_all(view.flag_lines(result.updated, _tells_uids(ctx, request), ctx.condstore))
        view.flags_sent(result.updated)
        return
    # Ours is the first transaction after ``since`` when its modseq is the next one.
    ours = tuple(
        row
        for row in result.updated
        if row.modseq == since + 1 and (result.written is None or row.uid in result.written)
    )
    if ctx.condstore:
        numbered = ((seq, row.uid, row.modseq) for seq, row in view.with_numbers(ours))
        ctx.output.put_all(lines.modseq_lines(numbered, _tells_uids(ctx, request), view.wording.fetch))
    view.flags_sent(ours)
