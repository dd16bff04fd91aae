"""Accounts that only idle have no open files, and wake for whatever needs them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sleep_world import AFTER_S, MESSAGE, heard, listening, opened, settle_files, sleep
from store_world import World, now, open_files

from mailstore import hibernation
from mailstore.account import shared_lock
from mailstore.errors import DatabaseDamaged
from mailstore.limits import StoreLimits
from mailstore.model import Flags, NewMessage, StoreMode, SystemFlag
from mailstore.sealed import pending
from mailstore.search import BodyText
from mailstore.uidset import UidSet
from tests.unit.keys_world import is_unlocked


def test_an_account_that_only_idles_has_no_open_files_and_keeps_its_key(world: World) -> None:
    """Nothing but its watches and the key stay, and the next command finds all as it was."""
    account = world.login()
    now(account.append("INBOX", [NewMessage(MESSAGE)]))
    mailbox, _ = listening(account)
    assert now(mailbox.search(BodyText("hello"), mailbox.opened.status.highest_modseq)).uids
    assert {"mail.db", "mail.db-shm", "mail.db-wal"} <= set(open_files(world.paths))
    sleep(world)
    assert open_files(world.paths) == []
    assert not world.paths.wal.exists()
    assert opened(world).kept._values == {}
    assert (world.store.open_accounts, world.store.awake_accounts) == (1, 0)
    assert is_unlocked(world.store._unlocker, account.account_id)
    assert now(account.status("INBOX")).messages == 1
    assert (world.store.open_accounts, world.store.awake_accounts) == (1, 1)
    assert "mail.db" in open_files(world.paths)


def test_a_session_that_works_keeps_its_account_awake(world: World) -> None:
    """The time counts from the last command, and a checkpoint that is due comes first."""
    account = world.login()
    for _ in range(5):
        world.clock.advance(AFTER_S - 1)
        now(account.status("INBOX"))
    assert opened(world).is_awake
    with shared_lock(world.paths):
        now(account.append("INBOX", [NewMessage(MESSAGE)]))
        for _ in range(10):
            world.clock.advance(AFTER_S / 2)
        assert opened(world).is_awake
    sleep(world)


def test_the_time_counts_from_the_last_command(world: World) -> None:
    """Not from when the process began; what only looks at the account does not count."""
    world.clock.advance(100 * AFTER_S)
    account = world.login()
    world.clock.advance(AFTER_S / 2)
    now(account.status("INBOX"))
    world.clock.advance(AFTER_S - 1)
    assert opened(world).is_awake
    world.clock.advance(hibernation.LOOK_S)
    assert opened(world)._rest.is_asleep


def test_accounts_stay_awake_where_hibernation_is_off(tmp_path: Path) -> None:
    """``hibernate_after_s`` 0 means never."""
    world = World(tmp_path / "root", StoreLimits(hibernate_after_s=0.0))
    world.login()
    world.clock.advance(100_000)
    assert opened(world).is_awake
    world.close()


def test_a_sleeping_account_that_its_last_session_leaves_forgets_its_key(world: World) -> None:
    """As one that is awake does, after the grace."""
    account = world.login()
    account_id = account.account_id
    sleep(world)
    account.release()
    world.clock.advance(StoreLimits().close_grace_s + 1)
    assert world.store._open == {}
    assert not is_unlocked(world.store._unlocker, account_id)
    assert world.watcher.callbacks.keys() == {world.root}


def test_a_login_to_a_sleeping_account_wakes_it(world: World) -> None:
    """So that it is refused where the account cannot be opened, and not its first command."""
    world.login()
    sleep(world)
    again = world.login()
    assert opened(world).is_awake
    assert now(again.status("INBOX")).messages == 0
    sleep(world)
    world.paths.mail_db.rename(world.paths.mail_db.with_name("elsewhere"))
    with pytest.raises(DatabaseDamaged):
        world.login()
    assert not opened(world).is_awake


def test_a_delivery_wakes_the_account_and_is_told(world: World) -> None:
    """It is filed, and sessions hear of it, as if the account had been awake."""
    mailbox, told = listening(world.login())
    sleep(world)
    world.deliver(MESSAGE)
    world.watcher.callbacks[world.paths.inbox](frozenset({"x.sealed"}))
    assert told == ["INBOX"]
    assert pending(world.paths.inbox) == []
    assert [one.uid for one in now(mailbox.news(mailbox.opened.status.highest_modseq)).changed] == [1]


def test_an_account_that_was_woken_for_mail_sleeps_again_when_all_is_done(world: World) -> None:
    """Mail to everybody must not keep everybody awake for as long as a command would."""
    listening(world.login())
    sleep(world)
    world.deliver(MESSAGE)
    world.watcher.callbacks[world.paths.inbox](frozenset({"x.sealed"}))
    assert opened(world).is_awake
    for _ in range(4):
        world.clock.advance(AFTER_S / 12)
    assert opened(world)._rest.is_asleep
    settle_files(world)
    assert open_files(world.paths) == []


def test_an_account_wakes_while_its_mail_is_still_on_its_way_to_the_disk(world: World) -> None:
    """Opening it takes about as long."""
    listening(world.login())
    sleep(world)
    world.watcher.written("anything")
    assert opened(world).is_awake


def test_an_inbox_in_which_nothing_waits_wakes_nobody(world: World) -> None:
    """As when inotify has lost events, and everybody is to look."""
    listening(world.login())
    sleep(world)
    world.watcher.callbacks[world.paths.inbox](frozenset({""}))
    assert opened(world)._rest.is_asleep


def test_changes_of_another_process_wake_the_account_and_are_told(world: World, beside: World) -> None:
    """A session learns of flags, new mail and what is gone, from where it stood."""
    account = world.login()
    now(account.append("INBOX", [NewMessage(MESSAGE), NewMessage(MESSAGE)]))
    mailbox, told = listening(account)
    sleep(world)
    other = now(beside.login().select("INBOX", False))
    since = other.opened.status.highest_modseq
    deleted = Flags(SystemFlag.DELETED)
    now(other.store_flags(UidSet.of([1]), StoreMode.ADD, deleted, None, since))
    now(other.expunge(UidSet.of([1]), since))
    now(other.store_flags(UidSet.of([2]), StoreMode.ADD, Flags(SystemFlag.SEEN), None, since))
    heard(world, "write.lock")
    assert told == ["INBOX"]
    delta = now(mailbox.news(mailbox.opened.status.highest_modseq))
    assert list(delta.expunged) == [1]
    assert [(one.uid, one.flags.system) for one in delta.changed] == [(2, SystemFlag.SEEN)]


def test_a_mailbox_that_is_deleted_meanwhile_is_gone_after_waking(world: World, beside: World) -> None:
    """The session learns it with its next command."""
    account = world.login()
    now(account.create("short-lived"))
    mailbox, told = listening(account, "short-lived")
    sleep(world)
    now(beside.login().delete("short-lived"))
    assert now(mailbox.sync(mailbox.opened.status.highest_modseq)).mailbox_gone
    assert told == ["short-lived"]


def test_what_others_only_open_and_close_wakes_nobody(world: World, beside: World) -> None:
    """Or two workers whose sessions of one account idle would wake each other for ever."""
    _, told = listening(world.login())
    sleep(world)
    world.login()
    settle_files(world)
    sleep(world)  # now with files whose times tell a change
    other = beside.login()
    now(other.status("INBOX"))
    heard(world, "write.lock")
    other.release()
    beside.clock.advance(StoreLimits().close_grace_s + 1)
    heard(world, "write.lock")
    assert opened(world)._rest.is_asleep and told == []


def test_a_change_in_the_moment_of_falling_asleep_is_told(world: World, beside: World) -> None:
    """What another process commits after the last look at the modification sequences differs in its files."""
    account, other = world.login(), beside.login()
    _, told = listening(account)
    settle_files(world)
    databases: Any = opened(world)._rest._databases
    close = databases.close

    async def late(wait_s: float) -> None:
        now(other.append("INBOX", [NewMessage(MESSAGE)]))
        heard(world, "write.lock")
        await close(wait_s)

    databases.close = late
    world.clock.advance(AFTER_S)
    assert told == ["INBOX"]


def test_a_change_after_the_last_look_at_the_database_is_told(world: World, beside: World) -> None:
    """The files are looked at before, so that they differ afterwards; the hint comes when all is asleep."""
    account, other = world.login(), beside.login()
    _, told = listening(account)
    settle_files(world)
    databases: Any = opened(world)._rest._databases
    state = databases.state

    async def early() -> Any:
        seen = await state()
        now(other.append("INBOX", [NewMessage(MESSAGE)]))
        beside.clock.advance(StoreLimits().checkpoint_delay_s)  # closing writes nothing more to the files
        settle_files(world)
        return seen

    databases.state = early
    world.clock.advance(AFTER_S)
    assert told == []
    heard(world, "write.lock")
    assert told == ["INBOX"]


def test_a_change_of_names_is_told_when_the_account_was_falling_asleep(world: World, beside: World) -> None:
    """It changes no modification sequence; all that tells of it is the hint, which comes late."""
    account, other = world.login(), beside.login()
    told: list[str] = []
    account.listen(lambda: told.append("something"))
    now(other.status("INBOX"))
    databases: Any = opened(world)._rest._databases
    state = databases.state

    async def late() -> Any:
        heard(world, "write.lock")
        return await state()

    databases.state = late
    now(other.subscribe("elsewhere"))
    beside.clock.advance(StoreLimits().checkpoint_delay_s)  # closing writes nothing more to the files
    settle_files(world)  # the look at the files finds nothing young, and the subscription in them
    told.clear()
    world.clock.advance(AFTER_S)
    assert told == ["something"]


def test_an_index_that_is_complete_is_not_looked_at_again_on_waking(world: World) -> None:
    """A command that changes nothing costs no indexing, mail that came meanwhile does."""
    account = world.login()
    now(account.append("INBOX", [NewMessage(MESSAGE)]))
    sleep(world)
    now(account.status("INBOX"))
    searching = opened(world)._rest._databases.searching
    assert searching.is_complete and not searching.is_at_work
    sleep(world)
    world.deliver(MESSAGE)
    assert now(account.status("INBOX")).messages == 2
    assert opened(world)._rest._databases.searching.is_at_work


def test_what_another_process_has_stored_meanwhile_is_indexed_after_waking(
    world: World, beside: World
) -> None:
    """It may have been killed before it came to that."""
    account = world.login()
    sleep(world)
    now(beside.login().append("INBOX", [NewMessage(MESSAGE)]))
    now(account.status("INBOX"))
    assert opened(world)._rest._databases.searching.is_at_work


def test_an_error_that_nobody_expects_is_logged_with_its_kind_and_what_failed(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its text may be about the mail, so that is not."""
    account = world.login()

    async def breaks(*_: object) -> None:
        raise KeyError("private")

    rest = opened(world)._rest
    with monkeypatch.context() as patch:
        patch.setattr(rest._databases, "close", breaks)
        sleep(world)
    with monkeypatch.context() as patch:
        patch.setattr("mailstore.databases.Databases.state", breaks)
        with pytest.raises(KeyError):
            now(account.status("INBOX"))
    name = world.paths.folder.name
    said = [one.getMessage() for one in caplog.records if one.name == "sealbox.store"]
    assert said == [f"account {name}: {what} failed: KeyError" for what in ("falling asleep", "waking")]
