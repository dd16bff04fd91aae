"""Which snapshots are kept, and when a new full one is due. Pure: names and times in, names out.

A chain is a full segment with the changes up to the next full one. What a user deletes while a chain
grows is still in the chain's full segment, so a chain ends ``full_after_days`` after its first change
and is deleted, as a whole, ``retention_days`` after it. An account that does not change keeps its chain:
nothing in it has been deleted.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from backup.limits import DAY_S, BackupLimits
from backup.segment import Kind, SegmentName

_MS = 1000

AHEAD_MS = 3_600_000
"""A segment is dated ahead when its time is this much (ms) later than now; less may be set by hand."""


@dataclass(frozen=True, slots=True)
class Chain:
    """A full segment and the changes that build on it, in order, without gaps."""

    segments: tuple[SegmentName, ...]

    @property
    def full(self) -> SegmentName:
        """The segment everything builds on."""
        return self.segments[0]


def chains(names: Iterable[SegmentName]) -> list[Chain]:
    """The chains among the segments of one stream; what builds on a missing segment is left out.

    Of two segments with the same number the one taken later counts: it replaced the other, which had
    reached the store although the answer was lost.
    """
    latest = {name.sequence: name for name in sorted(names, key=lambda one: (one.sequence, one.taken_ms))}
    found: list[list[SegmentName]] = []
    for sequence in sorted(latest):
        name = latest[sequence]
        if name.kind is Kind.FULL:
            found.append([name])
        elif found and found[-1][-1].sequence == sequence - 1:
            found[-1].append(name)
    return [Chain(tuple(one)) for one in found]


def dated_ahead(taken_ms: int, now_ms: int, sure_ms: int) -> bool:
    """Whether a time was noted while the clock was ahead, and the clock is right again.

    ``sure_ms`` is the latest time at which the clock was believed: before that one it is behind.
    """
    return taken_ms > now_ms + AHEAD_MS and now_ms >= sure_ms


def misdated(names: Iterable[SegmentName], now_ms: int) -> list[SegmentName]:
    """The segments of one stream, in order, that were evidently taken while the clock was ahead.

    They are in the future, or one with a larger number is older. No point in time reaches them.
    """
    found: list[SegmentName] = []
    earliest_ms = now_ms + AHEAD_MS
    for name in sorted(names, key=lambda one: one.sequence, reverse=True):
        if name.taken_ms > earliest_ms:
            found.append(name)
        earliest_ms = min(earliest_ms, name.taken_ms)
    return found[::-1]


class Written(Protocol):
    """What is remembered of a segment that was written here or taken over."""

    @property
    def name(self) -> SegmentName:
        """Its name."""

    @property
    def size_bytes(self) -> int:
        """The size of its object."""

    @property
    def sha256(self) -> bytes:
        """The hash of its object; empty for one that was taken over."""


def full_is_due(segments: Sequence[Written], now_ms: int, sure_ms: int, limits: BackupLimits) -> bool:
    """Whether the segment that follows ``segments``, all of one stream in order, has to be a full one.

    Times in ms since the epoch; ``sure_ms`` as in ``dated_ahead``.
    """
    found = chains(one.name for one in segments)
    # What was taken over from a lost server cannot be built on: its hash is not known, and anybody may have
    # written it.
    if not found or not segments[-1].sha256:
        return True
    newest = found[-1]
    if dated_ahead(newest.segments[-1].taken_ms, now_ms, sure_ms):
        return True
    size_of = {one.name: one.size_bytes for one in segments}
    return due_for_full(newest, [size_of[name] for name in newest.segments], now_ms, limits)


def due_for_full(chain: Chain, sizes: Sequence[int], now_ms: int, limits: BackupLimits) -> bool:
    """Whether a chain, with the sizes of its segments in bytes, should be followed by a new full one."""
    # Replaced after half the time, so that there are days to notice a failing store.
    lifecycle_ms = (limits.lifecycle_days or 0) * DAY_S * _MS / 2
    if lifecycle_ms and now_ms - chain.full.taken_ms >= lifecycle_ms:
        return True
    if len(chain.segments) == 1:
        return False
    age_ms = now_ms - chain.segments[1].taken_ms
    return (
        age_ms >= limits.full_after_days * DAY_S * _MS
        or len(chain.segments) >= limits.chain_max_segments
        or sum(sizes[1:]) > max(limits.full_ratio * sizes[0], limits.full_min_bytes)
    )


def expired(
    names: Sequence[SegmentName],
    now_ms: int,
    gone_ms: int | None,
    limits: BackupLimits,
    adopted: Collection[SegmentName] = (),
) -> list[SegmentName]:
    """The segments of one stream that are to be deleted now, oldest first.

    ``names`` are those that this server has stored, ``adopted`` what else was there when it took the stream
    over. ``gone_ms`` is when the account was deleted, None while it is there. Whatever a kept chain needs
    stays.

    Whoever can add objects to the bucket chooses their names, so the numbers and times in ``adopted`` decide
    nothing: the first full segment in ``names`` is what follows all of these, and until then they stay.
    """
    retention_ms = limits.retention_s * _MS
    if gone_ms is not None and now_ms - gone_ms >= retention_ms:
        return sorted((*names, *adopted))
    found = chains(names)
    if not found:
        return []
    kept: set[SegmentName] = set(found[-1].segments)
    # If the clock was ahead, the segments that follow show that one is older than it says.
    earliest_ms = min(one.taken_ms for one in found[-1].segments)
    for chain in found[-2::-1]:
        changed_ms = min([earliest_ms, *(one.taken_ms for one in chain.segments[1:])])
        if now_ms - changed_ms < retention_ms:
            kept.update(chain.segments)
        earliest_ms = min(changed_ms, chain.full.taken_ms)
    numbers = {name.sequence for name in kept}
    newest_full = found[-1].full.sequence
    doomed = [
        name
        for name in names
        if name not in kept and (name.sequence < newest_full or name.sequence in numbers)
    ]
    if now_ms - earliest_ms >= retention_ms:
        doomed += adopted
    return sorted(doomed)
