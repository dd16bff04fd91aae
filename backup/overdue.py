"""Which snapshots should be gone by now and are not."""

from __future__ import annotations

from backup.limits import BackupLimits
from backup.restore import Listing
from backup.retention import expired
from backup.segment import SegmentName
from backup.state import FORGOTTEN, State

LATE_MS = 2 * 3_600_000
"""The server deletes every hour; what is overdue by less (ms) may still be waiting for its turn."""


def overdue_by_state(state: State, now_ms: int, limits: BackupLimits) -> list[SegmentName]:
    """Snapshots that this server remembers in the store although their time is over (``now_ms`` since the
    epoch).

    What was there before a take-over is left out: it goes when every account has a full snapshot again.
    """
    found: list[SegmentName] = []
    for stream in state.streams():
        if not stream.account.startswith(FORGOTTEN):
            stored = [one for one in state.segments(stream.stream) if one.stored]
            own = [one.name for one in stored if one.sha256]
            found += expired(own, now_ms - LATE_MS, stream.gone_ms, limits)
    return found


def overdue_in_store(listing: Listing, state: State, now_ms: int, limits: BackupLimits) -> list[SegmentName]:
    """Objects in the store that this server does not remember, and that are older than any may be."""
    known = set(state.spare())
    known.update(one.name for stream in state.streams() for one in state.segments(stream.stream))
    before_ms = now_ms - LATE_MS - int(limits.retention_s * 1000)
    return [name for name in listing.sizes if name not in known and name.taken_ms < before_ms]
