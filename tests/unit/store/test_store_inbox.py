"""Mail is filed before anybody looks, also while another process is filing or the disk is full."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from store_world import World, now
from twisted.internet.base import DelayedCall
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from mailstore import filing, former_key
from mailstore.changes import COALESCE_MAX_S, FolderWatch
from mailstore.engine import Txn
from mailstore.errors import Busy, StorageFailed, StorageFull
from mailstore.filing import FEW_BYTES, FEW_MESSAGES, FORGET_EVERY_S, LOCK_NAME, Batch
from mailstore.inbox import FILING_RETRY_S, LOCKED_RETRY_S
from mailstore.limits import StoreLimits
from mailstore.open_account import OpenAccount
from mailstore.sealed import SealedId, pending

MESSAGE = b"Subject: hello\r\n\r\nworld\r\n"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A store with one account."""
    world = World(tmp_path)
    yield world
    world.close()


def retries(world: World, opened: OpenAccount) -> list[DelayedCall]:
    """The calls that will file again."""
    return [call for call in world.clock.getDelayedCalls() if call.func == opened._inbox._retry]


def test_a_look_files_what_nobody_has_told_of(world: World) -> None:
    """A command does not rely on the file system's events, which come when they come."""
    account = world.login()
    world.deliver(MESSAGE)
    assert len(pending(world.paths.inbox)) == 1
    assert now(account.status("INBOX")).messages == 1
    mailbox = now(account.select("INBOX", False))
    world.deliver(MESSAGE)
    assert len(now(mailbox.sync(mailbox.opened.status.highest_modseq)).changed) == 1
    world.deliver(MESSAGE)
    assert now(account.select("INBOX", True)).opened.status.messages == 3


def test_a_look_waits_for_the_process_that_is_filing(world: World) -> None:
    """What another process has in hand is waited for, and filed here when that process gives up."""
    account = world.login()
    with (world.paths.folder / LOCK_NAME).open("r+b") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        world.deliver(MESSAGE)
        look = Deferred.fromCoroutine(account.status("INBOX"))
        world.clock.advance(1.0)
        assert not look.called
    world.clock.advance(0.1)
    assert look.called
    assert now(account.status("INBOX")).messages == 1


def test_a_look_ends_when_another_process_has_filed(world: World) -> None:
    """Later deliveries that go on arriving do not hold it up."""
    account = world.login()
    with (world.paths.folder / LOCK_NAME).open("r+b") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        world.deliver(MESSAGE)
        (mine,) = pending(world.paths.inbox)
        look = Deferred.fromCoroutine(account.status("INBOX"))
        world.clock.advance(0.1)
        world.deliver(MESSAGE)
        (world.paths.inbox / f"{mine}.sealed").unlink()
        world.clock.advance(0.1)
        assert look.called


