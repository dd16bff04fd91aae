"""Searches whose results are kept up to date (RFC 5267 section 4), as the client knows them. Pure."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from mailstore.model import SortBy, Uid
from mailstore.uidset import UidSet
from protocols.imap.grammar.fetch import FetchItem, FetchSection
from protocols.imap.picture.live_texts import LiveTexts
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


class InSortOrder:
    """The result of SORT; the first context position is 1 (section 4.3.2)."""

    def __init__(self, order: tuple[SortBy, ...], uids: Sequence[Uid]) -> None:
        self.order = order
        self.members = UidSet.of(uids)
        """What the client believes was found."""
        self._uids = array("I", uids)

    def without(self, uids: UidSet) -> Sequence[int]:
        """The result in order, less some of its members."""
        return self._cut(self._runs(uids)) if uids else self._uids

    def remove(self, uids: UidSet) -> Pairs:
        """Messages leave, the last first: no position depends on what has left before."""
        runs = list(self._runs(uids))
        pairs = [(start + 1, [Uid(uid) for uid in self._uids[start:stop]]) for start, stop in runs]
        self._uids = self._cut(runs)
        self.members -= uids
        return pairs[::-1]

    def add(self, places: Mapping[Uid, int]) -> Pairs:
        """Messages come, each before what is at its place now; they are in order, and so are their places.

        The first goes first: each position counts what has come before.
        """
        pairs: list[tuple[int, Sequence[Uid]]] = []
        joined, before = array("I"), 0
        for place, run in groupby(places, key=lambda uid: places[uid]):
            come = list(run)
            joined.extend(self._uids[before:place])
            pairs.append((len(joined) + 1, come))
            joined.extend(come)
            before = place
        joined.extend(self._uids[before:])
        self._uids = joined
        self.members |= UidSet.of(places)
        return pairs

    def _runs(self, uids: UidSet) -> Iterator[tuple[int, int]]:
        """Where these members are, as half-open ranges of places in ascending order."""
        named = set(uids)
        start = stop = -1
        for at in (at for at, uid in enumerate(self._uids) if uid in named):
            if at != stop:
                if start >= 0:
                    yield start, stop
                start = at
            stop = at + 1
        if start >= 0:
            yield start, stop

    def _cut(self, runs: Iterable[tuple[int, int]]) -> array[int]:
        kept, before = array("I"), 0
        for start, stop in runs:
            kept.extend(self._uids[before:start])
            before = stop
        kept.extend(self._uids[before:])
        return kept


@dataclass(slots=True)
class LiveSearch:
    """One search of which changes are told."""

    texts: LiveTexts = field(repr=False)
    """What it searches for."""
    by_uid: bool
    result: InMailboxOrder | InSortOrder
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
        if self.by_uid:
            return lines.ordered_set(uids)
        seqs: list[int] = []
        for uid in uids:
            seq = view.seq_of(uid)
            assert seq is not None, "a message comes to a result after EXISTS, and leaves it before EXPUNGE"
            seqs.append(seq)
        return lines.ordered_set(seqs)
