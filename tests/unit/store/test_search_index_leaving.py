"""The search index when an account closes, when many are open, and where FTS5 tells characters apart."""

from __future__ import annotations

import pytest
from decrypted_pages import decrypted_pages
from index_world import found, index, scanned
from store_world import World, now

from mailstore import search, search_index
from mailstore.account_database import search_key
from mailstore.model import NewMessage
from mailstore.store import Account
from mailstore.uidset import UidSet

MARK, KEPT = "ⅎ", "☃"


def with_marks(world: World) -> Account:
    """An account with two messages that are indexed, of which the first has just been expunged."""
    account = world.login()
    mails = (f"Subject: {mark * 4}\r\n\r\n{mark * 4}\r\n" for mark in (MARK, KEPT))
    now(account.append("Drafts", [NewMessage(mail.encode()) for mail in mails]))
    index(world)
    now(now(account.select("Drafts", False)).remove(UidSet.of([1])))
    return account


def test_what_was_expunged_just_before_the_end_is_in_no_page(world: World) -> None:
    """The server stops before the index would have been looked at again; the rest of the index stays."""
    account = with_marks(world)
    key = search_key(account._opened._hold.master).key
    now(account._opened.close())
    text = decrypted_pages(world.paths.search_db, key)
    assert b"text_0" in text and KEPT.encode() in text
    assert MARK.encode() not in text
    assert not any(path.exists() for path in world.paths.search_db_files[1:3])


def test_what_takes_long_takes_the_index_with_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that stops cannot wait; the next login begins a new one."""
    account = with_marks(world)
    monkeypatch.setattr(search_index, "LEAVE_S", -1.0)
    now(account._opened.close())
    assert not any(path.exists() for path in world.paths.search_db_files)
    account = world.login()
    index(world)
    assert found(now(account.select("Drafts", True)), search.HeaderText("SUBJECT", KEPT)) == [2]
    assert world.paths.search_db.exists()


def test_nothing_is_looked_for_where_nothing_has_changed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Closing an account that is indexed costs as little as before."""
    account = with_marks(world)
    index(world)
    looked: list[object] = []
    monkeypatch.setattr(search_index.SearchIndex, "leave", lambda self, _mail: looked.append(self))
    now(account._opened.close())
    assert not looked


def test_one_account_is_indexed_at_a_time(world: World) -> None:
    """Memory and threads for it must not be asked for by all accounts at once."""
    account = world.login()
    turn = account._store.executor.background
    now(turn.acquire())
    now(account.append("Drafts", [NewMessage(b"Subject: one\r\n\r\ntext\r\n")]))
    index(world)
    assert not world.paths.search_db.exists()
    turn.release()
    index(world)
    assert world.paths.search_db.exists()


def test_characters_that_the_index_takes_for_one_are_told_apart(world: World) -> None:
    """FTS5 reads U+FFFE and U+FFFF as U+FFFD, which also stands for what could not be decoded."""
    account = world.login()
    texts = ("a\ufffdb", "a\ufffeb", "a\uffffb", "q\ufffe", "x\uffff a")
    head = "Subject: s\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n"
    now(account.append("Drafts", [NewMessage(f"{head}{text}\r\n".encode()) for text in texts]))
    index(world)
    mailbox = now(account.select("Drafts", True))
    needles = ("a\ufffd", "a\ufffdb", "\ufffeb", "a\ufffeb", "a\uffff", "\uffffb", "q\ufffe", "\uffff a")
    for needle in needles:
        for key in (search.BodyText(needle), search.AnyText(needle)):
            assert found(mailbox, key) == scanned(mailbox, key) != []
