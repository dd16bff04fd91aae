"""Sizes, counts and times as text for people: the same in all commands."""

from __future__ import annotations

from datetime import UTC, datetime

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_STEP = 1024


def size_text(size_bytes: int) -> str:
    """Octets in the largest unit that there is one of (IEC 80000-13), with three digits or more."""
    if size_bytes < _STEP:
        return f"{size_bytes} B"
    power = min((size_bytes.bit_length() - 1) // 10, len(_UNITS) - 1)
    size = size_bytes / _STEP**power
    return f"{size:.{2 if size < 10 else 1 if size < 100 else 0}f} {_UNITS[power]}"


def counted(number: int, one: str, many: str | None = None) -> str:
    """``1 session``, ``2 sessions``; ``many`` is the plural where that is not ``one`` with an s."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def utc_s(seconds: int) -> str:
    """A time in seconds since the epoch (RFC 3339); those of snapshots: ``backup.moment``."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"
