"""The time of a snapshot as text."""

from __future__ import annotations

from datetime import UTC, datetime

_LAST_S = 253_402_300_799
"""The last second that a date can say."""


def utc_ms(ms: int) -> str:
    """A time in ms since the epoch, exact enough to be passed to --at (RFC 3339)."""
    seconds, rest = divmod(ms, 1000)
    if seconds > _LAST_S:
        return f"{ms} ms"  # beyond any clock: somebody has made up this object's name
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:03d}Z"
