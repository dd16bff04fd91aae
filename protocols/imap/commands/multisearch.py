"""ESEARCH: searching several mailboxes at once, all of the user's own (RFC 7377)."""

from __future__ import annotations

from collections.abc import Iterable

from mailstore import search as criteria
from mailstore.errors import NoSuchMailbox
from mailstore.model import MailboxInfo, MailboxName, MailboxStatus
from mailstore.uidset import STAR, SequenceSet, UidSet
from protocols.imap.commands.live_search import live_search
from protocols.imap.context import Answer, Context
from protocols.imap.grammar.refusal import Malformed
from protocols.imap.grammar.search import MultiSearch, Search, SearchReturn, Source, Sources
from protocols.imap.picture.fuzzy import BETTER, among, scores
from protocols.imap.picture.numbering import resolve
from protocols.imap.responses import lines, search_results
from protocols.imap.responses.listing import superiors

_DONE = Answer(b"done")
_HERE = Sources(Source.SELECTED)


class _Elsewhere:
    """What a mailbox that is not selected has in place of a view: UIDs and nothing else."""

    def __init__(self, largest_uid: int) -> None:
        self.largest_uid = largest_uid
        self.recent = UidSet()

    @property
    def saved(self) -> UidSet:
        """RFC 7377 section 2.2: the saved result belongs to the selected mailbox."""
        raise Malformed(b"$ needs the selected mailbox alone")

    def numbered(self, numbers: SequenceSet) -> UidSet:
        """RFC 7377 section 2.2: only the selected mailbox has sequence numbers."""
        raise Malformed(b"sequence numbers need the selected mailbox alone")


async def multisearch(ctx: Context, request: MultiSearch) -> Answer:
    """ESEARCH; one response for each mailbox in which something was found."""
    if _HERE in request.sources and ctx.selected is None:
        raise Malformed(b"no mailbox is selected")
    inner = request.search
    if set(request.sources) == {_HERE}:
        selected = ctx.the_mailbox()
        validity = selected.mailbox.opened.status.uid_validity
        return await live_search(ctx, inner, _correlator(ctx, selected.name, validity))
    if SearchReturn.SAVE in (inner.returned or ()):
        # RFC 7377 section 2.2.
        raise Malformed(b"SAVE needs the selected mailbox alone")
    if SearchReturn.UPDATE in (inner.returned or ()):
        raise Malformed(b"UPDATE needs the selected mailbox alone")
    # Whether the criteria may be used here is clear before anything is searched.
    resolve(inner.key, _Elsewhere(1))
    if inner.uses_modseq:
        ctx.enable_condstore()
    account = ctx.the_account()
    listed = (await account.list_mailboxes()).mailboxes
    names = sorted(await _chosen(ctx, request, listed))
    statuses = await account.statuses(names)
    for name in names:
        if name in statuses:
            await _search_in(ctx, inner, name, statuses[name])
    return _DONE


def _correlator(ctx: Context, name: str, validity: int) -> bytes:
    """``search-correlator`` (RFC 7377 section 3)."""
    return b'TAG "%s" MAILBOX %s UIDVALIDITY %d' % (ctx.tag, lines.mailbox(name, ctx.utf8), validity)


async def _chosen(ctx: Context, request: MultiSearch, listed: Iterable[MailboxInfo]) -> set[MailboxName]:
    """The names that the sources mean (RFC 5465 section 6); those that do not exist mean nothing.

    Sources of a kind are joined first, so the cost is that of the names plus that of the mailboxes. Other
    sessions are served in between.
    """
    named: dict[Source, set[MailboxName]] = {kind: set() for kind in Source}
    kinds = {source.kind for source in request.sources}
    for source in request.sources:
        for name in source.names:
            named[source.kind].add(name)
            await ctx.give_way()
    if Source.SELECTED in kinds:
        named[Source.MAILBOXES].add(ctx.the_mailbox().name)
    # With a sub-address mail can be delivered into any of them (RFC 5465 section 6.3).
    everything = bool(kinds & {Source.INBOXES, Source.PERSONAL})
    chosen: set[MailboxName] = set()
    for info in listed:
        name = info.name
        if (
            everything
            or (info.subscribed and Source.SUBSCRIBED in kinds)
            or name in named[Source.MAILBOXES]
            or not named[Source.SUBTREE].isdisjoint((name, *superiors(name)))
            or not named[Source.SUBTREE_ONE].isdisjoint((name, name.rpartition("/")[0]))
        ):
            chosen.add(name)
        await ctx.give_way()
    return chosen


def _names_last(key: criteria.Key) -> bool:
    """Whether ``*`` is in the criteria: then it matters which message is the last."""
    match key:
        case criteria.And(keys):
            return any(map(_names_last, keys))
        case criteria.Or(left, right):
            return _names_last(left) or _names_last(right)
        case criteria.Not(inner) | criteria.Fuzzy(inner):
            return _names_last(inner)
        case criteria.UidNumbers(numbers):
            return any(STAR in pair for pair in numbers.ranges)
        case _:
            return False


async def _search_in(ctx: Context, request: Search, name: MailboxName, status: MailboxStatus) -> None:
    """Search one mailbox and tell what was found, if anything (RFC 7377 section 2.1)."""
    account, place = ctx.the_account(), _Elsewhere(status.uid_next - 1)
    try:
        if _names_last(request.key):
            _, everything = await account.search_in(name, criteria.All())
            place = _Elsewhere(max(everything.uids, default=0))
        validity, result = await account.search_in(name, resolve(request.key, place))
        relevancies: list[int] = []
        if request.scored and result.uids:
            better, left = [], UidSet.of(result.uids)
            for degree in BETTER:
                _, found = await account.search_in(name, among(left, resolve(request.key, place, degree)))
                better.append(UidSet.of(found.uids))
                left -= better[-1]
            relevancies = scores(result.uids, tuple(better))
    except NoSuchMailbox:
        return
    if result.uids:
        modseq = result.highest_modseq if request.uses_modseq else None
        correlator = _correlator(ctx, name, validity)
        ctx.output.put(search_results.esearch_line(correlator, request, result.uids, modseq, relevancies))
        await ctx.output.drain()
