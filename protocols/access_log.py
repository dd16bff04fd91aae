"""The access log: exactly time, client address, user agent, command, bytes, result. Never arguments.

One JSON object per line, one file per day, deleted by the program itself after the days promised;
what failed goes to a second log with a shorter life. Lines are gathered and written by a thread.
"""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure

from protocols.limits import AccessLogLimits

log = logging.getLogger("sealbox.access")

_FLUSH_AFTER_S = 1.0
_PENDING_MAX = 100_000
"""Lines waiting for a disk that does not answer; more are dropped and counted in the log."""
_FILE_NAME = re.compile(r"(access|error|server)-(\d{4}-\d{2}-\d{2})\.log\Z")
_FILE_MODE = 0o640
_UNFIT = re.compile(r"[^\x20-\x7e]")


@dataclass(frozen=True, slots=True)
class Entry:
    """One command and how it ended. ``bytes`` counts the octets of the answer."""

    address: str
    user_agent: str
    command: str
    bytes: int
    result: str
    failed: bool
    """An error rather than a normal refusal: the line goes to the error log as well."""
    took_s: float | None = field(default=None, compare=False)
    """Seconds from the command to its answer, None where that is not measured; for metrics, never written."""
    limit: str = field(default="", compare=False)
    """The setting that the command has met, if any; for metrics, never written."""


class AccessLog(Protocol):
    """Where sessions report their commands."""

    def record(self, entry: Entry) -> None:
        """Take note; never blocks, never raises."""


def user_agent(fields: tuple[tuple[bytes, bytes | None], ...], limits: AccessLogLimits) -> str:
    """Name and version from an IMAP ID (RFC 2971), printable ASCII only, cut to the limit."""
    known = dict(fields)
    words = [(known.get(name) or b"").decode("ascii", "replace") for name in (b"name", b"version")]
    return _UNFIT.sub("?", " ".join(filter(None, words)))[: limits.user_agent_max_chars]


_quoted = lru_cache(maxsize=1024)(json.dumps)
"""A string in JSON; addresses, programs, commands and results are few and come again and again."""


def line_of(entry: Entry, time: str, with_address: bool) -> str:
    """The line as it is written, with its newline; ``time`` is in ISO 8601."""
    return (
        f'{{"time":"{time}"'
        f',"address":{_quoted(entry.address if with_address else "-")}'
        f',"user_agent":{_quoted(entry.user_agent)}'
        f',"command":{_quoted(entry.command)}'
        f',"bytes":{entry.bytes}'
        f',"result":{_quoted(entry.result)}}}\n'
    )


@lru_cache(maxsize=2)
def _second(now_s: int) -> str:
    """A moment in ISO 8601; the first ten characters are the day."""
    return datetime.fromtimestamp(now_s, UTC).isoformat(timespec="seconds")


def expired(name: str, today: date, limits: AccessLogLimits) -> bool:
    """Whether ``name`` is a log file past its retention; today counts as the first day."""
    matched = _FILE_NAME.match(name)
    if matched is None:
        return False
    try:
        day = date.fromisoformat(matched.group(2))
    except ValueError:
        return False
    kept = {"access": limits.access_days, "error": limits.error_days, "server": limits.server_days}
    days = kept[matched.group(1)]
    return day <= today - timedelta(days=days)


def _write(folder: Path, texts: dict[str, str], today: date, limits: AccessLogLimits) -> None:
    """Append to the day's files and delete those past their days; runs in a thread."""
    for name, text in texts.items():
        handle = os.open(folder / name, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, _FILE_MODE)
        try:
            data = memoryview(text.encode("ascii"))
            while data:
                data = data[os.write(handle, data) :]
        finally:
            os.close(handle)
    for path in folder.iterdir():
        if expired(path.name, today, limits):
            path.unlink(missing_ok=True)


class FileAccessLog:
    """The access log in a folder of its own. Several processes may share the folder."""

    def __init__(
        self,
        folder: Path,
        limits: AccessLogLimits,
        clock: Any,
        with_addresses: bool = True,
        run_in_thread: Callable[..., Deferred[None]] = deferToThread,
    ) -> None:
        self._folder = folder
        self._limits = limits
        self._clock = clock
        self._with_addresses = with_addresses
        self._run_in_thread = run_in_thread
        self._texts: dict[str, list[str]] = {}
        self._pending = 0
        self._dropped = 0
        self._timer: Any = None
        self._writing: Deferred[None] | None = None

    def record(self, entry: Entry) -> None:
        """See ``AccessLog``."""
        if self._pending >= _PENDING_MAX:
            self._dropped += 1
            return
        time = _second(int(self._clock.seconds()))
        line = line_of(entry, time, self._with_addresses)
        self._texts.setdefault(f"access-{time[:10]}.log", []).append(line)
        if entry.failed:
            self._texts.setdefault(f"error-{time[:10]}.log", []).append(line)
        self._pending += 1
        if self._timer is None:
            self._timer = self._clock.callLater(_FLUSH_AFTER_S, self._due)

    def _due(self) -> None:
        self._timer = None
        self.flush()

    def delete_expired(self) -> Deferred[None]:
        """Delete old files even if nothing is logged; call it at start and after each midnight (UTC)."""
        return self.flush()

    def flush(self) -> Deferred[None]:
        """Write queued lines; fires once they are written (call before stopping)."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._writing is not None:
            waiting: Deferred[None] = Deferred()
            self._writing.addCallback(lambda _: self.flush().chainDeferred(waiting))
            return waiting
        texts = {name: "".join(lines) for name, lines in self._texts.items()}
        self._texts.clear()
        self._pending = 0
        if self._dropped:
            log.error("%d access log lines dropped: the disk is too slow", self._dropped)
            self._dropped = 0
        self._writing = Deferred()
        done = self._run_in_thread(
            _write,
            self._folder,
            texts,
            date.fromisoformat(_second(int(self._clock.seconds()))[:10]),
            self._limits,
        )
        done.addErrback(self._failed)
        done.addCallback(self._written)
        return done

    def _failed(self, failure: Failure) -> None:
        error = failure.value
        why = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else type(error).__name__
        log.error("the access log in %s cannot be written: %s", self._folder, why)

    def _written(self, result: None) -> None:
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.callback(None)
