"""A transaction that lies whole in the log and that SQLite never knew: its writer was killed just then.

Writers put the last frame of a transaction into the log, wait for the disk, and only then let others see it.
Killed in between, they leave a transaction that is there for everybody who reads the file, as recovery does
and as the snapshot job does; a process that has the database open meanwhile writes its next one over it.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from raw_world import KEY, Living, add, disturbed_checkpoint, rows

from backup.segment import Kind
from mailstore.engine import open_connection


def leave_unseen_commit(living: Living) -> None:
    """What a writer leaves that is killed when its transaction is in the log and in nobody's view.

    It is made on a copy, by what recovers the same log, and its frames are added to this one.
    """
    size = living.paths.wal.stat().st_size
    copy = living.place / "copy"
    copy.mkdir()
    for path in (living.paths.mail_db, living.paths.wal):
        shutil.copy(path, copy)
    writer = open_connection(copy / "mail.db", KEY)
    add(writer, 7, 30_000)
    frames = (copy / "mail.db-wal").read_bytes()[size:]
    writer.close()
    with living.paths.wal.open("r+b") as log:
        log.seek(size)
        log.write(frames)


@pytest.fixture
def living(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Living]:
    """An account with one snapshot, and a transaction in its log since."""
    monkeypatch.setattr("mailstore.engine.CHECKPOINT_PATIENCE_MS", 10)
    made = Living(tmp_path)
    made.take()
    add(made.database, 2, 100)
    yield made
    made.close()


def write_less(living: Living) -> None:
    """The next transaction is shorter than the one it is written over."""
    add(living.database, 3, 10)


def write_more(living: Living) -> None:
    """The next ones are longer together."""
    add(living.database, 3, 10)
    add(living.database, 4, 90_000)


def write_more_and_checkpoint(living: Living) -> None:
    """The log has been longer than it had been read, with something else in it, and is gone."""
    write_more(living)
    assert living.database.checkpoint()


def checkpoint(living: Living) -> None:
    """Nothing is written; the log is copied back, as far as SQLite knows it, and cut."""
    assert living.database.checkpoint()


def begin_anew(living: Living) -> None:
    """The log is copied back and not cut, and the next writer begins it anew."""
    disturbed_checkpoint(living.database)
    add(living.database, 3, 10)


def begin_anew_slowly(living: Living) -> None:
    """The same with the job coming twice between."""
    disturbed_checkpoint(living.database)
    living.take()
    assert living.take() is None
    add(living.database, 3, 10)


@pytest.mark.parametrize(
    "go_on",
    [write_less, write_more, write_more_and_checkpoint, checkpoint, begin_anew, begin_anew_slowly],
)
def test_what_nobody_ever_saw_does_not_stay_in_the_snapshots(
    living: Living, go_on: Callable[[Living], None]
) -> None:
    """A snapshot may hold it; the next one is what everybody sees, to the last page."""
    leave_unseen_commit(living)
    assert 7 not in rows(living.database)
    living.take()
    assert living.restored()[7] == 30_000, "this is what recovery would have found"
    go_on(living)
    taken = living.take()
    assert taken is not None and taken.name.kind is Kind.FULL
    assert living.restored() == rows(living.database)
    add(living.database, 5, 10)
    taken = living.take()
    assert taken is not None and taken.name.kind is Kind.CHANGES
    assert living.restored() == rows(living.database)


@pytest.mark.parametrize(
    "go_on", [write_less, write_more, write_more_and_checkpoint, begin_anew, begin_anew_slowly]
)
def test_what_everybody_saw_costs_no_full_snapshot(living: Living, go_on: Callable[[Living], None]) -> None:
    """However the log goes on: what was read from it is known to have become part of the database."""
    living.take()
    go_on(living)
    taken = living.take()
    assert taken is not None and taken.name.kind is Kind.CHANGES
    assert living.restored() == rows(living.database)
    assert living.database.checkpoint()
    assert living.take() is None
    add(living.database, 5, 10)
    taken = living.take()
    assert taken is not None and taken.name.kind is Kind.CHANGES
    assert living.restored() == rows(living.database)
