"""Algebra of sets of UIDs and sequence numbers. Pure.

``UidSet`` is a set of positive integers kept as sorted, disjoint, non-adjacent closed ranges: the
form in which IMAP prints them (RFC 3501 section 9, ``sequence-set``), small however many members
it has. ``SequenceSet`` is what a client wrote: unordered, overlapping, with ``*`` in it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

STAR = 0
"""Stands for ``*``, the largest number in use, inside a ``SequenceSet``; real numbers start at 1."""

MAX_NUMBER = 4294967295
"""The largest UID or sequence number (RFC 3501 section 9, ``nz-number``)."""

Range = tuple[int, int]


def _normalised(ranges: Iterable[Range]) -> tuple[Range, ...]:
    merged: list[Range] = []
    for low, high in sorted(ranges):
        if merged and low <= merged[-1][1] + 1:
            if high > merged[-1][1]:
                merged[-1] = (merged[-1][0], high)
        else:
            merged.append((low, high))
    return tuple(merged)


@dataclass(frozen=True, slots=True)
class UidSet:
    """An immutable set of numbers as sorted, disjoint, non-adjacent closed ranges."""

    ranges: tuple[Range, ...] = ()

    @classmethod
    def of(cls, numbers: Iterable[int]) -> UidSet:
        """The set of ``numbers``, which may come in any order and repeat."""
        ranges: list[Range] = []
        low = high = 0
        for number in sorted(numbers):
            if low and number <= high + 1:
                high = number
                continue
            if low:
                ranges.append((low, high))
            low = high = number
        if low:
            ranges.append((low, high))
        return cls(tuple(ranges))

    @classmethod
    def from_ranges(cls, ranges: Iterable[Range]) -> UidSet:
        """The union of closed ranges, each with its low end first."""
        return cls(_normalised(ranges))

    def __contains__(self, number: int) -> bool:
        at = bisect_right(self.ranges, (number, MAX_NUMBER + 1)) - 1
        return at >= 0 and self.ranges[at][0] <= number <= self.ranges[at][1]

    def __iter__(self) -> Iterator[int]:
        for low, high in self.ranges:
            yield from range(low, high + 1)

    def __len__(self) -> int:
        return sum(high - low + 1 for low, high in self.ranges)

    def __bool__(self) -> bool:
        return bool(self.ranges)

    def __or__(self, other: UidSet) -> UidSet:
        return UidSet(_normalised((*self.ranges, *other.ranges)))

    def __and__(self, other: UidSet) -> UidSet:
        out: list[Range] = []
        mine, theirs = iter(self.ranges), iter(other.ranges)
        a, b = next(mine, None), next(theirs, None)
        while a and b:
            low, high = max(a[0], b[0]), min(a[1], b[1])
            if low <= high:
                out.append((low, high))
            if a[1] < b[1]:
                a = next(mine, None)
            else:
                b = next(theirs, None)
        return UidSet(tuple(out))

    def __sub__(self, other: UidSet) -> UidSet:
        out: list[Range] = []
        gaps = list(other.ranges)
        at = 0
        for low, high in self.ranges:
            while at < len(gaps) and gaps[at][1] < low:
                at += 1
            look = at
            while look < len(gaps) and gaps[look][0] <= high:
                if gaps[look][0] > low:
                    out.append((low, gaps[look][0] - 1))
                low = gaps[look][1] + 1
                look += 1
            if low <= high:
                out.append((low, high))
        return UidSet(tuple(out))

    def to_bytes(self) -> bytes:
        """The set as IMAP writes it, for example ``b"1:3,7"``; ``b""`` when empty."""
        return b",".join(b"%d" % low if low == high else b"%d:%d" % (low, high) for low, high in self.ranges)


@dataclass(frozen=True, slots=True)
class SequenceSet:
    """A ``sequence-set`` as the client wrote it; each end is a number or ``STAR``.

    ``saved`` stands for ``$``, the result of an earlier search (RFC 5182), which only the session knows.
    """

    ranges: tuple[Range, ...]
    saved: bool = False

    def resolve(self, largest: int) -> UidSet:
        """Replace ``*`` by ``largest`` and put every range in order (``4:2`` means ``2:4``).

        With ``largest`` 0 (empty mailbox) ``*`` means nothing: ranges naming it vanish, except that
        ``n:*`` in a UID command still only ever names existing messages, so nothing is lost.
        """
        out: list[Range] = []
        for first, last in self.ranges:
            if largest == 0 and STAR in (first, last):
                continue
            a, b = first or largest, last or largest
            out.append((a, b) if a <= b else (b, a))
        return UidSet.from_ranges(out)
