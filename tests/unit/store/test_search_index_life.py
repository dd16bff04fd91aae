"""What becomes of a search index: of mail that goes, of files that are of no use, and what it costs."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from index_world import KEYS, PAGE, Reading, fill, found, index, mail, opened_index, scanned, stay_awake
from store_world import World, now

from mailstore import search
from mailstore.account_database import mail_key, search_key
from mailstore.engine import open_connection
from mailstore.errors import DatabaseDamaged, StorageFull
from mailstore.limits import StoreLimits
from mailstore.model import (
    ModSeq,
    NewMessage,
)
from mailstore.ops import search_index, search_text
from mailstore.room import log_bytes
from mailstore.search_index import WRITTEN_TIMES
from mailstore.store import Account
from mailstore.uidset import UidSet
from tests.growth import LINEAR_AT_MOST, growth

MARKS = "ⅎ⌘☃"
"""Characters that no other mail has; trigrams that share their beginning are not written out in a page."""


def marks_in_pages(world: World, account: Account) -> set[str]:
    """Those of ``MARKS`` that are anywhere in the index's file, decrypted page by page, free ones too."""
    database = opened_index(world, account)
    assert database.pragma("PRAGMA wal_checkpoint(TRUNCATE)")[0][0] == 0
    database.close()
    key = search_key(account._opened._hold.master).key
    data = world.paths.search_db.read_bytes()
    plain = b""
    for at in range(0, len(data), PAGE):
        # The first page begins with the salt; behind the text of each are 16 bytes of IV and 32 of HMAC.
        start, end = at or 16, at + PAGE - 48
        decryptor = Cipher(algorithms.AES(key), modes.CBC(data[end : end + 16])).decryptor()
        plain += decryptor.update(data[start:end])
    assert b"text_0" in plain, "the pages are decrypted"
    return {mark for mark in MARKS if mark.encode() in plain}


def test_text_of_expunged_messages_leaves_the_index(world: World) -> None:
    """No page of the file has it any more, free ones included, and the log is emptied; other text stays."""
    account = world.login()
    mailbox = fill(account)
    marked = "From: a@example.org\r\nSubject: ⅎⅎⅎⅎ\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n⌘⌘⌘⌘\r\n"
    kept = "Subject: ☃☃☃☃\r\n\r\nkept\r\n"
    now(account.append("Drafts", [NewMessage(marked.encode()), NewMessage(kept.encode())]))
    index(world)
    assert marks_in_pages(world, account) == set(MARKS)
    now(mailbox.remove(UidSet.of([61])))
    index(world)
    # Before anything else is written: what has been noted since is not a page.
    assert world.paths.search_db_files[1].stat().st_size < 3 * PAGE
    assert marks_in_pages(world, account) == {"☃"}
    assert found(mailbox, search.HeaderText("SUBJECT", "☃☃☃")) == [62]


def test_a_message_stays_in_the_index_while_it_lies_in_one_mailbox(world: World) -> None:
    """COPY and MOVE share the message; its text leaves with the last of its places."""
    account = world.login()
    drafts = fill(account)
    index(world)
    now(drafts.copy(UidSet.of([40]), "Archive", ModSeq(0)))
    now(drafts.move(UidSet.of([40]), "Sent", ModSeq(0)))
    index(world)
    database = opened_index(world, account)
    assert database.read(0, search_index.indexed_after, 0) == list(range(1, 61))
    for name in ("Archive", "Sent"):
        mailbox = now(account.select(name, False))
        assert found(mailbox, KEYS["BODY"]) == [1]
        now(mailbox.remove(UidSet.of([1])))
        index(world)
    assert 40 not in database.read(0, search_index.indexed_after, 0)
    database.close()


def test_the_index_of_mail_that_is_all_gone_is_empty(world: World) -> None:
    """Also where a mailbox was deleted with its messages."""
    account = world.login()
    now(account.create("Old"))
    now(account.append("Old", [mail(number) for number in range(30)]))
    index(world)
    now(account.delete("Old"))
    index(world)
    database = opened_index(world, account)
    assert database.read(0, search_index.indexed_after, 0) == []
    assert not database.read(
        0, lambda txn: txn.rows("SELECT name FROM sqlite_schema WHERE name GLOB 'text_*'")
    )
    database.close()