def test_waiting_for_another_process_lists_the_inbox_at_its_ends(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A year's mail takes long to list, and it would be listed a hundred times in two seconds."""
    account = world.login()
    listed: list[int] = []

    def counting(inbox: Path) -> list[SealedId]:
        found = pending(inbox)
        listed.append(len(found))
        return found

    monkeypatch.setattr(former_key, "pending", counting)
    with (world.paths.folder / LOCK_NAME).open("r+b") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        for _ in range(5):
            world.deliver(MESSAGE)
        look = Deferred.fromCoroutine(account.status("INBOX"))
        for done in pending(world.paths.inbox):
            assert not look.called
            for _ in range(10):
                world.clock.advance(0.02)
            (world.paths.inbox / f"{done}.sealed").unlink()
        world.clock.advance(0.1)
        assert look.called and listed == [5, 0]


def test_what_was_overtaken_by_a_later_delivery_is_waited_for(world: World) -> None:
    """Its file came after the other process had listed the inbox; its name sorts before the last one."""
    account = world.login()
    with (world.paths.folder / LOCK_NAME).open("r+b") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        for _ in range(3):
            world.deliver(MESSAGE)
        first, second, third = pending(world.paths.inbox)
        look = Deferred.fromCoroutine(account.status("INBOX"))
        for done in (first, third, second):
            world.clock.advance(0.1)
            assert not look.called
            (world.paths.inbox / f"{done}.sealed").unlink()
        world.clock.advance(0.1)
        assert look.called


def test_a_look_waits_no_longer_than_its_setting(world: World) -> None:
    """A backlog that takes longer goes on arriving afterwards."""
    account = world.login()
    with (world.paths.folder / LOCK_NAME).open("r+b") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        world.deliver(MESSAGE)
        look = Deferred.fromCoroutine(account.status("INBOX"))
        world.clock.advance(world.store.limits.filing_wait_s + 0.1)
        assert look.called
    world.clock.advance(1.0)


def test_a_long_backlog_costs_one_wait(world: World) -> None:
    """While a pass is at work that has outlasted somebody's patience, nobody else waits for it."""
    account = world.login()
    with (world.paths.folder / LOCK_NAME).open("r+b") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        world.deliver(MESSAGE)
        first, second = (Deferred.fromCoroutine(account.status("INBOX")) for _ in range(2))
        world.clock.advance(world.store.limits.filing_wait_s + 0.1)
        assert first.called and second.called
        third = Deferred.fromCoroutine(account.status("INBOX"))
        if not third.called:  # the pass it asked for begins now
            world.clock.advance(world.store.limits.filing_wait_s + 0.1)
        assert Deferred.fromCoroutine(account.status("INBOX")).called
    world.clock.advance(1.0)
    world.deliver(MESSAGE)
    assert now(account.status("INBOX")).messages == 2


def test_a_stopped_process_that_holds_the_inbox_costs_one_wait(world: World) -> None:
    """While it files nothing nobody waits for it again; when it lets go everything is as before."""
    account = world.login()
    with (world.paths.folder / LOCK_NAME).open("r+b") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        world.deliver(MESSAGE)
        look = Deferred.fromCoroutine(account.status("INBOX"))
        world.clock.advance(world.store.limits.filing_wait_s + 0.1)
        world.clock.advance(0.1)
        assert look.called
        for _ in range(5):
            assert now(account.status("INBOX")).messages == 0
    assert now(account.status("INBOX")).messages == 1
    world.deliver(MESSAGE)
    assert now(account.status("INBOX")).messages == 2


@pytest.mark.parametrize("looks", [0, 1])
def test_mail_of_a_process_that_dies_while_it_files_comes_without_a_look(world: World, looks: int) -> None:
    """Sessions in IDLE here wait for nobody else: not once that process has died, however long it took."""
    account = world.login()
    heard: list[str] = []
    account.listen(lambda: heard.append("told"))
    opened = world.store._open[account.account_id]
    with (world.paths.folder / LOCK_NAME).open("r+b") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        world.deliver(MESSAGE)
        asked = [Deferred.fromCoroutine(account.status("INBOX")) for _ in range(looks)]
        world.clock.advance(world.store.limits.filing_wait_s + 0.1)
        world.clock.advance(0.1)
        assert all(look.called for look in asked)
        for _ in range(3 * (1 - looks)):
            opened._inbox.file_soon()
        for _ in range(3):
            assert len(retries(world, opened)) == 1
            world.clock.advance(LOCKED_RETRY_S + 0.1)
        heard.clear()
    world.clock.advance(LOCKED_RETRY_S + 0.1)
    assert heard and pending(world.paths.inbox) == []
    assert retries(world, opened) == []


def test_filing_that_stops_does_not_try_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where it hears only then that another process holds the inbox."""
    opened = world.store._open[world.login().account_id]
    with (world.paths.folder / LOCK_NAME).open("r+b") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        world.deliver(MESSAGE)
        opened._inbox.file_soon()
        assert retries(world, opened)
        answer: Deferred[bool | None] = Deferred()
        monkeypatch.setattr(opened._inbox, "_file_few", lambda: answer)
        opened._inbox.file_soon()
        stopped = Deferred.fromCoroutine(opened._inbox.stop())
        answer.callback(None)
        assert stopped.called and retries(world, opened) == []


def test_filing_that_stops_forgets_to_try_again(world: World) -> None:
    """Where nothing is under way."""
    opened = world.store._open[world.login().account_id]
    with (world.paths.folder / LOCK_NAME).open("r+b") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        opened._inbox.file_soon()
        assert retries(world, opened)
        now(opened._inbox.stop())
        assert retries(world, opened) == []


def test_a_full_disk_is_not_tried_again_by_every_look(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a failure a pause holds for everybody, so that reading stays quick."""
    account = world.login()
    opened = world.store._open[account.account_id]
    insert, tries = opened._filer.insert, []

    def full(*_args: object) -> None:
        tries.append(1)
        raise StorageFull("the disk is full")

    monkeypatch.setattr(opened._filer, "insert", full)
    world.deliver(MESSAGE)
    for _ in range(10):
        assert now(account.status("INBOX")).messages == 0
    assert len(tries) == 1
    monkeypatch.setattr(opened._filer, "insert", insert)
    world.clock.advance(FILING_RETRY_S + 1)
    assert now(account.status("INBOX")).messages == 1


@pytest.mark.parametrize("batches", [0, 1])
def test_all_mail_of_a_failed_batch_is_found_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batches: int
) -> None:
    """The inbox was listed before the failure, and what was loaded is no longer on that list."""
    world = World(tmp_path / "root", StoreLimits(filing_batch_messages=2))
    account = world.login()
    opened = world.store._open[account.account_id]
    insert, left = opened._filer.insert, [batches]

    def full(txn: Txn, batch: Batch) -> None:
        if not left[0]:
            raise StorageFull("the disk is full")
        left[0] -= 1
        insert(txn, batch)

    monkeypatch.setattr(opened._filer, "insert", full)
    for _ in range(7):
        world.deliver(MESSAGE)
    opened._inbox.file_soon()
    assert len(pending(world.paths.inbox)) == 7 - 2 * batches
    monkeypatch.setattr(opened._filer, "insert", insert)
    world.clock.advance(FILING_RETRY_S + 1)
    assert pending(world.paths.inbox) == []
    assert now(account.status("INBOX")).messages == 7
    world.close()


