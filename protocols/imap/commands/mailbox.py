"""Handlers for commands about mailboxes (RFC 3501 section 6.3, RFCs 2342, 5258, 5819, 6154, 9208)."""

from __future__ import annotations

from collections.abc import Iterable

from mailstore.model import SpecialUse
from protocols.imap.commands.metadata import metadata_line, special_use_entry
from protocols.imap.commands.rights import my_rights_line
from protocols.imap.context import Answer, Context
from protocols.imap.grammar.mailbox import (
    Create,
    Delete,
    GetQuota,
    GetQuotaRoot,
    List,
    ListReturn,
    Lsub,
    Rename,
    SetQuota,
    Status,
    StatusItem,
    Subscribe,
    Unsubscribe,
)
from protocols.imap.grammar.refusal import Disallowed
from protocols.imap.grammar.session import Namespace
from protocols.imap.responses import lines
from protocols.imap.responses.listing import Line, list_lines, lsub_lines

_DONE = Answer(b"done")
_VIRTUAL = frozenset({SpecialUse.ALL, SpecialUse.FLAGGED})
_METADATA_BATCH_BYTES = 256 * 1024
"""Annotations of how many mailboxes are read at once for LIST."""


async def create(ctx: Context, request: Create) -> Answer:
    """CREATE; one mailbox has at most one special use here (RFC 6154 section 3)."""
    if len(request.special_use) > 1:
        raise Disallowed(b"one special-use attribute at most", b"USEATTR")
    if _VIRTUAL.intersection(request.special_use):
        # RFC 6154 section 2: these are views of other mailboxes, which we do not have.
        raise Disallowed(b"special-use attribute not possible", b"USEATTR")
    made = await ctx.the_account().create(request.mailbox, next(iter(request.special_use), None))
    if ctx.watch is not None:
        ctx.watch.picture.created(made, request.mailbox)
    ctx.tell_respelled(request.mailbox, request.mailbox)
    # RFC 8474 section 4.1.
    return Answer(b"done", b"MAILBOXID " + lines.object_id(made.object_id))


async def delete(ctx: Context, request: Delete) -> Answer:
    """DELETE; if it is the selected mailbox, it is closed first."""
    await ctx.the_account().delete(request.mailbox)
    if ctx.watch is not None:
        ctx.watch.picture.deleted(request.mailbox)
    ctx.tell_respelled(request.mailbox, request.mailbox, (b"\\NonExistent",))
    if ctx.selected is not None and ctx.selected.name == request.mailbox:
        ctx.leave_mailbox()
        ctx.output.put(lines.tagged(b"*", b"OK", b"the mailbox is gone", b"CLOSED"))
    return _DONE


async def rename(ctx: Context, request: Rename) -> Answer:
    """RENAME."""
    await ctx.the_account().rename(request.old, request.new)
    if ctx.watch is not None:
        ctx.watch.picture.renamed(request.old, request.new)
    ctx.tell_respelled(request.new, request.old)
    return _DONE


async def subscribe(ctx: Context, request: Subscribe) -> Answer:
    """SUBSCRIBE."""
    await ctx.the_account().subscribe(request.mailbox)
    if ctx.watch is not None:
        ctx.watch.picture.subscribed(request.mailbox)
    return _DONE


async def unsubscribe(ctx: Context, request: Unsubscribe) -> Answer:
    """UNSUBSCRIBE."""
    await ctx.the_account().unsubscribe(request.mailbox)
    if ctx.watch is not None:
        ctx.watch.picture.unsubscribed(request.mailbox)
    return _DONE


async def list_mailboxes(ctx: Context, request: List) -> Answer:
    """LIST, with STATUS behind each line when asked for (RFC 5819)."""
    if not request.extended and request.patterns == ("",):
        # RFC 3501 section 6.3.8: the question for the delimiter and the root of the reference.
        ctx.output.put(lines.list_line((b"\\Noselect",), "", ctx.utf8))
        return _DONE
    account = ctx.the_account()
    found = await _computed(ctx, list_lines(await account.list_mailboxes(), request))
    existing = [line.name for line in found if line.exists]
    position = {name: at for at, name in enumerate(existing)}
    statuses = await account.statuses(existing) if request.status else {}
    entries: dict[str, dict[str, bytes]] = {}
    for line in found:
        await ctx.give_way()
        ctx.output.put(lines.list_line(line.attributes, line.name, ctx.utf8, line.child_info))
        if line.exists and ListReturn.MYRIGHTS in request.returned:
            ctx.output.put(my_rights_line(ctx, line.name))
        status = statuses.get(line.name)
        if status is not None:
            ctx.output.put(
                lines.status_line(line.name, status, request.status, ctx.limits.append_max_bytes, ctx.utf8)
            )
        if line.exists and request.metadata:
            if line.name not in entries:
                # As many as fit from here on: values can be long.
                after = existing[position[line.name] :]
                entries = await account.annotations_of(after, request.metadata, _METADATA_BATCH_BYTES)
            stored = {**entries.get(line.name, {}), **special_use_entry(line.attributes)}
            ctx.output.put(
                metadata_line(ctx, line.name, {entry: stored.get(entry) for entry in request.metadata})
            )
        await ctx.output.drain()
    if StatusItem.HIGHESTMODSEQ in request.status:
        ctx.enable_condstore()
    return _DONE


async def _computed(ctx: Context, listed: Iterable[Line | None]) -> list[Line]:
    """The lines, yielding to other sessions while they are computed."""
    lines_found = []
    for line in listed:
        if line is not None:
            lines_found.append(line)
        await ctx.give_way()
    return lines_found


async def lsub(ctx: Context, request: Lsub) -> Answer:
    """LSUB."""
    listed = await ctx.the_account().list_mailboxes()
    for line in await _computed(ctx, lsub_lines(listed, request.reference, request.pattern)):
        await ctx.give_way()
        ctx.output.put(lines.list_line(line.attributes, line.name, ctx.utf8, command=b"LSUB"))
        await ctx.output.drain()
    return _DONE


async def namespace(ctx: Context, request: Namespace) -> Answer:
    """NAMESPACE: one personal namespace, nobody else's (RFC 2342)."""
    ctx.output.put(lines.untagged(b'NAMESPACE (("" "/")) NIL NIL'))
    return _DONE


async def status(ctx: Context, request: Status) -> Answer:
    """STATUS."""
    counters = await ctx.the_account().status(request.mailbox)
    if StatusItem.HIGHESTMODSEQ in request.items:
        ctx.enable_condstore()
    ctx.output.put(
        lines.status_line(request.mailbox, counters, request.items, ctx.limits.append_max_bytes, ctx.utf8)
    )
    return _DONE


async def get_quota(ctx: Context, request: GetQuota) -> Answer:
    """GETQUOTA; the only quota root is ``""``."""
    if request.root:
        raise Disallowed(b"no such quota root", b"NONEXISTENT")
    ctx.output.put(lines.quota_line(await ctx.the_account().quota()))
    return _DONE


async def get_quota_root(ctx: Context, request: GetQuotaRoot) -> Answer:
    """GETQUOTAROOT: every mailbox counts for the one root."""
    quota = await ctx.the_account().quota()
    ctx.output.put(lines.untagged(b'QUOTAROOT %s ""' % lines.mailbox(request.mailbox, ctx.utf8)))
    ctx.output.put(lines.quota_line(quota))
    return _DONE


async def set_quota(ctx: Context, request: SetQuota) -> Answer:
    """SETQUOTA: refused, quotas are set by the administrator."""
    raise Disallowed(b"quotas are set by the administrator", b"NOPERM")
