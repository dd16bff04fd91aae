"""The access log: its fields, its files, and that they go when they were promised to."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import Clock

from protocols.access_log import Entry, FileAccessLog, expired, line_of, user_agent
from protocols.limits import AccessLogLimits

ENTRY = Entry("192.0.2.1", "mutt 2.2", "IMAP FETCH", 1234, "OK", False)
FAILED = Entry("192.0.2.1", "", "IMAP SELECT", 40, "NO NONEXISTENT", True)
DAY_S = 86_400


def at_once(work: Any, *args: Any) -> Deferred[None]:
    """A thread that is none."""
    return maybeDeferred(work, *args)


def log_in(folder: Path, clock: Clock, **settings: Any) -> FileAccessLog:
    """An access log that writes without threads."""
    return FileAccessLog(folder, AccessLogLimits(), clock, run_in_thread=at_once, **settings)


def test_line_has_exactly_the_promised_fields() -> None:
    """Time, client address, user agent, command, bytes, result (promise 10)."""
    moment = datetime(2026, 2, 3, 4, 5, 6, tzinfo=UTC)
    assert json.loads(line_of(ENTRY, moment.isoformat(), with_address=True)) == {
        "time": "2026-02-03T04:05:06+00:00",
        "address": "192.0.2.1",
        "user_agent": "mutt 2.2",
        "command": "IMAP FETCH",
        "bytes": 1234,
        "result": "OK",
    }
    assert json.loads(line_of(ENTRY, moment.isoformat(), with_address=False))["address"] == "-"


def test_whatever_a_client_calls_itself_stays_inside_its_field() -> None:
    """Quotes and backslashes too: each line is one JSON object, read back as it was."""
    name = 'a "b", \\ {c}'
    line = line_of(replace(ENTRY, user_agent=name, address="fe80::1%eth0"), "2026-02-03", with_address=True)
    assert line.count("\n") == 1
    assert json.loads(line)["user_agent"] == name
    assert json.loads(line)["address"] == "fe80::1%eth0"


def test_files_by_day_and_errors_apart(tmp_path: Path) -> None:
    """Lines are gathered, written to the day's file, failures to the error log as well."""
    clock = Clock()
    clock.advance(DAY_S - 1)
    log = log_in(tmp_path, clock)
    log.record(ENTRY)
    log.record(FAILED)
    assert not list(tmp_path.iterdir())
    clock.advance(1)
    log.record(ENTRY)
    log.flush()
    names = {path.name: path.read_text().count("\n") for path in tmp_path.iterdir()}
    assert names == {"access-1970-01-01.log": 2, "error-1970-01-01.log": 1, "access-1970-01-02.log": 1}


def test_old_files_are_deleted_and_others_left_alone(tmp_path: Path) -> None:
    """Ten days of access log and seven of errors are kept, today included, and nothing of anybody else."""
    for day in range(1, 29):
        for kind in ("access", "error", "server"):
            (tmp_path / f"{kind}-2026-01-{day:02}.log").write_text("x")
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "access-2020-99-99.log").write_text("x")
    clock = Clock()
    clock.advance(datetime(2026, 1, 28, 12, tzinfo=UTC).timestamp())
    log_in(tmp_path, clock).delete_expired()
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == sorted(
        [
            *(f"access-2026-01-{day}.log" for day in range(19, 29)),
            *(f"error-2026-01-{day}.log" for day in range(22, 29)),
            *(f"server-2026-01-{day}.log" for day in range(22, 29)),
            "notes.txt",
            "access-2020-99-99.log",
        ]
    )


def test_retention_cannot_be_longer_than_promised() -> None:
    """More than 10 and 7 days are refused."""
    for settings in ({"access_days": 11}, {"error_days": 8}, {"access_days": 0}, {"server_days": 8}):
        with pytest.raises(ValueError, match="between"):
            AccessLogLimits(**settings)
    assert not expired("access-2026-01-10.log", date(2026, 1, 10), AccessLogLimits(access_days=1))
    assert expired("access-2026-01-09.log", date(2026, 1, 10), AccessLogLimits(access_days=1))
    assert expired("server-2026-01-09.log", date(2026, 1, 10), AccessLogLimits(server_days=1))
    assert not expired("error-2026-01-09.log", date(2026, 1, 10), AccessLogLimits(server_days=1))


def test_disk_that_fails_does_not_stop_the_service(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A missing folder is named, with what the system said; recording goes on."""
    clock = Clock()
    log = log_in(tmp_path / "missing", clock)
    log.record(ENTRY)
    clock.advance(1)
    assert f"the access log in {tmp_path / 'missing'} cannot be written: No such file or dir" in caplog.text
    assert ENTRY.address not in caplog.text
    log.record(ENTRY)
    clock.advance(1)


def test_slow_disk_gets_one_block_at_a_time(tmp_path: Path) -> None:
    """While a block is being written the next gathers; a flush waits for both."""
    waiting: list[Deferred[None]] = []

    def slow(work: Any, *args: Any) -> Deferred[None]:
        waiting.append(Deferred())
        return waiting[-1].addCallback(lambda _: work(*args))

    clock = Clock()
    log = FileAccessLog(tmp_path, AccessLogLimits(), clock, run_in_thread=slow)
    log.record(ENTRY)
    clock.advance(1)
    log.record(ENTRY)
    done = log.flush()
    assert len(waiting) == 1
    waiting[0].callback(None)
    assert not done.called
    waiting[1].callback(None)
    assert done.called
    assert (tmp_path / "access-1970-01-01.log").read_text().count("\n") == 2


def test_user_agent_is_name_and_version_only() -> None:
    """Control characters and other fields of an ID do not reach the log."""
    fields = ((b"name", b"Mail\r\n\xff"), (b"os", b"hush"), (b"version", b"1" * 500))
    text = user_agent(fields, AccessLogLimits())
    assert text.startswith("Mail??? 111")
    assert len(text) == 120
    assert user_agent((), AccessLogLimits()) == ""
