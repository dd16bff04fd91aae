"""What becomes of an account in its sleep: restored, damaged, lost, locked; its sessions end or are told."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from sleep_world import MESSAGE, heard, listening, opened, settle_files, sleep
from store_world import World, now, open_files

from mailstore import hibernation
from mailstore.account import exclusive_lock, shared_lock
from mailstore.errors import AccountClosed, AuthenticationFailed, Busy, DatabaseDamaged, StorageFailed
from mailstore.eviction import evicted
from mailstore.model import NewMessage
from mailstore.open_account import POLL_RETRY_S
from mailstore.restored_mark import mark_restored


def test_files_that_were_written_just_now_tell_no_state(world: World) -> None:
    """Two writes in one tick of the clock by which files are dated cannot be told apart."""
    account = world.login()
    now(account.append("INBOX", [NewMessage(MESSAGE)]))
    assert hibernation.files_now(world.paths) is None
    settle_files(world)
    assert hibernation.files_now(world.paths) is not None


def test_a_restored_account_ends_its_sleeping_sessions(world: World) -> None:
    """Their UIDs are of another future; a restore that nobody noticed shows when the account wakes."""
    account = world.login()
    ended: list[bool] = []
    account.on_closed(lambda: ended.append(True))
    mailbox, _ = listening(account)
    sleep(world)
    with evicted(world.paths, 0.0):  # nobody is inside, so it has not to wait
        mark_restored(world.paths, 7)
    with pytest.raises(AccountClosed):
        now(mailbox.sync(mailbox.opened.status.highest_modseq))
    assert ended == [True]
    assert world.store._open == {}
    assert world.paths.restored.exists()
    validity = now(world.login().status("INBOX")).uid_validity
    assert validity != mailbox.opened.status.uid_validity


def test_a_restored_account_that_another_worker_has_opened_ends_sleeping_sessions(
    world: World, beside: World
) -> None:
    """The mark of the restore is gone then, but the database remembers it."""
    account = world.login()
    ended: list[bool] = []
    account.on_closed(lambda: ended.append(True))
    sleep(world)
    mark_restored(world.paths, 7)
    beside.login()
    assert not world.paths.restored.exists()
    heard(world, "write.lock")
    with pytest.raises(AccountClosed):
        now(account.status("INBOX"))
    assert ended == [True]


def test_an_older_database_put_back_by_hand_ends_sleeping_sessions(world: World, tmp_path: Path) -> None:
    """A modification sequence that has gone back belongs to no later state."""
    account = world.login()
    sleep(world)
    shutil.copy(world.paths.mail_db, tmp_path / "older")
    now(account.append("INBOX", [NewMessage(MESSAGE)]))
    sleep(world)
    shutil.copy(tmp_path / "older", world.paths.mail_db)
    with pytest.raises(AccountClosed):
        now(account.status("INBOX"))


def test_a_login_to_an_account_restored_in_its_sleep_gets_the_restored_one(world: World) -> None:
    """It is not told to go because of what other sessions knew."""
    first = world.login()
    ended: list[str] = []
    first.on_closed(lambda: ended.append("first"))
    sleep(world)
    mark_restored(world.paths, 7)
    second = world.login()
    second.on_closed(lambda: ended.append("second"))
    assert now(second.status("INBOX")).messages == 0
    assert ended == ["first"]


def test_an_account_being_restored_wakes_for_nobody(world: World) -> None:
    """Until the restore is done; then the session ends."""
    account = world.login()
    sleep(world)
    with evicted(world.paths, 0.0):
        heard(world, "leave")
        with pytest.raises((AccountClosed, Busy)):
            now(account.status("INBOX"))
    assert open_files(world.paths) == []


def test_a_damaged_database_is_told_to_whoever_wakes_it(world: World) -> None:
    """The session stays, as it does where pages are found damaged later."""
    account = world.login()
    ended: list[bool] = []
    account.on_closed(lambda: ended.append(True))
    now(account.append("INBOX", [NewMessage(MESSAGE)]))
    sleep(world)
    good = world.paths.mail_db.read_bytes()
    world.paths.mail_db.write_bytes(b"x" * len(good))
    with pytest.raises(DatabaseDamaged):
        now(account.status("INBOX"))
    assert open_files(world.paths) == [] and ended == []
    world.paths.mail_db.write_bytes(good)
    assert now(account.status("INBOX")).messages == 1


def test_a_lost_database_is_not_made_anew_by_waking(world: World) -> None:
    """Its user would find no mail there."""
    account = world.login()
    sleep(world)
    world.paths.mail_db.unlink()
    with pytest.raises(DatabaseDamaged):
        now(account.status("INBOX"))
    assert not world.paths.mail_db.exists()


def test_a_change_that_cannot_be_read_is_looked_for_again(
    world: World, beside: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A session in IDLE says nothing of its own, so nobody else would wake the account."""
    _, told = listening(world.login())
    sleep(world)
    now(beside.login().append("INBOX", [NewMessage(MESSAGE)]))

    def fails(*_: object, **__: object) -> None:
        raise StorageFailed("too many open files")

    with monkeypatch.context() as patch:
        patch.setattr("mailstore.connections.open_database", fails)
        heard(world, "write.lock")
        assert told == []
    world.clock.advance(POLL_RETRY_S + 1)
    assert told == ["INBOX"]


def test_a_revoked_keyslot_ends_a_sleeping_session(world: World) -> None:
    """No database is needed for that."""
    account = world.login()
    ended: list[bool] = []
    account.on_closed(lambda: ended.append(True))
    sleep(world)
    world.directory.set_disabled(account.account_id, True)
    world.watcher.callbacks[world.root](frozenset({"directory.db"}))
    assert ended == [True]
    assert not opened(world).is_awake
    with pytest.raises(AuthenticationFailed):
        world.login()


def test_a_server_that_stops_closes_sleeping_accounts(world: World) -> None:
    """Sessions are told, and the key is forgotten."""
    account = world.login()
    ended: list[bool] = []
    account.on_closed(lambda: ended.append(True))
    sleep(world)
    now(world.store.stop())
    assert ended == [True]
    assert world.store._open == {}


def test_a_lock_that_is_held_delays_closing_and_no_more(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A snapshot that is being copied just when the account falls asleep: its files are closed later."""
    monkeypatch.setattr(hibernation, "SLEEP_LOCK_WAIT_S", 0.0)
    account = world.login()
    with shared_lock(world.paths):
        sleep(world)
        assert "mail.db" in open_files(world.paths)
        assert now(account.status("INBOX")).messages == 0
        sleep(world)
    world.clock.advance(100)
    assert open_files(world.paths) == []
    with exclusive_lock(world.paths, 0.0):
        pass