def test_filing_that_works_again_is_waited_for_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure leaves one retry behind, and a success in between ends the pause."""
    account = world.login()
    opened = world.store._open[account.account_id]
    insert = opened._filer.insert

    def busy(*_args: object) -> None:
        raise Busy

    monkeypatch.setattr(opened._filer, "insert", busy)
    for _ in range(20):
        world.deliver(MESSAGE)
        opened._inbox.file_soon()
    assert len(retries(world, opened)) == 1
    monkeypatch.setattr(opened._filer, "insert", insert)
    opened._inbox.file_soon()
    world.deliver(MESSAGE)
    assert now(account.status("INBOX")).messages == 21


def test_a_large_message_is_prepared_before_the_writer_is_asked(world: World) -> None:
    """The first batch of a pass is made in the writer's turn, so it is small, however large the mail."""
    account = world.login()
    filer = world.store._open[account.account_id]._filer
    world.deliver(MESSAGE)
    world.deliver(MESSAGE + bytes(FEW_BYTES))
    world.deliver(MESSAGE)
    sizes = []
    for few in (True, True, False):
        batch = filer.load(few=few)
        assert batch is not None
        sizes.append((len(batch.messages), batch.more))
        batch.release()
    assert sizes == [(1, True), (0, True), (2, False)]
    assert now(account.status("INBOX")).messages == 3


def test_few_messages_are_few_also_where_none_can_be_opened(world: World) -> None:
    """What is marked as damaged counts, too."""
    account = world.login()
    filer = world.store._open[account.account_id]._filer
    for _ in range(FEW_MESSAGES + 1):
        world.deliver(MESSAGE)
    for path in world.paths.inbox.iterdir():
        path.write_bytes(b"rubbish")
    batch = filer.load(few=True)
    assert batch is not None
    batch.release()
    assert (len(batch.messages), batch.more) == (0, True)
    assert len(pending(world.paths.inbox)) == 1


def test_who_asks_while_the_account_closes_waits_for_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the inbox is free again is known only when the account has stopped filing."""
    account = world.login()
    inbox = account._opened._inbox
    free: Deferred[bool] = Deferred()
    inbox._is_shut_out = True
    monkeypatch.setattr(inbox, "_executor", SimpleNamespace(call=lambda *_: free))
    asked = Deferred.fromCoroutine(inbox.filed(world.store.limits.filing_wait_s))
    now(inbox.stop())
    assert not asked.called
    free.callback(True)
    assert asked.called


def test_ids_of_filed_mail_are_forgotten_now_and_then(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not with every message: all that is remembered has to be looked through for it."""
    account = world.login()
    seconds = [1_700_000_000.0]
    monkeypatch.setattr("time.time", lambda: seconds[0])
    statements: list[str] = []
    run = Txn.run

    def noted(txn: Txn, sql: str, parameters: Any = ()) -> Any:
        statements.append(sql)
        return run(txn, sql, parameters)

    monkeypatch.setattr(Txn, "run", noted)
    counts = []
    for passed_s in (0, 10, FORGET_EVERY_S, 10, -FORGET_EVERY_S):
        seconds[0] += passed_s
        world.deliver(MESSAGE)
        now(account.status("INBOX"))
        counts.append(sum("DELETE FROM filed" in sql for sql in statements))
    assert counts == [1, 1, 2, 2, 3]


def test_the_first_change_is_told_at_once_and_a_storm_together() -> None:
    """Ten thousand changes within a second are some fifty reports; a single one does not wait."""
    clock = Clock()
    clock.advance(100)
    reports: list[frozenset[str]] = []
    watch = FolderWatch(clock, ("a", "b"), reports.append)
    watch.touched("noise")
    clock.advance(0)
    assert reports == []
    watch.touched("a")
    clock.advance(0)
    assert reports == [frozenset({"a"})]
    for _ in range(10_000):
        watch.touched("b")
        clock.advance(0.0001)
    assert 1 / COALESCE_MAX_S <= len(reports) <= 1 / COALESCE_MAX_S + 10
    clock.advance(COALESCE_MAX_S)
    clock.advance(1)
    reports.clear()
    watch.touched("b")
    clock.advance(0)
    assert reports == [frozenset({"b"})]


def test_leftovers_are_looked_for_now_and_then(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not at each arrival: all of the inbox is looked through for them."""
    looks: list[Path] = []
    monkeypatch.setattr(filing, "clean_leftovers", lambda inbox, now: looks.append(inbox))
    account = world.login()
    for count in (1, 2, 3):
        world.deliver(MESSAGE)
        assert now(account.status("INBOX")).messages == count
    assert len(looks) == 1


def test_an_inbox_that_cannot_be_read_is_let_go(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise nobody would file until this process ends."""
    filer = world.login()._opened._filer

    def unreadable(_inbox: Path) -> list[SealedId]:
        raise StorageFailed

    with monkeypatch.context() as failing:
        failing.setattr(filing, "pending", unreadable)
        with pytest.raises(StorageFailed):
            filer.load()
    assert filer.is_free()