def spoil(world: World, account: Account, how: str) -> None:
    """Do something to the index while nobody has it open."""
    path = world.paths.search_db
    key = search_key(account._opened._hold.master)
    world.close()
    if how == "not a database":
        path.write_bytes(b"an index, once")
    elif how == "another account's":
        path.unlink()
        open_connection(path, replace(key, key=bytes(32)), autocheckpoint_pages=1000).close()
    elif how == "pages overwritten":
        data = bytearray(path.read_bytes())
        data[4096:] = bytes(len(data) - 4096)
        path.write_bytes(data)
    elif how == "empty":
        path.write_bytes(b"")
    else:
        database = open_connection(path, key, autocheckpoint_pages=1000)
        statement = {
            "newer": "PRAGMA user_version=99",
            "older": "PRAGMA user_version=1",
            "another form of text": "UPDATE about SET value = '0 1.0' WHERE name = 'form'",
            "other mail": "UPDATE about SET value = 'F 1' WHERE name = 'mailboxes'",
            "later mail": "UPDATE about SET value = '61' WHERE name = 'up_to'",
        }[how]
        database.write(0, lambda txn: txn.run(statement))
        database.close()


@pytest.mark.parametrize(
    "how",
    [
        "not a database",
        "another account's",
        "pages overwritten",
        "empty",
        "newer",
        "older",
        "another form of text",
        "other mail",
        "later mail",
    ],
)
def test_an_index_of_no_use_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """It fails no login, search or close, and gives no wrong answer meanwhile."""
    world = World(tmp_path / "root")
    account = world.login()
    fill(account)
    index(world)
    spoil(world, account, how)
    world = World(tmp_path / "root")
    mailbox = now(world.login().select("Drafts", True))
    reading = Reading(monkeypatch)
    assert reading.of(mailbox, KEYS["BODY"]) == ([40], 60)
    index(world)
    assert reading.of(mailbox, KEYS["BODY"]) == ([40], 1)
    world.close()


