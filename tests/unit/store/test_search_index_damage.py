"""Whatever becomes of the index's file, a search finds what is there."""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from store_world import World, now

from mailstore import search
from mailstore.account_database import search_key
from mailstore.engine import Database, Txn, open_connection
from mailstore.limits import StoreLimits
from mailstore.model import NewMessage
from mailstore.ops import search as search_ops
from mailstore.search_index import FAILED_RETRY_S, SearchIndex

PAGE = 4096
LETTERS = "abcdefghijklmnoprstu"


class Indexed:
    """Mail that is indexed, and indexes of it to be opened beside the server's own."""

    def __init__(self, world: World, messages: int = 60) -> None:
        self.account = world.login()
        self.paths = world.paths
        self._limits = StoreLimits(min_free_bytes=0, index_batch_messages=7)
        rng = random.Random(1)  # the same mail each time
        now(self.account.append("Drafts", [NewMessage(self._message(rng)) for _ in range(messages)]))
        self.mail: Database = now(
            self.account._opened._rest._databases.readers.run(lambda database: database)
        )
        self.key = search_key(self.account._opened._hold.master)
        self.build()

    @staticmethod
    def _message(rng: random.Random) -> bytes:
        words = ["".join(rng.choices(LETTERS, k=rng.randint(3, 8))) for _ in range(150)]
        names = ", ".join(f"{word} <{word}@example.org>" for word in words[:60])
        return f"Subject: {words[0]}\r\nTo: {names}\r\n\r\n{' '.join(words)}\r\n".encode()

    def open(self) -> SearchIndex:
        """An index that nobody else has open."""
        return SearchIndex(self.paths, lambda: self.key, self._limits)

    def build(self) -> None:
        """Index everything."""
        index = self.open()
        for _ in range(500):
            if index.work(self.mail) is None:
                break
        index.close()

    def found(self, key: search.Key, index: SearchIndex | None) -> list[int]:
        """What is found, with what an index says."""
        known = None if index is None else index.candidates(self.mail, key)
        mailbox = now(self.account.select("Drafts", True)).opened.mailbox_id
        return list(self.mail.read(0, search_ops.run, mailbox, key, 0, known).uids)


KEYS: tuple[Callable[[str], search.Key], ...] = (
    search.BodyText,
    search.AnyText,
    lambda text: search.HeaderText("SUBJECT", text),
    lambda text: search.HeaderText("TO", text),
)


def test_no_damaged_page_makes_a_message_disappear(world: World) -> None:
    """A row that goes on in another page would be read as if it ended there, when that page is damaged."""
    indexed = Indexed(world)
    whole = indexed.paths.search_db.read_bytes()
    keys = [make(text) for make in KEYS for text in ("abc", "a", "tor", "e <")]
    right = [indexed.found(key, None) for key in keys]
    assert sum(map(bool, right)) > 8
    used = 0
    for page in range(1, len(whole) // PAGE):
        for path in indexed.paths.search_db_files:
            path.unlink(missing_ok=True)
        middle = page * PAGE + PAGE // 2
        indexed.paths.search_db.write_bytes(whole[:middle] + os.urandom(32) + whole[middle + 32 :])
        index = indexed.open()
        for key, uids in zip(keys, right, strict=True):
            assert indexed.found(key, index) == uids
            used += index.candidates(indexed.mail, key) is not None
        index.close()
    assert used > len(whole) // PAGE


def make_directory(path: Path) -> None:
    """A folder where the index should be."""
    path.unlink()
    path.mkdir()


def make_link(path: Path) -> None:
    """A link to nowhere."""
    path.unlink()
    path.symlink_to(path.with_name("nowhere"))


@pytest.mark.parametrize(
    "spoil",
    [
        make_directory,
        make_link,
        lambda path: path.write_bytes(b""),
        lambda path: os.truncate(path, 3 * PAGE + 5),
    ],
    ids=["folder", "link", "empty", "cut"],
)
def test_a_file_that_is_no_index_fails_nothing(world: World, spoil: Callable[[Path], object]) -> None:
    """While it is open and afterwards; indexing, too, only tries again later."""
    indexed = Indexed(world, 10)
    key = search.BodyText("abc")
    right = indexed.found(key, None)
    index = indexed.open()
    assert indexed.found(key, index) == right
    spoil(indexed.paths.search_db)
    for _ in range(3):
        assert indexed.found(key, index) == right
        index.work(indexed.mail)
    index.close()
    index = indexed.open()
    for _ in range(20):
        assert indexed.found(key, index) == right
        index.work(indexed.mail)
    index.close()
    if indexed.paths.search_db.is_dir():
        shutil.rmtree(indexed.paths.search_db)
    indexed.build()
    index = indexed.open()
    assert index.candidates(indexed.mail, key) is not None and indexed.found(key, index) == right
    index.close()


def test_an_index_that_cannot_be_opened_does_not_fill_the_log(
    world: World, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client may search all day; after a minute it is tried again."""
    indexed = Indexed(world, 10)
    key = search.BodyText("abc")
    index = indexed.open()
    kept = indexed.paths.search_db.rename(indexed.paths.folder / "kept")
    indexed.paths.search_db.mkdir()
    for _ in range(20):
        assert index.candidates(indexed.mail, key) is None
    assert sum(record.name == "sealbox.search" for record in caplog.records) == 1
    indexed.paths.search_db.rmdir()
    kept.rename(indexed.paths.search_db)
    assert index.candidates(indexed.mail, key) is None
    later_s = time.monotonic() + FAILED_RETRY_S
    monkeypatch.setattr("mailstore.search_index.time.monotonic", lambda: later_s)
    assert index.candidates(indexed.mail, key) is not None
    index.close()


@pytest.mark.parametrize(
    "change",
    [
        "DROP TABLE field",
        "ALTER TABLE indexed RENAME has_body TO is_whole",
        "ALTER TABLE field ADD more BLOB",
    ],
)
def test_tables_of_another_program_are_not_asked(world: World, change: str) -> None:
    """Whatever its version says: each search would fail at them, and be a scan for ever."""
    indexed = Indexed(world, 10)
    key = search.HeaderText("SUBJECT", "abc")
    right = indexed.found(key, None)
    database = open_connection(indexed.paths.search_db, indexed.key, autocheckpoint_pages=1000)
    database.write(0, Txn.run, change)
    database.close()
    index = indexed.open()
    assert indexed.found(key, index) == right
    index.close()
    indexed.build()
    index = indexed.open()
    assert index.candidates(indexed.mail, key) is not None and indexed.found(key, index) == right
    index.close()


def test_an_index_that_contradicts_itself_is_made_anew(world: World) -> None:
    """It cannot be filled any further, and would fail with every message that comes."""
    indexed = Indexed(world, 10)
    database = open_connection(indexed.paths.search_db, indexed.key, autocheckpoint_pages=1000)
    database.write(0, Txn.run, "UPDATE about SET value = '5' WHERE name = 'up_to'")
    database.close()
    index = indexed.open()
    index.work(indexed.mail)
    assert not indexed.paths.search_db.exists()
    index.close()
    indexed.build()
    index = indexed.open()
    known = index.candidates(indexed.mail, search.BodyText("abc"))
    assert known is not None and known.up_to == 10
    index.close()
