"""The process log: standard error, one line an event, never a secret, content or address.

Exceptions are logged by type and origin, not by their text, which may quote what a client sent. That includes
those that nobody catches, which Python would print with their text.
"""

from __future__ import annotations

import logging
import sys
import threading
import traceback
from types import TracebackType
from typing import Any

from twisted.logger import ILogObserver, LogLevel, globalLogBeginner
from zope.interface import provider

log = logging.getLogger("sealbox.uncaught")

_Trace = tuple[type[BaseException] | None, BaseException | None, TracebackType | None]


def described(kind: type[BaseException] | None, trace: TracebackType | None) -> str:
    """Kind and origin of an exception, without its text."""
    return "".join(traceback.format_tb(trace)) + (kind.__name__ if kind else "no exception")


class _SafeFormatter(logging.Formatter):
    def formatException(self, ei: _Trace | Any) -> str:  # noqa: N802  # logging's own name
        return described(ei[0], ei[2])


@provider(ILogObserver)  # type: ignore[untyped-decorator]  # zope.interface has no types
def _twisted_event(event: dict[str, Any]) -> None:
    """Twisted reports connections here as well; only its failures and errors are worth a line."""
    failure = event.get("log_failure")
    if failure is not None:
        text = described(failure.type, failure.getTracebackObject())
        logging.getLogger("twisted").error("unhandled failure\n%s", text)
    elif event.get("log_level") in (LogLevel.error, LogLevel.critical):
        logging.getLogger("twisted").error("%s", event.get("log_namespace", "error"))


def _ended_by(kind: type[BaseException], _error: BaseException, trace: TracebackType | None) -> None:
    log.critical("the process ends by an exception\n%s", described(kind, trace))


def _thread_ended_by(what: threading.ExceptHookArgs) -> None:
    log.error("a thread ended with an unhandled exception\n%s", described(what.exc_type, what.exc_traceback))


def _ignored(what: Any) -> None:
    """For what nobody can catch: raised in a finalizer or a C callback (``sys.unraisablehook``)."""
    log.error("an exception was ignored\n%s", described(what.exc_type, what.exc_traceback))


def setup(level: str, who: str) -> None:
    """Send the log of this process, and Twisted's, to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_SafeFormatter(f"%(asctime)s {who} %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    globalLogBeginner.beginLoggingTo(
        [ILogObserver(_twisted_event)], redirectStandardIO=False, discardBuffer=True
    )
    sys.excepthook, threading.excepthook, sys.unraisablehook = _ended_by, _thread_ended_by, _ignored
