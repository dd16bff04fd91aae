"""ESEARCH in many mailboxes: whatever its sources are, other sessions are served meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from mailstore.model import MailboxId, MailboxInfo
from mailstore.search import All
from protocols.imap.commands.multisearch import _chosen
from protocols.imap.context import Context
from protocols.imap.grammar.search import MultiSearch, Search, Source, Sources
from protocols.limits import ImapLimits
from tests.growth import LINEAR_AT_MOST, growth
from tests.wire import ImapWorld


class _Counted:
    """In place of a session: counts how often others could have had their turn."""

    def __init__(self) -> None:
        self.ways = 0

    async def give_way(self) -> None:
        """See ``Context``."""
        self.ways += 1


def choose(sources: list[Sources], listed: list[MailboxInfo], ctx: _Counted) -> set[str]:
    """What the sources mean; nothing in it waits."""
    choosing = _chosen(cast(Context, ctx), MultiSearch(tuple(sources), Search(All())), listed)
    try:
        choosing.send(None)
    except StopIteration as ended:
        return cast("set[str]", ended.value)
    raise AssertionError("it waits for something")


def mailboxes(count: int) -> list[MailboxInfo]:
    """So many mailboxes, each with thirty levels."""
    below = "/a" * 29
    return [MailboxInfo(MailboxId(n + 1), f"y{n:04}{below}", None, False, False, "") for n in range(count)]


def test_many_sources_cost_no_more_than_their_names_and_the_mailboxes_together() -> None:
    """Each source with names, for each mailbox and each of its levels, would keep everybody waiting."""

    def prepare(size: int) -> Callable[[], object]:
        listed = mailboxes(size)
        named = [Source.SUBTREE, Source.SUBTREE_ONE, Source.MAILBOXES]
        sources = [Sources(kind, (f"q{n}",)) for n in range(size) for kind in named]
        return lambda: choose(sources, listed, _Counted())

    assert growth(prepare, 150) < LINEAR_AT_MOST


def test_others_can_be_served_at_every_mailbox_and_every_name() -> None:
    """How long sources take to compare is for clients to choose, so none is too many to pause at."""
    ctx = _Counted()
    listed = mailboxes(40)
    sources = [Sources(Source.SUBTREE, ("y0001", "x")), Sources(Source.SUBTREE, ("y0003/a",))]
    assert choose(sources, listed, ctx) == {listed[1].name, listed[3].name}
    assert ctx.ways == 43


def test_too_many_names_in_the_sources_are_refused() -> None:
    """What counts is the names in all sources together."""
    world = ImapWorld(ImapLimits(search_names_max=3))
    client = world.logged_in()
    assert b"a OK" in client.say(b"a ESEARCH IN (mailboxes (a b) subtree c personal) ALL\r\n")
    refused = client.say(b"b ESEARCH IN (mailboxes (a b) subtree (c d)) ALL\r\n")
    assert refused == b"b BAD [LIMIT] too many mailbox names\r\n"
