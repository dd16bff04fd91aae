"""The one place that every line of the process log passes: nothing that could quote a client gets by."""

from __future__ import annotations

import ast
import io
import json
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from backup.errors import StoreUnavailable
from deploy.logs import _ToFiles, _ToStream, file_name
from deploy.redaction import Style, as_json, as_text, redacted
from mailstore.errors import StorageFull

ROOT = Path(__file__).resolve().parents[3]
SECRET = "what a client sent"
BYTES = SECRET.encode()


class Sent:
    """Something whose texts show what a client has sent."""

    def __init__(self) -> None:
        self.text = SECRET

    def __repr__(self) -> str:
        return SECRET

    def __str__(self) -> str:
        return SECRET

    def __format__(self, _: str) -> str:
        return SECRET


def record(name: str, template: Any, *arguments: Any, level: int = logging.ERROR) -> logging.LogRecord:
    """As a logger makes it."""
    return logging.getLogger(name).makeRecord(name, level, "/place/file.py", 7, template, arguments, None)


def said(one: logging.LogRecord) -> str:
    """What is written of it, in both styles."""
    line = redacted(one, "worker-0")
    assert json.loads(as_json(line))["message"] == line.message
    return as_text(line) + as_json(line)


@pytest.mark.parametrize(
    "value",
    [
        Sent(),
        BYTES,
        bytearray(BYTES),
        memoryview(BYTES),
        [SECRET],
        (SECRET,),
        {"key": SECRET},
        {SECRET},
        ValueError(SECRET),
        UnicodeDecodeError("utf-8", BYTES, 0, 1, SECRET),
        OSError(2, "no such file", SECRET),
        KeyError(SECRET),
        ExceptionGroup(SECRET, [ValueError(SECRET)]),
        type(SECRET, (), {}),
        lambda text=SECRET: text,
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("template", ["%s failed", "%r failed", "%a failed", "%-40s failed"])
def test_of_other_kinds_only_the_kind_is_written(value: object, template: str) -> None:
    """Whatever would be made of it."""
    line = redacted(record("sealbox.imap", template, value), "worker-0")
    assert SECRET not in said(record("sealbox.imap", template, value))
    assert type(value).__name__ in line.message


@pytest.mark.parametrize(
    ("template", "arguments", "text"),
    [
        ("%d of %d workers, %.1f s", (1, 2, 0.5), "1 of 2 workers, 0.5 s"),
        ("account %s: %s", ("0" * 32, "StorageFull"), f"account {'0' * 32}: StorageFull"),
        ("cannot serve %s", (Path("/var/lib/sealbox"),), "cannot serve /var/lib/sealbox"),
        ("snapshots: %s", (StoreUnavailable("the store answers 503"),), "snapshots: the store answers 503"),
        ("%s", (StorageFull("the disk is full"),), "the disk is full"),
        ("%(one)s %(two)s", ({"one": 1, "two": Sent()},), "1 <Sent>"),
        ("nothing to fill in, 100 %", (), "nothing to fill in, 100 %"),
        ("%d workers", (Sent(),), "%d workers"),
        ("%s and %s", (1,), "%s and %s"),
        ("%s", (None,), "None"),
    ],
)
def test_our_own_words_and_numbers_are_written(template: str, arguments: Any, text: str) -> None:
    """And a mistake of ours in a template costs no line."""
    assert redacted(record("sealbox.supervisor", template, *arguments), "x").message == text


def test_what_is_no_template_is_not_written() -> None:
    """An exception or an object in its place."""
    for odd in (Sent(), ValueError(SECRET), BYTES):
        assert SECRET not in said(record("sealbox.imap", odd))


@pytest.mark.parametrize(
    "name", ["botocore.hooks", "urllib3.connectionpool", "twisted", "py.warnings", "root"]
)
def test_of_libraries_only_the_place_is_told(name: str) -> None:
    """Their messages may have been put together from anything before they come here."""
    text = said(record(name, f"retrying {SECRET}", SECRET))
    assert SECRET not in text
    assert "file.py:7" in text
    assert name in text


def test_an_exception_is_its_kind_and_place() -> None:
    """With all it was raised from, nothing of its text, notes and arguments, nor of a text kept before."""
    try:
        try:
            raise KeyError(SECRET)
        except KeyError as cause:
            cause.add_note(SECRET)
            raise ValueError(SECRET) from cause
    except ValueError:
        one = logging.getLogger("sealbox.x").makeRecord(
            "sealbox.x", logging.ERROR, "f.py", 1, "failed", (), sys.exc_info(), "function", None, SECRET
        )
    one.exc_text = SECRET
    text = said(one)
    assert SECRET not in text
    assert "ValueError" in text
    assert "in test_an_exception_is_its_kind_and_place" in text


def test_nobody_forges_a_line_or_moves_the_cursor() -> None:
    """Control characters become question marks; a line in JSON stays one line."""
    one = record("sealbox.x", "%s", "a\r\x1b[2Jb\x00\u2028c\nd")
    assert redacted(one, "x").message == "a??[2Jb??c\nd"
    assert as_json(redacted(one, "x")).count("\n") == 0


def test_a_line_has_its_end() -> None:
    """However long what is logged may be."""
    assert len(redacted(record("sealbox.x", "%s", "x" * 1_000_000), "x").message) < 10_000


@pytest.fixture
def to() -> Iterator[Callable[..., tuple[logging.Logger, io.StringIO]]]:
    """A logger that writes to a text."""
    logger = logging.getLogger("sealbox.test-of-redaction")
    logger.propagate = False

    def made(style: Style = "text") -> tuple[logging.Logger, io.StringIO]:
        text = io.StringIO()
        logger.addHandler(_ToStream("worker-1", style, text))
        return logger, text

    yield made
    logger.handlers.clear()


def test_a_line_in_json_is_for_programs(to: Callable[..., tuple[logging.Logger, io.StringIO]]) -> None:
    """It begins as lines of the access log do, by which the age of files is told."""
    logger, text = to("json")
    logger.warning("%d left", 3)
    fields = json.loads(text.getvalue())
    assert text.getvalue().startswith('{"time":"20')
    assert datetime.fromisoformat(fields.pop("time")).tzinfo == UTC
    assert fields == {
        "process": "worker-1",
        "level": "warning",
        "logger": "sealbox.test-of-redaction",
        "message": "3 left",
    }


def test_a_stream_that_is_gone_stops_nobody(
    to: Callable[..., tuple[logging.Logger, io.StringIO]], capfd: pytest.CaptureFixture[str]
) -> None:
    """Nor does Python print the record in its place."""
    logger, text = to()
    text.write = broken  # type: ignore[method-assign]  # a pipe whose reader has ended
    logger.error("%s", SECRET)
    assert capfd.readouterr() == ("", "")


def broken(_text: str) -> int:
    """As a closed pipe does."""
    raise BrokenPipeError(32, "Broken pipe")


@pytest.mark.parametrize("in_thread", [False, True])
def test_errors_go_to_the_file_of_their_day(tmp_path: Path, in_thread: bool) -> None:
    """Warnings too, what is only told not; the last line is there when the log has been closed."""
    handler = _ToFiles("worker-0", "text", tmp_path, in_thread=in_thread)
    for number, level in enumerate((logging.INFO, logging.WARNING, logging.ERROR)):
        one = record("sealbox.x", "line %d", number, level=level)
        one.created = datetime(2026, 2, 3, 23, 59, 59, tzinfo=UTC).timestamp() + number
        if one.levelno >= handler.level:
            handler.handle(one)
    handler.close()
    found = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert found == {
        file_name("2026-02-04"): "2026-02-04T00:00:00.000+00:00 worker-0 WARNING sealbox.x: line 1\n"
        "2026-02-04T00:00:01.000+00:00 worker-0 ERROR sealbox.x: line 2\n"
    }


@pytest.mark.parametrize("in_thread", [False, True])
def test_a_disk_that_says_no_stops_nobody(tmp_path: Path, in_thread: bool) -> None:
    """And the next line is tried again."""
    handler = _ToFiles("worker-0", "text", tmp_path / "missing", in_thread=in_thread)
    handler.handle(record("sealbox.x", "lost"))
    handler.close()
    handler = _ToFiles("worker-0", "text", tmp_path, in_thread=in_thread)
    handler.handle(record("sealbox.x", "kept"))
    handler.close()
    assert len(list(tmp_path.iterdir())) == 1


PROGRAM = """
import logging, sys, warnings
from pathlib import Path
from deploy.logs import LogSettings, setup
from twisted.logger import Logger
from twisted.python import failure, log
secret = "what a " + "client sent"
setup(LogSettings("debug", sys.argv[1], Path(sys.argv[2])), "worker-0", in_thread=True)
warnings.warn(secret)
logging.getLogger("botocore").debug(secret)
logging.getLogger("botocore").error(secret)
logging.error("%s", secret)
Logger().error("{what}", what=secret)
Logger().info("{what}", what=secret)
try:
    raise ValueError(secret)
except ValueError:
    log.err(failure.Failure(), secret)
    logging.getLogger("sealbox.x").exception("it %s", ValueError(secret))
logging.getLogger("sealbox.x").error("%d", secret)
logging.shutdown()
raise ValueError(secret)
"""


@pytest.mark.parametrize("style", ["text", "json"])
def test_whatever_speaks_in_a_process_passes_here(style: str, tmp_path: Path) -> None:
    """Twisted's logs, old and new, warnings, libraries, and the exception that ends it."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, style, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 1
    (file,) = tmp_path.iterdir()
    for text in (done.stderr, file.read_text()):
        assert SECRET not in text
        for kind in ("UserWarning", "ValueError", "a library says something", "unhandled failure"):
            assert kind in text
    assert "the process ends by an exception" in done.stderr
    assert done.stdout == ""


ALONE = {"deploy/logs.py", "deploy/redaction.py"}
SERVER_ROOMS = ("mailstore", "protocols", "backup", "deploy")
AROUND = {
    "basicConfig",
    "addHandler",
    "StreamHandler",
    "FileHandler",
    "print_exc",
    "print_exception",
    "lastResort",
}


@pytest.mark.parametrize("room", SERVER_ROOMS)
def test_nothing_goes_around_it(room: str) -> None:
    """No other handler, no traceback printed; standard error is written to by commands, to their caller."""
    found = []
    for path in sorted((ROOT / room).rglob("*.py")):
        name = path.relative_to(ROOT).as_posix()
        if name in ALONE:
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            word = getattr(node, "attr", None) or getattr(node, "id", None)
            is_stream = word in ("stderr", "stdout") and not name.startswith(
                ("deploy/cli/", "deploy/first_run")
            )
            if word in AROUND or (is_stream and isinstance(node, ast.Attribute) and is_sys(node)):
                found.append(f"{name}:{node.lineno} {word}")
    assert found == []


def is_sys(node: ast.Attribute) -> bool:
    """Whether it is something of the module ``sys``."""
    return isinstance(node.value, ast.Name) and node.value.id == "sys"
