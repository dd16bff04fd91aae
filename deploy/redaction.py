"""The one place that every line of the process log passes: what may be in it, and how it looks.

Written are the program's own words, numbers, and names that the operator has given. Not written are the text
of an exception that is not our own, which may quote what a client sent; values of other kinds, whose ``repr``
may show anything; and messages of libraries, of which only the place is told.
"""

from __future__ import annotations

import json
import logging
import re
import traceback
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import PurePath
from types import TracebackType
from typing import Literal

Style = Literal["text", "json"]

OUR_LOGGERS = "sealbox"
_OUR_ROOMS = ("mailstore", "protocols", "backup", "deploy")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")
"""All but newline and tab: they could move the cursor of whoever reads the log in a terminal."""

_TEXT_MAX = 8192
"""Characters of a message; what follows is cut."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the log, safe to be written anywhere."""

    time: str
    """ISO 8601, UTC."""
    process: str
    level: str
    logger: str
    message: str
    trace: str = ""
    """Where an exception came from, and its kind."""


def described(kind: type[BaseException] | None, trace: TracebackType | None) -> str:
    """Kind and origin of an exception, without its text and without lines of source."""
    frames = traceback.extract_tb(trace)
    places = [f'  File "{one.filename}", line {one.lineno}, in {one.name}\n' for one in frames]
    return "".join(places) + (kind.__name__ if kind else "no exception")


def redacted(record: logging.LogRecord, process: str) -> Line:
    """What may be written of a record. Never raises."""
    trace = ""
    if isinstance(record.exc_info, tuple):
        trace = described(record.exc_info[0], record.exc_info[2])
    return Line(
        datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
        process,
        record.levelname,
        record.name,
        _CONTROL.sub("?", _message(record))[:_TEXT_MAX],
        _CONTROL.sub("?", trace),
    )


def as_text(line: Line) -> str:
    """For people: one line, and below it where an exception came from."""
    text = f"{line.time} {line.process} {line.level} {line.logger}: {line.message}"
    return f"{text}\n{line.trace}" if line.trace else text


def as_json(line: Line) -> str:
    """For programs: one object a line, which begins as those of the access log do."""
    fields = {
        "time": line.time,
        "process": line.process,
        "level": line.level.lower(),
        "logger": line.logger,
        "message": line.message,
    }
    return json.dumps(fields | ({"trace": line.trace} if line.trace else {}), separators=(",", ":"))


def _message(record: logging.LogRecord) -> str:
    if record.name.partition(".")[0] != OUR_LOGGERS:
        return f"a library says something that is not written ({record.filename}:{record.lineno})"
    template, arguments = record.msg, record.args
    if not isinstance(template, str):
        return str(_safe(template))
    if not arguments:
        return template
    try:
        if isinstance(arguments, tuple):
            return template % tuple(_safe(one) for one in arguments)
        return template % _Named({name: _safe(value) for name, value in arguments.items()})
    except (TypeError, ValueError, KeyError):
        return template  # the places in it stay empty


class _Named(dict[str, object]):
    """Values by name; a template that wants none of them, but one value, gets its kind."""

    def __repr__(self) -> str:
        return "<dict>"


def _safe(value: object) -> object:
    """The value if it may be written; else what kind of thing it is."""
    if value is None or isinstance(value, bool | int | float | PurePath):
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, BaseException) and type(value).__module__.partition(".")[0] in _OUR_ROOMS:
        return str(value)
    return f"<{type(value).__name__}>"
