"""The age of log lines is read from the lines, also where another program has renamed the files."""

from __future__ import annotations

import gzip
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

from protocols.access_log import Entry, line_of
from protocols.limits import AccessLogLimits
from protocols.log_age import LogFile, log_files

NOW = datetime(2026, 7, 31, 12, 0, tzinfo=UTC)
LIMITS = AccessLogLimits()


def lines(*days: float) -> bytes:
    """Lines of the log, so many days old."""
    entry = Entry("192.0.2.1", "a program", "FETCH", 17, "OK", failed=False)
    times = [(NOW - timedelta(days=one)).isoformat(timespec="seconds") for one in days]
    return "".join(line_of(entry, one, with_address=True) for one in times).encode()


def look(folder: Path) -> dict[str, LogFile]:
    """The files by name."""
    return {one.name: one for one in log_files(folder, NOW.timestamp(), LIMITS)}


def test_a_line_that_is_too_old_is_seen_wherever_it_stands(tmp_path: Path) -> None:
    """In the middle of a file whose name is of today."""
    (tmp_path / "access-2026-07-31.log").write_bytes(lines(0, 9.9, 1))
    assert not look(tmp_path)["access-2026-07-31.log"].is_overdue
    (tmp_path / "access-2026-07-31.log").write_bytes(lines(0, 10.1, 1))
    found = look(tmp_path)["access-2026-07-31.log"]
    assert found.is_overdue
    assert (found.lines, round(found.oldest_days, 1)) == (3, 10.1)


def test_the_error_log_has_days_of_its_own(tmp_path: Path) -> None:
    """Seven, not ten."""
    for name in ("access-2026-07-23.log", "error-2026-07-23.log"):
        (tmp_path / name).write_bytes(lines(7.1))
    assert [name for name, one in look(tmp_path).items() if one.is_overdue] == ["error-2026-07-23.log"]


def test_the_servers_own_log_is_read_in_both_its_styles(tmp_path: Path) -> None:
    """Its lines tell their time, also where an exception's places are below one."""
    old = (NOW - timedelta(days=7.1)).isoformat(timespec="milliseconds")
    for number, line in enumerate((f'{{"time":"{old}","process":"x"}}', f"{old} x ERROR y: z\n  File\nE")):
        path = tmp_path / f"server-2026-07-3{number}.log"
        path.write_text(line + "\n")
        os.utime(path, (NOW.timestamp(), NOW.timestamp()))
    assert [one.is_overdue for one in look(tmp_path).values()] == [True, True]
    assert [one.shown for one in look(tmp_path).values()] == [
        "server-2026-07-30.log",
        "server-2026-07-31.log",
    ]


def test_renamed_and_compressed_files_are_read(tmp_path: Path) -> None:
    """As logrotate leaves them, in a folder below too; the time of the file does not help."""
    (tmp_path / "old").mkdir()
    for name, text in (
        ("access-2026-07-01.log.1", lines(12)),
        ("access-2026-07-02.log.2.gz", gzip.compress(lines(12))),
        ("old/ada.txt", lines(12)),
    ):
        (tmp_path / name).write_bytes(text)
        os.utime(tmp_path / name, (NOW.timestamp(), NOW.timestamp()))
    found = look(tmp_path)
    assert [one.is_overdue for one in found.values()] == [True] * 3
    assert found["ada.txt"].shown == "a file of another name"


def test_lines_without_a_time_are_as_old_as_their_file(tmp_path: Path) -> None:
    """What cannot be read may be anything: garbage, or a file that is cut."""
    for name, content in (("a", b"garbage\n"), ("b.gz", gzip.compress(lines(0))[:-9]), ("c.gz", b"no gzip")):
        (tmp_path / name).write_bytes(content)
        os.utime(tmp_path / name, ((NOW - timedelta(days=11)).timestamp(),) * 2)
    assert [one.is_overdue for one in look(tmp_path).values()] == [True] * 3
    os.utime(tmp_path / "a", ((NOW - timedelta(days=9)).timestamp(),) * 2)
    assert not look(tmp_path)["a"].is_overdue


def test_no_folder_and_empty_files_are_in_order(tmp_path: Path) -> None:
    """Nothing has been logged."""
    assert look(tmp_path / "log") == {}
    (tmp_path / "access-2026-01-01.log").touch()
    assert not look(tmp_path)["access-2026-01-01.log"].is_overdue
