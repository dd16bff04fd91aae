"""How old are the lines of the access and the error log? Read from the lines, not from the names of files."""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from protocols.limits import AccessLogLimits

_DAY_S = 86_400
_TIME = re.compile(rb'(?:\{"time":")?(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)')
"""As :func:`protocols.access_log.line_of` and the server's own log begin a line; the zone is always UTC."""

_OURS = re.compile(r"(access|error|server)-\d{4}-\d\d-\d\d\.log(\.\d{1,4})?(\.gz)?")
_LATE_DAYS = 10 / 1440
"""Ten minutes: the server deletes a day's file right after the midnight at which its time is over."""

_LINE_BYTES = 65_536
_ERRORS, _SERVER = "error", "server"


@dataclass(frozen=True, slots=True)
class LogFile:
    """One file in the folder of the logs; ages in days. ``kept_days`` is how long its lines may be kept."""

    name: str
    lines: int
    kept_days: int
    oldest_days: float
    """Of a file with lines that tell no time, at least the age of the file."""

    @property
    def shown(self) -> str:
        """The name, where this program has given it."""
        return self.name if _OURS.fullmatch(self.name) else "a file of another name"

    @property
    def is_overdue(self) -> bool:
        """Whether a line in it is older than promised."""
        return self.lines > 0 and self.oldest_days > self.kept_days + _LATE_DAYS


def log_files(folder: Path, now_s: float, limits: AccessLogLimits) -> list[LogFile]:
    """All files in the folder, also those that another program has renamed or compressed.

    ``now_s`` is in seconds since the epoch. Raises OSError.
    """
    if not folder.exists():
        return []
    return [_look(path, now_s, limits) for path in sorted(folder.rglob("*")) if path.is_file()]


def _look(path: Path, now_s: float, limits: AccessLogLimits) -> LogFile:
    days = limits.access_days
    if path.name.startswith(_ERRORS):
        days = limits.error_days
    elif path.name.startswith(_SERVER):
        days = limits.server_days
    oldest, lines = now_s, 0
    earliest: bytes | None = None
    for line in _lines(path):
        lines += 1
        found = _TIME.match(line)
        if found is None:
            oldest = min(oldest, path.stat().st_mtime)
        elif earliest is None or found[1] < earliest:
            earliest = found[1]
    if earliest is not None:
        oldest = min(oldest, datetime.fromisoformat(earliest.decode("ascii")).replace(tzinfo=UTC).timestamp())
    return LogFile(path.name, lines, days, (now_s - oldest) / _DAY_S)


def _lines(path: Path) -> Iterator[bytes]:
    try:
        file = path.open("rb")
    except PermissionError:
        yield b""  # a line that tells no time
        return
    with file:
        readline: Callable[[int], bytes] = file.readline
        if path.suffix == ".gz":
            readline = gzip.GzipFile(fileobj=file).readline
        try:
            yield from iter(lambda: readline(_LINE_BYTES), b"")
        except (gzip.BadGzipFile, EOFError, zlib.error):
            yield b""  # as above
