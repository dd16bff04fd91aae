"""What state of the mail an index is of, and what is said of how far it has come."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from index_world import found, index, scanned, stay_awake
from store_world import World, now

from mailstore import search
from mailstore.account_database import search_key
from mailstore.errors import StorageFull
from mailstore.index_progress import IndexProgress, IndexState, index_progress
from mailstore.limits import StoreLimits
from mailstore.model import NewMessage
from mailstore.room import log_bytes
from mailstore.search_index import SearchIndex
from mailstore.uidset import UidSet


def mail(word: str, count: int = 1) -> list[NewMessage]:
    """Messages with this word."""
    return [NewMessage(f"Subject: {word}\r\n\r\n{word}\r\n".encode())] * count


@pytest.mark.parametrize("gone", [[9], [8, 9], list(range(2, 10))], ids=len)
def test_an_older_mailbox_is_noticed_although_what_was_indexed_last_is_gone_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gone: list[int]
) -> None:
    """Its messages have ids under which the index knows others, and some of those have been removed."""
    monkeypatch.setattr("mailstore.search_index._LOOK_BACK", 1)
    world = World(tmp_path / "root")
    now(world.login().append("Drafts", mail("horse")))
    world.close()
    older = world.paths.mail_db.read_bytes()
    world = World(tmp_path / "root")
    now(world.login().append("Drafts", mail("horse", 8)))
    index(world)
    world.close()
    world.paths.mail_db.write_bytes(older)
    world = World(tmp_path / "root")
    account = world.login()
    now(account.append("Drafts", mail("zebra", 20)))
    mailbox = now(account.select("Drafts", False))
    now(mailbox.remove(UidSet.of(gone)))
    key = search.BodyText("zebra")
    assert found(mailbox, key) == scanned(mailbox, key) == [uid for uid in range(2, 22) if uid not in gone]
    index(world)
    assert found(mailbox, key) == scanned(mailbox, key)
    world.close()


def test_an_index_stays_while_what_was_indexed_last_is_removed(tmp_path: Path) -> None:
    """A process that opens it before another one has taken that out does not make it anew."""
    world = World(tmp_path / "root")
    account = world.login()
    now(account.append("Drafts", mail("horse", 9)))
    index(world)
    mailbox = now(account.select("Drafts", False))
    now(mailbox.remove(UidSet.of([8, 9])))
    key = search_key(account._opened._hold.master)
    other = SearchIndex(world.paths, lambda: key, StoreLimits())
    mail_db = now(account._opened._rest._databases.readers.run(lambda database: database))
    known = other.candidates(mail_db, search.BodyText("horse"))
    assert known is not None and known.up_to == 9
    other.close()
    world.close()


def test_nobody_is_told_that_all_is_indexed_on_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What comes while there is no room is in no index."""
    world = World(tmp_path / "root")
    stay_awake(world)
    account = world.login()
    now(account.append("Drafts", mail("horse")))
    index(world)
    assert index_progress(world.paths) == IndexProgress(IndexState.COMPLETE)

    def full(*_: object) -> None:
        raise StorageFull("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr("mailstore.search_index.require_margin", full)
        now(account.append("Drafts", mail("zebra")))
        index(world)
        assert index_progress(world.paths) == IndexProgress(IndexState.PARTIAL)
    world.clock.advance(61)
    index(world)
    assert index_progress(world.paths) == IndexProgress(IndexState.COMPLETE)
    world.close()


def test_nobody_is_told_that_all_is_indexed_before_that_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process may be killed at any time, also before it has said how far it is."""
    world = World(tmp_path / "root", StoreLimits(index_batch_messages=10))
    now(world.login().append("Drafts", mail("horse", 30)))
    monkeypatch.setattr(SearchIndex, "_note_progress", lambda *_: None)
    world.clock.advance(2.1)
    assert world.paths.search_db.exists()
    assert index_progress(world.paths) == IndexProgress(IndexState.PARTIAL)
    world.close()


def test_nobody_is_told_that_all_is_indexed_when_an_account_closes_early(tmp_path: Path) -> None:
    """What came last waits for the next login."""
    world = World(tmp_path / "root")
    account = world.login()
    now(account.append("Drafts", mail("horse")))
    index(world)
    now(account.append("Drafts", mail("zebra")))
    world.close()
    assert index_progress(world.paths) == IndexProgress(IndexState.PARTIAL)


def test_a_batch_writes_no_more_than_there_has_to_be_room_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of texts in which no three characters come twice, when they are merged with those before them."""
    limits = StoreLimits(index_batch_chars=30_000, index_message_chars=10_000, min_free_bytes=0)
    world, chance = World(tmp_path / "root", limits), random.Random(1)
    account = world.login()
    texts = ["".join(chr(chance.randrange(0x3400, 0x9FFF)) for _ in range(9_900)) for _ in range(80)]
    head = "Content-Type: text/plain; charset=utf-8\r\n\r\n"
    now(account.append("Drafts", [NewMessage((head + text).encode()) for text in texts]))
    asked: list[int] = []
    monkeypatch.setattr("mailstore.search_index.require_margin", lambda *args: asked.append(args[2]))
    key = search_key(account._opened._hold.master)
    index_of = SearchIndex(world.paths, lambda: key, limits)
    mail_db = now(account._opened._rest._databases.readers.run(lambda database: database))

    def size() -> int:
        return sum(path.stat().st_size for path in world.paths.search_db_files if path.exists())

    grown: list[int] = []
    before = 0
    while index_of.work(mail_db) is not None:
        after = size()
        grown.append(after - before)
        assert index_of._empty_log()
        before = size()
    index_of.close()
    assert len(grown) > 16 and max(grown) > 10 * limits.index_batch_chars
    assert max(grown) <= min(asked) - log_bytes(world.paths.mail_db)
    world.close()
