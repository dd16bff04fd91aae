"""The process log: standard error, and a file a day for warnings and errors, deleted after its days.

Whatever is logged passes ``deploy.redaction``: by our own loggers, by Twisted, by libraries, as a warning of
Python, or as an exception that nobody catches, which Python would print with its text.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import warnings
from dataclasses import dataclass
from pathlib import Path
from queue import Full, Queue
from types import TracebackType
from typing import Any, TextIO

from twisted.logger import ILogObserver, LogLevel, globalLogBeginner
from zope.interface import provider

from deploy.redaction import OUR_LOGGERS, Line, Style, as_json, as_text, described, redacted

log = logging.getLogger("sealbox.uncaught")

QUEUE_MAX = 1000
"""Lines that wait for a disk that does not answer; more are dropped."""

_LAST_S = 2.0
"""Seconds that a process that ends waits for its last lines."""

FILE_MODE = 0o640


@dataclass(frozen=True, slots=True)
class LogSettings:
    """How a process logs. ``folder`` is where errors go as well, None for standard error alone."""

    level: str = "info"
    style: Style = "text"
    folder: Path | None = None


class _Redacting(logging.Handler):
    """Writes what ``redacted`` leaves of a record, and says nothing of one that cannot be written."""

    def __init__(self, process: str, style: Style) -> None:
        super().__init__()
        self._process = process
        self._style = as_json if style == "json" else as_text

    def emit(self, record: logging.LogRecord) -> None:
        """See ``logging.Handler``."""
        if record.levelno < logging.WARNING and record.name.partition(".")[0] != OUR_LOGGERS:
            return  # libraries are chatty, and nothing of it could be written
        try:
            line = redacted(record, self._process)
            self.write(line, self._style(line) + "\n")
        except OSError:
            return  # where should that be told?

    def write(self, line: Line, text: str) -> None:
        """Write a line."""
        raise AssertionError("each kind of log writes somewhere")

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  # logging's own name
        """Python would print the record with everything in it."""


class _ToStream(_Redacting):
    def __init__(self, process: str, style: Style, stream: TextIO) -> None:
        super().__init__(process, style)
        self._stream = stream

    def write(self, line: Line, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


class _ToFiles(_Redacting):
    """A file a day. With ``in_thread`` a slow disk holds up nobody who logs."""

    def __init__(self, process: str, style: Style, folder: Path, *, in_thread: bool) -> None:
        super().__init__(process, style)
        self.setLevel(logging.WARNING)
        self._folder = folder
        self._queue: Queue[tuple[str, str] | None] | None = Queue(QUEUE_MAX) if in_thread else None
        self._thread: threading.Thread | None = None

    def write(self, line: Line, text: str) -> None:
        name = file_name(line.time[:10])
        if self._queue is None:
            self._append(name, text)
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, args=(self._queue,), daemon=True)
            self._thread.start()
        try:
            self._queue.put_nowait((name, text))
        except Full:
            return  # standard error has it

    def _work(self, queue: Queue[tuple[str, str] | None]) -> None:
        while (item := queue.get()) is not None:
            try:
                self._append(*item)
            except OSError:
                continue  # standard error has it; perhaps there is room for the next

    def close(self) -> None:
        """Write the last lines, if the disk answers; called at the end of a process."""
        if self._queue is not None and self._thread is not None:
            try:
                self._queue.put_nowait(None)
            except Full:
                return
            self._thread.join(_LAST_S)
        super().close()

    def _append(self, name: str, text: str) -> None:
        handle = os.open(
            self._folder / name, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, FILE_MODE
        )
        try:
            os.write(handle, text.encode("utf-8", "backslashreplace"))
        finally:
            os.close(handle)


def file_name(day: str) -> str:
    """The file of a day (YYYY-MM-DD)."""
    return f"server-{day}.log"


@provider(ILogObserver)  # type: ignore[untyped-decorator]  # zope.interface has no types
def _twisted_event(event: dict[str, Any]) -> None:
    """Twisted reports connections here as well; only its failures and errors are worth a line."""
    # The second is what twisted.python.log.err gives.
    failure = event.get("log_failure") or event.get("failure")
    twisted = logging.getLogger("sealbox.twisted")
    if failure is not None:
        twisted.error("unhandled failure\n%s", described(failure.type, failure.getTracebackObject()))
    elif event.get("log_level") in (LogLevel.error, LogLevel.critical):
        twisted.error("%s", event.get("log_namespace", "error"))


def _ended_by(kind: type[BaseException], _error: BaseException, trace: TracebackType | None) -> None:
    log.critical("the process ends by an exception\n%s", described(kind, trace))


def _thread_ended_by(what: threading.ExceptHookArgs) -> None:
    log.error("a thread ended with an unhandled exception\n%s", described(what.exc_type, what.exc_traceback))


def _ignored(what: Any) -> None:
    """For what nobody can catch: raised in a finalizer or a C callback (``sys.unraisablehook``)."""
    log.error("an exception was ignored\n%s", described(what.exc_type, what.exc_traceback))


def _warned(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """As ``warnings.showwarning``, without its text, which may quote what it warns of."""
    logging.getLogger("sealbox.warnings").warning("%s in %s:%d", category.__name__, filename, lineno)


def setup(settings: LogSettings, process: str, *, in_thread: bool = False) -> None:
    """Send the log of this process, and Twisted's, where the settings say.

    ``process`` is its name in every line. With ``in_thread`` files are written by a thread: for whoever may
    not wait for a disk, and will never fork.
    """
    handlers: list[logging.Handler] = [_ToStream(process, settings.style, sys.stderr)]
    if settings.folder is not None:
        handlers.append(_ToFiles(process, settings.style, settings.folder, in_thread=in_thread))
    root = logging.getLogger()
    root.handlers[:] = handlers
    root.setLevel(settings.level.upper())
    globalLogBeginner.beginLoggingTo(
        [ILogObserver(_twisted_event)], redirectStandardIO=False, discardBuffer=True
    )
    sys.excepthook, threading.excepthook, sys.unraisablehook = _ended_by, _thread_ended_by, _ignored
    warnings.showwarning = _warned
