"""Which objects are tried in which order, and what that costs when there are very many."""

from __future__ import annotations

import time

from backup.candidates import Candidates, credible
from backup.limits import DAY_S
from backup.segment import Kind, SegmentName, StreamId

STREAM = StreamId("ab" * 16)
NOW_MS = 1_800_000_000_000


def named(sequence: int, taken_ms: int, kind: Kind = Kind.CHANGES) -> SegmentName:
    """A segment of the stream."""
    return SegmentName(STREAM, sequence, taken_ms, kind)


GOOD = (named(3, 30, Kind.FULL), named(4, 40), named(5, 50))


def test_of_one_number_the_latest_is_tried_first() -> None:
    """And the one before it when that is dropped."""
    other = named(4, 41)
    candidates = Candidates((*GOOD, other))
    assert candidates.way() == (GOOD[0], other, GOOD[2])
    assert candidates.has_other(other) and candidates.has_other(GOOD[1])
    candidates.drop(other)
    assert candidates.way() == GOOD
    assert not candidates.has_other(GOOD[1])


def test_a_full_one_is_found_behind_another_of_its_number() -> None:
    """Changes with a later time build on nothing; the full one is under them."""
    candidates = Candidates((*GOOD, named(3, 31)))
    assert candidates.way() == GOOD


def test_what_cannot_be_reached_is_left_out() -> None:
    """A gap, a largest number, nothing at all."""
    assert Candidates((*GOOD, named(7, 70), named(10**15 - 1, 80))).way() == GOOD
    assert Candidates((named(7, 70),)).way() == ()
    assert Candidates(()).way() == ()


def test_a_take_over_believes_no_name_from_the_future_and_no_number_without_end() -> None:
    """Both would leave nothing to go on with."""
    late = named(4, NOW_MS + 2 * DAY_S * 1000)
    assert credible((*GOOD, late, named(10**15 - 1, 60)), NOW_MS) == list(GOOD)


def cost_s(count: int) -> float:
    """CPU seconds for dropping so many objects, half of them of one number and half behind all."""
    rubbish = [named(4, 1_000 + number) for number in range(count // 2)]
    rubbish += [named(100 + 2 * number, 1, Kind.FULL) for number in range(count // 2)]
    best = float("inf")
    for _ in range(3):
        begun = time.process_time()
        candidates = Candidates((*GOOD, *rubbish))
        while (way := candidates.way()) != GOOD:
            bad = next(name for name in way if name not in GOOD)
            candidates.drop(bad)
        best = min(best, time.process_time() - begun)
    return best


def test_the_cost_grows_with_the_number_of_objects_alone() -> None:
    """Linear gives 4, quadratic 16."""
    assert cost_s(40_000) / cost_s(10_000) < 10
