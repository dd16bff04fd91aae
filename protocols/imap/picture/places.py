"""Finding where messages belong in a sorted result (RFC 5267 section 4.3.3) without sorting all of it. Pure.

Nothing that a message is sorted by ever changes, so what was in order stays in order.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence

from mailstore.model import Uid
from mailstore.uidset import UidSet

SAMPLE = 1000
"""Messages of a result, about, that those which come are first compared with."""


class Places:
    """Finds where new messages belong in a sorted result, by having few of its messages sorted with them.

    First they are sorted with a sample, then with what lies between their neighbours there. That is two
    questions, of some ``SAMPLE`` and of a thousandth of the result for each new message, at the most.
    """

    def __init__(self, known: Sequence[int], come: Sequence[Uid]) -> None:
        """``known`` is the result in order, ``come`` what is new, in order too."""
        self._known = known
        self._come = come
        self._gaps = {uid: (0, len(known)) for uid in come}
        self._asked: list[int] = []

    def sample(self) -> UidSet:
        """What to have sorted first; empty where nothing is to be compared with."""
        return self._ask(range(0, len(self._known), max(len(self._known) // SAMPLE, 1)))

    def rest(self) -> UidSet:
        """What to have sorted after that; empty when all places are known."""
        return self._ask(at for gap in sorted(set(self._gaps.values())) for at in range(*gap))

    def _ask(self, indexes: Iterable[int]) -> UidSet:
        self._asked = list(indexes)
        if not self._asked:
            return UidSet()
        return UidSet.of(self._known[at] for at in self._asked) | UidSet.of(self._come)

    def learn(self, ordered: Sequence[Uid]) -> None:
        """The answer: what was asked, in order, less what is gone by now."""
        index = {self._known[at]: at for at in self._asked}
        seen = sorted(index[uid] for uid in ordered if uid in index)
        low, gaps = 0, {}
        for uid in ordered:
            if uid in index:
                low = index[uid] + 1
            elif uid in self._gaps:
                next_seen = bisect_left(seen, low)
                high = seen[next_seen] if next_seen < len(seen) else len(self._known)
                least, most = self._gaps[uid]
                gaps[uid] = (max(least, low), min(most, high))
        self._gaps = gaps

    def found(self, left: Sequence[int]) -> dict[Uid, int]:
        """The messages that come, in order, each with the place of what it comes before.

        Places are those in ``left``: of what was known, still in order, all that has not been expunged since.
        """
        places = {uid: self._gaps[uid][0] for uid in self._come if uid in self._gaps}
        if len(left) == len(self._known):
            return places
        before = at = 0
        found: dict[Uid, int] = {}
        for uid, place in places.items():
            while at < place:
                before += before < len(left) and left[before] == self._known[at]
                at += 1
            found[uid] = before
        return found
