"""Searches whose results are kept up to date (RFC 5267 section 4), as the client knows them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from mailstore import search as criteria
from mailstore.model import Uid
from mailstore.uidset import UidSet
from protocols.imap.grammar.fetch_items import FetchItem, FetchSection
from protocols.imap.picture.view import View
from protocols.imap.responses import lines

Pairs = Sequence[tuple[int, Sequence[Uid]]]
"""Context positions, each with the messages there (section 4.3.2), in the order the client takes them in."""


class InMailboxOrder:
    """The result of SEARCH: all positions are 0, as clients know the order of the mailbox (section 4.3.3)."""

    def __init__(self, uids: Iterable[Uid]) -> None:
        self.members = UidSet.of(uids)
        """What the client believes was found."""

    def remove(self, uids: UidSet) -> Pairs:
        """Messages leave; some at least."""
        self.members -= uids
        return ((0, [Uid(uid) for uid in uids]),)

    def add(self, places: Mapping[Uid, int]) -> Pairs:
        """Messages come, ascending, some at least; where they belong does not matter."""
        self.members |= UidSet.of(places)
        return ((0, list(places)),)


@dataclass(slots=True)
class LiveSearch:
    """One search of which changes are told."""

    key: criteria.Key = field(repr=False)
    by_uid: bool
    result: InMailboxOrder
    unknown: UidSet
    """Messages that match, and come to the result once the client knows that they are there."""
    items: tuple[FetchItem | FetchSection, ...] = ()
    """What to tell of new messages that it finds (RFC 5465 section 7)."""

    def line(self, tag: bytes, view: View, word: bytes, pairs: Pairs) -> bytes:
        """ADDTO or REMOVEFROM of messages that the client knows."""
        kind = b"UID " if self.by_uid else b""
        shown = (b"%d %s" % (position, self._numbers(view, uids)) for position, uids in pairs)
        return b'* ESEARCH (TAG "%s") %s%s (%s)\r\n' % (tag, kind, word, b" ".join(shown))

    def _numbers(self, view: View, uids: Sequence[Uid]) -> bytes:
        return lines.ordered_set(uids if self.by_uid else [view.seq_of(uid) or 0 for uid in uids])