def test_an_index_that_goes_bad_while_it_is_open_is_made_anew(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page that is not what was written is found when it is read."""
    account = world.login()
    mailbox = fill(account)
    index(world)
    database = opened_index(world, account)
    database.pragma("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()
    with world.paths.search_db.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(world.paths.search_db.stat().st_size - 4096))
    reading = Reading(monkeypatch)
    assert reading.of(mailbox, KEYS["BODY"])[0] == [40]
    now(account.append("Drafts", [mail(61, rare=True)]))
    index(world)
    assert reading.of(mailbox, KEYS["BODY"]) == ([40, 61], 2)


def test_an_index_of_no_use_stays_while_others_have_it_open(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its log would meet another database; meanwhile messages are read."""
    stay_awake(world)
    account = world.login()
    mailbox = fill(account)
    world.paths.search_db.write_bytes(b"an index, once")
    descriptor = os.open(world.paths.search_users_lock, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    index(world, steps=100)
    assert world.paths.search_db.read_bytes() == b"an index, once"
    assert found(mailbox, KEYS["BODY"]) == [40]
    os.close(descriptor)
    world.clock.advance(61)
    index(world)
    assert Reading(monkeypatch).of(mailbox, KEYS["BODY"]) == ([40], 1)


def test_one_process_indexes_at_a_time(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others search in what there is, and go on where that one has ended."""
    mailbox = fill(world.login())
    descriptor = os.open(world.paths.search_write_lock, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    index(world, steps=100)
    assert not world.paths.search_db.exists()
    assert found(mailbox, KEYS["BODY"]) == [40]
    os.close(descriptor)
    index(world)
    assert Reading(monkeypatch).of(mailbox, KEYS["BODY"]) == ([40], 1)


def test_a_full_disk_only_stops_indexing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It leaves what deliveries have to leave for logins, and is tried again later."""
    stay_awake(world)
    mailbox = fill(world.login())

    def full(*_: object) -> None:
        raise StorageFull("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr("mailstore.search_index.require_margin", full)
        index(world)
        assert not world.paths.search_db.exists()
        assert found(mailbox, KEYS["BODY"]) == [40]
    world.clock.advance(61)
    index(world)
    assert Reading(monkeypatch).of(mailbox, KEYS["BODY"]) == ([40], 1)


def test_indexing_leaves_room_to_delete(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log of mail.db has to fit into its main file, or nobody could write; and an index can wait.

    What the index's own log takes is given back as soon as there is nothing more to do, or no room.
    """
    stay_awake(world)
    mailbox = fill(world.login())
    asked: list[int] = []
    monkeypatch.setattr("mailstore.search_index.require_margin", lambda *args: asked.append(args[2]))
    limits = StoreLimits()
    batch = WRITTEN_TIMES * (limits.index_batch_chars + 2 * limits.index_message_chars)
    waiting = log_bytes(world.paths.mail_db)
    assert waiting
    world.clock.advance(2.1)
    assert asked == [batch + waiting]
    log = world.paths.search_db_files[1]
    assert log.stat().st_size

    def full(*_: object) -> None:
        raise StorageFull("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr("mailstore.search_index.require_margin", full)
        world.clock.advance(0.1)
        assert not log.stat().st_size
    world.clock.advance(61)
    index(world)
    assert not log.stat().st_size
    size = world.paths.search_db.stat().st_size
    asked.clear()
    now(mailbox.remove(UidSet.of([1])))
    index(world)
    assert max(asked) >= batch + 2 * size


def test_indexes_are_closed_with_the_account(tmp_path: Path) -> None:
    """The last one to close leaves a whole file, how far it has come, and no log."""
    world = World(tmp_path / "root")
    fill(world.login())
    index(world)
    paths = world.paths
    world.close()
    assert [path.exists() for path in paths.search_db_files] == [True, False, False, True]


def test_a_search_index_has_a_key_of_its_own(world: World) -> None:
    """What opens mail.db does not open it."""
    account = world.login()
    fill(account)
    index(world)
    master = account._opened._hold.master
    assert search_key(master) != mail_key(master)
    with pytest.raises(DatabaseDamaged):
        open_connection(world.paths.search_db, mail_key(master))


def test_the_index_of_one_state_is_none_of_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever puts an older mail.db there, and forgets the index, finds what is in the older one."""
    world = World(tmp_path / "root")
    now(world.login().append("Drafts", [mail(1)]))
    world.close()
    older = world.paths.mail_db.read_bytes()
    world = World(tmp_path / "root")
    fill(world.login(), 20, rare=10)
    index(world)
    world.close()
    world.paths.mail_db.write_bytes(older)
    world = World(tmp_path / "root")
    account = world.login()
    now(account.append("Drafts", [mail(2, rare=True)]))
    mailbox = now(account.select("Drafts", True))
    assert found(mailbox, KEYS["BODY"]) == [2]
    index(world)
    assert Reading(monkeypatch).of(mailbox, KEYS["BODY"]) == ([2], 1)
    world.close()


def test_an_older_mailbox_that_has_grown_again_does_not_fit(tmp_path: Path) -> None:
    """Mail that waits is filed at once, under ids that the index has of other messages."""
    world = World(tmp_path / "root")
    now(world.login().append("Drafts", [mail(1)]))
    world.close()
    older = world.paths.mail_db.read_bytes()
    world = World(tmp_path / "root")
    account = world.login()
    now(account.append("Drafts", [mail(number) for number in range(2, 10)]))
    index(world)
    world.close()
    world.paths.mail_db.write_bytes(older)
    world = World(tmp_path / "root")
    account = world.login()
    now(account.append("Drafts", [mail(number, rare=number == 5) for number in range(2, 20)]))
    mailbox = now(account.select("Drafts", True))
    assert found(mailbox, KEYS["BODY"]) == scanned(mailbox, KEYS["BODY"]) == [5]
    world.close()


def test_an_account_that_is_deleted_while_it_is_indexed_is_gone(tmp_path: Path) -> None:
    """Nothing is put back where it was, and closing it goes on."""
    world = World(tmp_path / "root", StoreLimits(index_batch_messages=5))
    fill(world.login())
    world.clock.advance(2.1)
    assert world.paths.search_db.exists()
    shutil.rmtree(world.paths.folder)
    index(world, steps=50)
    world.clock.advance(200)
    world.close()
    assert not world.paths.folder.exists()


class Whole:
    """A message in memory."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.header_bytes = len(data)

    def read(self, start: int, end: int) -> bytes:
        """Like ``MessageReader.read``."""
        return self._data[start:end]


def test_a_long_list_of_addresses_is_indexed_in_linear_time() -> None:
    """A stranger may send a hundred thousand of them in one field."""

    def prepare(count: int) -> Callable[[], object]:
        reader = Whole(b"To: " + b", ".join(b"Name %d <user%d@example.org>" % (n, n) for n in range(count)))
        forms = search_text.header_forms, search_text.field_forms
        return lambda: [list(of(reader)) for of in forms]  # type: ignore[arg-type]  # reads as one

    assert growth(prepare, 500) < LINEAR_AT_MOST
