"""The image of a database under its lock: what makes it be read again, and what makes it be refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from backup.errors import ImageUnreadable
from backup.image import Disturbed, image_of
from mailstore.account import AccountPaths
from mailstore.engine import Database, DatabaseKey, Txn, close_all, open_connection

KEY = DatabaseKey(b"k" * 32, b"s" * 16)


@pytest.fixture
def paths(tmp_path: Path) -> AccountPaths:
    """An account's folder."""
    return AccountPaths(tmp_path)


@pytest.fixture
def database(paths: AccountPaths, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    """A database of one table."""
    monkeypatch.setattr("mailstore.engine.CHECKPOINT_PATIENCE_MS", 10)
    made = open_connection(paths.mail_db, KEY)
    made.write(0, lambda txn: txn.run("CREATE TABLE t(x BLOB)"))
    made.checkpoint()
    yield made
    close_all([made])


def add(database: Database, size: int = 9_000) -> None:
    """One transaction."""

    def insert(txn: Txn) -> None:
        txn.run("INSERT INTO t VALUES(randomblob(?))", (size,))

    database.write(0, insert)


def backfilled(paths: AccountPaths, database: Database) -> None:
    """Leave a log that was copied back entirely and not cut, because a reader was in the way."""
    reader = open_connection(paths.mail_db, KEY)
    add(database)
    assert (
        reader.read(0, lambda txn: (txn.value("SELECT count(*) FROM t"), database.checkpoint()))[1] is False
    )
    reader.close()


def test_a_log_begun_anew_is_noticed(paths: AccountPaths, database: Database) -> None:
    """The next writer restarts it without any lock of ours; what was read is thrown away."""
    backfilled(paths, database)
    with image_of(paths, None) as image:
        assert image is not None
        assert len(list(image.content(((1, image.pages),))))
        image.check()
        add(database)
        with pytest.raises(Disturbed):
            image.check()


def test_a_log_that_only_grows_does_not_disturb(paths: AccountPaths, database: Database) -> None:
    """Writers go on while an image is read; it stays what it was."""
    add(database)
    with image_of(paths, None) as image:
        assert image is not None
        before = list(image.content(((1, image.pages),)))
        add(database, 50_000)
        assert list(image.content(((1, image.pages),))) == before
        image.check()


def test_there_may_be_no_database_yet(paths: AccountPaths) -> None:
    """Neither before the first login nor in the middle of creating it."""
    with image_of(paths, None) as image:
        assert image is None
    paths.mail_db.write_bytes(b"")
    with image_of(paths, None) as image:
        assert image is None


@pytest.mark.parametrize("content", [b"SQLite format 3\0".ljust(4096, b"\0"), b"x" * 4095])
def test_what_is_no_database_of_ours_is_refused(paths: AccountPaths, content: bytes) -> None:
    """Plain SQLite most of all: nothing unencrypted leaves the server."""
    paths.mail_db.write_bytes(content)
    with pytest.raises(ImageUnreadable), image_of(paths, None):
        pass


def test_a_main_file_that_is_too_short_is_refused(paths: AccountPaths, database: Database) -> None:
    """A page that is neither in the log nor in the file is damage, not zeros."""
    add(database, 50_000)
    database.checkpoint()
    add(database, 10)
    with paths.mail_db.open("r+b") as file:
        file.truncate(4096 * 3)
    with image_of(paths, None) as image, pytest.raises(ImageUnreadable):
        assert image is not None
        list(image.content(((1, image.pages),)))
    with paths.mail_db.open("r+b") as file:
        file.truncate(4096 * 40)
