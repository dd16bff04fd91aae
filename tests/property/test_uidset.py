"""UID sets behave like Python's sets."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mailstore.uidset import STAR, SequenceSet, UidSet

NUMBERS = st.sets(st.integers(1, 60))
ENDS = st.integers(0, 20)


@given(NUMBERS)
def test_round_trip(numbers: set[int]) -> None:
    """A set is its members, its length, its membership and its ranges, in normal form."""
    made = UidSet.of(numbers)
    assert list(made) == sorted(numbers)
    assert len(made) == len(numbers)
    assert [number in made for number in range(70)] == [number in numbers for number in range(70)]
    assert UidSet.from_ranges(made.ranges) == made
    assert all(a[1] + 1 < b[0] for a, b in zip(made.ranges, made.ranges[1:], strict=False))


@given(NUMBERS, NUMBERS)
def test_algebra(a: set[int], b: set[int]) -> None:
    """Union, intersection and difference agree with Python's."""
    assert UidSet.of(a) | UidSet.of(b) == UidSet.of(a | b)
    assert UidSet.of(a) & UidSet.of(b) == UidSet.of(a & b)
    assert UidSet.of(a) - UidSet.of(b) == UidSet.of(a - b)


@given(NUMBERS)
def test_text(numbers: set[int]) -> None:
    """What is written names exactly the members."""
    text = UidSet.of(numbers).to_bytes()
    found: set[int] = set()
    for part in text.split(b",") if text else []:
        low, _, high = part.partition(b":")
        found.update(range(int(low), int(high or low) + 1))
    assert found == numbers


@given(st.lists(st.tuples(ENDS, ENDS), min_size=1, max_size=6), st.integers(0, 15))
def test_sequence_sets(ranges: list[tuple[int, int]], largest: int) -> None:
    """``*`` is the largest number, ends come in any order, ``*`` in an empty mailbox is nothing."""
    expected: set[int] = set()
    for first, last in ranges:
        if largest == 0 and STAR in (first, last):
            continue
        a, b = sorted((first or largest, last or largest))
        expected.update(range(a, b + 1))
    assert set(SequenceSet(tuple(ranges)).resolve(largest)) == expected
