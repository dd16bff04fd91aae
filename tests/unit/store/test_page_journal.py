"""Which pages checkpoints wrote: what the journal says, and that it never says too little."""

import errno
import os
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mailstore import page_journal
from mailstore.engine import Database, DatabaseKey, Txn, close_all, open_connection
from mailstore.page_journal import (
    PAGE_JOURNAL,
    FileIdentity,
    forget_until,
    identity,
    make_journal,
    read_journal,
    written_since,
)
from mailstore.wal import WalPosition

KEY = DatabaseKey(b"k" * 32, b"s" * 16)
PAGE = 4096


def opened(tmp_path: Path) -> Database:
    """A database with a journal."""
    database = open_connection(tmp_path / "mail.db", KEY)
    database.write(0, lambda txn: txn.run("CREATE TABLE IF NOT EXISTS t(id INTEGER PRIMARY KEY, x BLOB)"))
    database.checkpoint()
    make_journal(tmp_path / PAGE_JOURNAL)
    return database


def add(database: Database, size: int) -> None:
    """One transaction with one row."""

    def insert(txn: Txn) -> None:
        txn.run("INSERT INTO t(x) VALUES(randomblob(?))", (size,))

    database.write(0, insert)


def pages(path: Path) -> dict[int, bytes]:
    """The pages of the main file by number."""
    data = path.read_bytes()
    return {at // PAGE + 1: data[at : at + PAGE] for at in range(0, len(data), PAGE)}


def known(path: Path) -> FileIdentity:
    """The file's identity, which must be there."""
    found = identity(path)
    assert found is not None
    return found


def since(tmp_path: Path, before: FileIdentity) -> set[int] | None:
    """What the journal says was written since ``before``."""
    records = read_journal(tmp_path / PAGE_JOURNAL)
    assert records is not None
    return written_since(records, before, known(tmp_path / "mail.db"), None)


def disturbed(txn: Txn, database: Database) -> None:
    """A checkpoint while a reader is in the way."""
    txn.one("SELECT count(*) FROM t")
    add(database, 10)
    database.checkpoint()


@pytest.mark.parametrize("seed", range(20))
def test_no_page_changes_unnoticed(tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over random writes, checkpoints, disturbed checkpoints and reopenings, changes are in the set."""
    monkeypatch.setattr("mailstore.engine.CHECKPOINT_PATIENCE_MS", 10)
    chance = random.Random(seed)
    main = tmp_path / "mail.db"
    database, other = opened(tmp_path), open_connection(main, KEY)
    marks = [(known(main), pages(main))]
    for _ in range(30):
        match chance.randrange(6):
            case 0 | 1:
                add(database, chance.choice((10, 5_000, 60_000)))
            case 2:
                database.write(0, lambda txn: txn.run("DELETE FROM t WHERE id % 3 = 1"))
            case 3:
                database.checkpoint()
            case 4:
                other.read(0, disturbed, database)
            case 5:
                close_all([database, other])
                database, other = opened(tmp_path), open_connection(main, KEY)
        marks.append((known(main), pages(main)))
    now = pages(main)
    for before, then in marks:
        found = since(tmp_path, before)
        assert found is not None
        assert {number for number in now if now[number] != then.get(number)} <= found
    close_all([database, other])


def test_nothing_is_noted_without_a_journal(tmp_path: Path) -> None:
    """Where no snapshots are taken, checkpoints leave nothing behind, and everything is unknown."""
    database = opened(tmp_path)
    (tmp_path / PAGE_JOURNAL).unlink()
    add(database, 10)
    assert database.checkpoint()
    close_all([database])
    assert read_journal(tmp_path / PAGE_JOURNAL) is None


def test_a_foreign_change_breaks_the_chain(tmp_path: Path) -> None:
    """When something else wrote to the main file, the answer is that nobody knows."""
    database = opened(tmp_path)
    main = tmp_path / "mail.db"
    before = known(main)
    add(database, 10)
    database.checkpoint()
    assert since(tmp_path, before)
    os.utime(main, ns=(1, 1))
    assert since(tmp_path, before) is None
    middle = known(main)
    add(database, 10)
    database.checkpoint()
    assert since(tmp_path, before) is None
    assert since(tmp_path, middle)
    close_all([database])


def test_a_checkpoint_whose_end_was_not_seen_still_counts(tmp_path: Path) -> None:
    """After a crash behind the first line its pages count; a line that was cut is passed over."""
    database = opened(tmp_path)
    main, journal = tmp_path / "mail.db", tmp_path / PAGE_JOURNAL
    before = known(main)
    add(database, 10)
    database.checkpoint()
    first = journal.read_bytes().splitlines(keepends=True)[0]
    changed = since(tmp_path, before)
    journal.write_bytes(first)
    assert since(tmp_path, before) == changed
    journal.write_bytes(first + b'12345678 {"aft')
    add(database, 10)
    database.checkpoint()
    found = since(tmp_path, before)
    assert found and changed and found >= changed
    close_all([database])


def test_pages_that_were_read_from_the_log_are_no_news(tmp_path: Path) -> None:
    """Frames up to the known position of the same log are left out."""
    database = opened(tmp_path)
    main = tmp_path / "mail.db"
    before = known(main)
    add(database, 10)
    database.checkpoint()
    (record,) = read_journal(tmp_path / PAGE_JOURNAL) or []
    whole = written_since([record], before, known(main), None)
    assert whole == set(record.pages)
    seen = WalPosition(record.salts, len(record.pages), 3, record.commits[len(record.pages)])
    assert written_since([record], before, known(main), seen) == set()
    assert written_since([record], before, known(main), replace(seen, salts=b"otherlog")) == whole
    close_all([database])


def test_a_note_tells_what_of_a_log_was_committed(tmp_path: Path) -> None:
    """Only a commit of the same log, with the same frames before it, and only among those SQLite knew."""
    database = opened(tmp_path)
    for size in (10, 5_000):
        add(database, size)
    database.checkpoint()
    (record,) = read_journal(tmp_path / PAGE_JOURNAL) or []
    first, last = sorted(record.commits)
    assert record.frames == last == len(record.pages)
    seen = WalPosition(record.salts, first, 3, record.commits[first])
    assert record.has(seen)
    assert record.has(replace(seen, frames=last, checksum=record.commits[last]))
    assert not record.has(replace(seen, salts=b"otherlog"))
    assert not record.has(replace(seen, frames=last))
    assert not record.has(replace(seen, checksum=record.commits[last]))
    assert not replace(record, frames=first - 1).has(seen)
    close_all([database])


def test_a_journal_that_grows_too_long_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not kept for ever when nobody reads it; the checkpoint runs all the same."""
    monkeypatch.setattr("mailstore.page_journal.MAX_JOURNAL_BYTES", 100)
    database = opened(tmp_path)
    add(database, 10)
    assert database.checkpoint()
    assert not (tmp_path / PAGE_JOURNAL).exists()
    close_all([database])


def test_an_end_without_a_beginning_is_passed_over(tmp_path: Path) -> None:
    """The beginning may be the line that a crash has cut."""
    database = opened(tmp_path)
    add(database, 10)
    database.checkpoint()
    close_all([database])
    journal = tmp_path / PAGE_JOURNAL
    _begun, ended = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(ended)
    assert read_journal(journal) == []


def test_a_journal_may_be_as_long_as_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And not an octet longer."""
    journal = tmp_path / PAGE_JOURNAL
    journal.touch()
    monkeypatch.setattr("mailstore.page_journal.MAX_JOURNAL_BYTES", 10)
    assert page_journal._append(journal, b"12345\n")
    assert not page_journal._append(journal, b"1234\n")
    assert page_journal._append(journal, b"123\n")


@pytest.mark.parametrize("call", ["open", "write", "fsync"])
def test_a_journal_that_cannot_be_kept_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """Too many files are open, say: a journal without this checkpoint would have snapshots miss its pages."""
    database = opened(tmp_path)
    add(database, 10)
    journal, works = tmp_path / PAGE_JOURNAL, getattr(os, call)
    inode = journal.stat().st_ino

    def refusing(which: Path | int, *more: Any) -> Any:
        if which == journal or (isinstance(which, int) and os.fstat(which).st_ino == inode):
            raise OSError(errno.EIO, "input/output error")
        return works(which, *more)

    with monkeypatch.context() as failing:
        failing.setattr(os, call, refusing)
        assert database.checkpoint()
    assert not journal.exists()
    close_all([database])


def test_notes_stand_one_behind_the_other(tmp_path: Path) -> None:
    """Only behind a line that a crash has cut begins a new one, so that the next note can be read."""
    database = opened(tmp_path)
    journal = tmp_path / PAGE_JOURNAL
    for _ in range(2):
        add(database, 10)
        database.checkpoint()
    whole = journal.read_bytes()
    assert b"\n\n" not in whole and whole.endswith(b"\n")
    journal.write_bytes(whole[:-2])
    add(database, 10)
    database.checkpoint()
    assert journal.read_bytes().startswith(whole[:-2] + b"\n")
    close_all([database])


def test_the_journal_is_emptied_when_all_of_it_is_known(tmp_path: Path) -> None:
    """And only then."""
    database = opened(tmp_path)
    main, journal = tmp_path / "mail.db", tmp_path / PAGE_JOURNAL
    before = known(main)
    add(database, 10)
    database.checkpoint()
    records = read_journal(journal) or []
    forget_until(journal, records, before)
    assert journal.stat().st_size
    forget_until(journal, records, known(main))
    assert journal.stat().st_size == 0
    assert since(tmp_path, known(main)) == set()
    close_all([database])
