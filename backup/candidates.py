"""Which segments lead to a state, when not every object in the store is what its name says. Pure.

There may be several objects with one number: a lost answer leaves two of the server's own, and whoever can
write to the bucket can add more. Names prove nothing, so all of them are candidates until they are opened.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable

from backup.limits import DAY_S
from backup.segment import Kind, SegmentName

MAX_SEQUENCE = 10**12
"""No server has written so many segments: a larger number is made up, and would leave none after it."""

_AHEAD_MS = DAY_S * 1000
"""A segment from further in the future is not believed when a stream is taken over."""


class Candidates:
    """The objects of one stream by number; those that turn out to be unsound are dropped."""

    def __init__(self, names: Iterable[SegmentName]) -> None:
        self._of: dict[int, list[SegmentName]] = {}
        for name in sorted(names, key=lambda one: (one.sequence, one.taken_ms, one.kind)):
            self._of.setdefault(name.sequence, []).append(name)
        self._numbers = sorted(self._of)

    def way(self) -> tuple[SegmentName, ...]:
        """A full segment and the changes up to the largest number that can be reached; empty when none can.

        Of several with one number the latest counts: it replaced the others, which had reached the store
        although the answer was lost.
        """
        while self._numbers:
            found: list[SegmentName] = []
            for number in range(self._numbers[-1], -1, -1):
                if number not in self._of:
                    break
                found.append(self._of[number][-1])
                if found[-1].kind is Kind.FULL:
                    return tuple(reversed(found))
            # They build on something that is not there, unless another object of a number is a full one.
            for at, name in enumerate(found):
                fulls = [one for one in self._of[name.sequence] if one.kind is Kind.FULL]
                if fulls:
                    return (fulls[-1], *reversed(found[:at]))
            del self._numbers[bisect_left(self._numbers, found[-1].sequence) :]
        return ()

    def has_other(self, name: SegmentName) -> bool:
        """Whether there is another object of that number."""
        return any(one != name for one in self._of.get(name.sequence, ()))

    def drop(self, name: SegmentName) -> None:
        """It is not what its name says."""
        left = self._of[name.sequence]
        if left[-1] == name:
            left.pop()  # the usual case, and there may be very many
        else:
            left.remove(name)
        if not left:
            del self._of[name.sequence]
            at = bisect_left(self._numbers, name.sequence)
            if self._numbers[at : at + 1] == [name.sequence]:
                del self._numbers[at]

    def by_number(self) -> list[list[SegmentName]]:
        """All candidates in the order of their numbers, for each number the latest first."""
        return [self._of[number][::-1] for number in self._numbers]


def credible(names: Iterable[SegmentName], now_ms: int) -> list[SegmentName]:
    """One of each number, in order, leaving out what no server can have written by ``now_ms``."""
    found = Candidates(
        name for name in names if name.sequence <= MAX_SEQUENCE and name.taken_ms <= now_ms + _AHEAD_MS
    )
    return [of_number[0] for of_number in found.by_number()]
