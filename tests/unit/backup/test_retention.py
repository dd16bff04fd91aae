"""Which snapshots are kept: what a kept point needs stays, what was deleted goes in time."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from backup.limits import DAY_S, BackupLimits
from backup.retention import chains, due_for_full, expired, full_is_due
from backup.schedule import Schedule
from backup.segment import Kind, SegmentName, StreamId
from backup.state import Segment

STREAM = StreamId("ab" * 16)
LIMITS = BackupLimits()
DAY_MS = DAY_S * 1000
HOUR_MS = DAY_MS // 24


def segment(sequence: int, taken_ms: int, kind: Kind = Kind.CHANGES) -> SegmentName:
    """A name in the stream."""
    return SegmentName(STREAM, sequence, taken_ms, kind)


def written(names: list[SegmentName], sha256: bytes = b"known") -> list[Segment]:
    """What the server remembers of them; changes are small."""
    return [Segment(one, 1000 if one.kind is Kind.FULL else 1, sha256, b"", stored=True) for one in names]


def grown(hours: list[int]) -> list[tuple[int, list[SegmentName]]]:
    """The stream of an account that changes at these hours, looked at every hour, pruned as it grows."""
    history: list[tuple[int, list[SegmentName]]] = []
    names: list[SegmentName] = []
    for hour in range(max(hours, default=0) + 40 * 24):
        now_ms = hour * HOUR_MS
        due = full_is_due(written(names), now_ms, now_ms, LIMITS)
        if hour in hours or (due and names):
            kind = Kind.FULL if due else Kind.CHANGES
            names = [*names, segment(len(history_of(history)) + 1, now_ms + 1, kind)]
        gone = set(expired(names, now_ms + 1, None, LIMITS))
        names = [name for name in names if name not in gone]
        history.append((now_ms, names))
    return history


def history_of(history: list[tuple[int, list[SegmentName]]]) -> set[SegmentName]:
    """All segments that there ever were."""
    return {name for _, names in history for name in names}


@given(st.lists(st.integers(0, 24 * 30), min_size=1, max_size=25, unique=True))
@settings(max_examples=30, deadline=None)
def test_what_was_superseded_is_gone_in_time_and_the_present_never(hours: list[int]) -> None:
    """However an account changes: the newest state and the last days can be restored, older data are gone."""
    history = grown(sorted(hours))
    ever = sorted(history_of(history), key=lambda one: one.sequence)
    retention_ms = LIMITS.retention_days * DAY_MS
    window_ms = retention_ms - LIMITS.full_after_days * DAY_MS - 2 * HOUR_MS
    for now_ms, names in history:
        if not names:
            continue
        points = {name for chain in chains(names) for name in chain.segments}
        so_far = [name for name in ever if name.taken_ms <= now_ms + 1]
        assert so_far[-1] in points
        assert all(name in points for name in so_far if now_ms - name.taken_ms < window_ms)
        for name, following in pairwise(so_far):
            # What the following one changed was in this one or before: nothing of that may be left.
            if now_ms - following.taken_ms > retention_ms + HOUR_MS:
                assert name not in names


def test_a_deleted_account_is_kept_until_the_end_of_retention() -> None:
    """And then nothing of it is."""
    names = [segment(1, 0, Kind.FULL), segment(2, 10)]
    gone_ms = 5 * DAY_MS
    end_ms = gone_ms + int(LIMITS.retention_days * DAY_MS)
    assert expired(names, end_ms - 1, gone_ms, LIMITS) == []
    assert expired(names, end_ms, gone_ms, LIMITS) == names


def test_of_two_with_one_number_the_later_counts() -> None:
    """The other reached the store although its answer was lost, and was replaced by a merged one."""
    stray, merged = segment(2, 10), segment(2, 20)
    names = [segment(1, 0, Kind.FULL), stray, merged, segment(3, 30)]
    assert stray not in chains(names)[0].segments
    assert expired(names, 100, None, LIMITS) == [stray]


def test_what_builds_on_a_missing_segment_is_no_chain() -> None:
    """A gap ends a chain; the next full one begins another."""
    names = [segment(1, 0, Kind.FULL), segment(3, 30), segment(4, 40, Kind.FULL), segment(5, 50)]
    assert [[one.sequence for one in chain.segments] for chain in chains(names)] == [[1], [4, 5]]


def test_a_chain_is_replaced_for_age_weight_and_length() -> None:
    """Each limit by itself; an unchanged account never, but for the bucket's own rule."""
    (chain,) = chains([segment(1, 0, Kind.FULL), segment(2, HOUR_MS)])
    two_days = int(LIMITS.full_after_days * DAY_MS)
    assert not due_for_full(chain, [10**9, 5], two_days, LIMITS)
    assert due_for_full(chain, [10**9, 5], two_days + HOUR_MS, LIMITS)
    assert due_for_full(chain, [10**9, 10**9 + 1], 2 * HOUR_MS, LIMITS)
    assert not due_for_full(chain, [1000, 2000], 2 * HOUR_MS, LIMITS)
    assert due_for_full(chain, [10**9, 5], 2 * HOUR_MS, BackupLimits(chain_max_segments=2))
    (alone,) = chains([segment(1, 0, Kind.FULL)])
    assert not due_for_full(alone, [10], 400 * DAY_MS, LIMITS)
    assert due_for_full(alone, [10], 7 * DAY_MS, BackupLimits(lifecycle_days=14))


def test_the_next_segment_is_a_full_one_where_nothing_can_be_built_on() -> None:
    """Nothing there, a chain without its beginning, one of another server, one that is dated ahead."""
    chain = [segment(1, 0, Kind.FULL), segment(2, HOUR_MS)]
    now_ms = 2 * HOUR_MS
    assert not full_is_due(written(chain), now_ms, now_ms, LIMITS)
    assert full_is_due([], now_ms, now_ms, LIMITS)
    assert full_is_due(written(chain[1:]), now_ms, now_ms, LIMITS)
    assert full_is_due(written(chain, b""), now_ms, now_ms, LIMITS)
    assert not full_is_due(written(chain[:1], b"") + written(chain[1:]), now_ms, now_ms, LIMITS)
    ahead = written([*chain, segment(3, now_ms + 2 * HOUR_MS)])
    assert full_is_due(ahead, now_ms, now_ms, LIMITS)
    # A clock that is behind the last time it was trusted at is itself the wrong one.
    assert not full_is_due(ahead, now_ms, now_ms + 1, LIMITS)
    assert full_is_due(written(chain), now_ms, now_ms, BackupLimits(chain_max_segments=2))


def test_an_account_is_due_when_it_settles_or_has_waited_long() -> None:
    """And comes again after a failure; not before its pause is over."""
    schedule = Schedule(BackupLimits(settle_s=60, longest_wait_s=300))
    schedule.seen("a", "1", "1", 0)
    assert schedule.changed() == []
    for now in range(0, 400, 10):
        schedule.seen("busy", str(now), "", now)
        schedule.seen("quiet", "1", "", now)
        assert schedule.due(now) == [
            *(["busy"] if now >= 300 else []),
            *(["quiet"] if now >= 60 else []),
        ]
    assert schedule.oldest_s(400) == 400
    schedule.failed("quiet", 400, 60)
    assert "quiet" not in schedule.due(450) and "quiet" in schedule.due(460)
    schedule.done("quiet")
    schedule.keep_only([])
    assert schedule.changed() == []
