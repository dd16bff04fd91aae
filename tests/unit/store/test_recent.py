"""``\\Recent`` belongs to one session (RFC 3501 section 2.3.2): the first that is told of a message."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mailstore import search
from mailstore.engine import WRITE_LOCK, Database, Txn
from mailstore.errors import StorageFailed
from mailstore.locks import locked
from mailstore.mailbox import Mailbox
from mailstore.model import (
    Delta,
    FetchPlan,
    Flags,
    ModSeq,
    NewMessage,
    SortBy,
    SortKey,
    StoreMode,
    SystemFlag,
    ThreadAlgorithm,
)
from mailstore.ops.rows import delta
from mailstore.store import Account
from mailstore.uidset import UidSet
from tests.unit.store.store_world import World, now

MAIL = b"Subject: x\r\n\r\ntext\r\n"
ONE, NONE = UidSet.of([1]), UidSet()


def told_by(mailbox: Mailbox, what: str) -> Delta:
    """What a session is told of in the course of a command."""
    since, key = mailbox.opened.status.highest_modseq, search.All()
    match what:
        case "sync":
            found: Delta = now(mailbox.sync(since))
        case "news":
            found = now(mailbox.news(since))
        case "fetch":
            found = now(mailbox.fetch([], FetchPlan(), since)).delta
        case "store":
            keyword = Flags(SystemFlag.NONE, ("a",))
            found = now(mailbox.store_flags(ONE, StoreMode.ADD, keyword, None, since)).delta
        case "copy":
            found = now(mailbox.copy(ONE, "Other", since)).delta
        case "move":
            found = now(mailbox.move(ONE, "Other", since)).delta
        case "expunge":
            found = now(mailbox.expunge(None, since))
        case "search":
            found = now(mailbox.search(key, since)).delta
        case "sort":
            found = now(mailbox.sort(key, [SortBy(SortKey.DATE, False)], since)).delta
        case "threads":
            found = now(mailbox.threads(key, ThreadAlgorithm.REFS, since))[1]
        case _:
            found = now(mailbox.replace(1, "Other", NewMessage(MAIL, Flags(), None), since))[1]
    return found


@pytest.fixture
def account(world: World) -> Account:
    """A session whose INBOX has one message that is recent no more."""
    account = world.login()
    now(account.create("Other"))
    now(account.append("INBOX", [NewMessage(MAIL, Flags(), None)]))
    now(account.select("INBOX", False))
    return account


@pytest.mark.parametrize(
    "what",
    ["sync", "news", "fetch", "store", "copy", "move", "expunge", "search", "sort", "threads", "replace"],
)
def test_a_new_message_is_recent_for_the_first_session_alone(account: Account, what: str) -> None:
    """By whichever command it is told of it; neither another session nor a later one is given it again."""
    first, second = now(account.select("INBOX", False)), now(account.select("INBOX", False))
    now(account.append("INBOX", [NewMessage(MAIL, Flags(), None)]))
    assert told_by(first, what).recent == UidSet.of([2])
    assert told_by(second, "sync").recent == told_by(second, "news").recent == NONE
    assert told_by(first, "sync").recent == told_by(first, "news").recent == NONE
    assert now(account.select("INBOX", False)).opened.recent == NONE
    assert now(account.status("INBOX")).recent == 0


def test_a_session_that_only_reads_leaves_it_to_another(account: Account) -> None:
    """EXAMINE claims nothing."""
    examined = now(account.select("INBOX", True))
    now(account.append("INBOX", [NewMessage(MAIL, Flags(), None)]))
    assert told_by(examined, "sync").recent == told_by(examined, "news").recent == NONE
    assert now(account.select("INBOX", False)).opened.recent == UidSet.of([2])


def test_what_nobody_has_been_given_is_recent_for_whoever_only_reads(account: Account) -> None:
    """RFC 3501 sections 2.3.2 and 6.3.2: EXAMINE tells of it and does not claim it."""
    now(account.append("INBOX", [NewMessage(MAIL, Flags(), None)]))
    for _ in range(2):
        examined = now(account.select("INBOX", True)).opened
        assert (examined.recent, now(account.status("INBOX")).recent) == (UidSet.of([2]), 1)
    assert now(account.select("INBOX", False)).opened.recent == UidSet.of([2])
    assert now(account.select("INBOX", True)).opened.recent == NONE


def test_a_select_between_reading_and_claiming_takes_it(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The race of two sessions: whoever claims first has the message, and the other one has not."""
    first = now(account.select("INBOX", False))
    now(account.append("INBOX", [NewMessage(MAIL, Flags(), None)]))
    opened = first._account
    read = opened.read_filed
    others: list[UidSet] = []

    async def read_and_be_late(fn: Callable[..., Any], *args: Any) -> Any:
        found = await read(fn, *args)
        if fn is delta:
            others.append((await account.select("INBOX", False)).opened.recent)
        return found

    monkeypatch.setattr(opened, "read_filed", read_and_be_late)
    assert told_by(first, "sync").recent == NONE
    assert others == [UidSet.of([2])]


def test_a_select_between_news_and_claiming_takes_it(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same for a session that waits in IDLE."""
    first = now(account.select("INBOX", False))
    now(account.append("INBOX", [NewMessage(MAIL, Flags(), None)]))
    others: list[UidSet] = []
    note = Database.note

    def late(database: Database, *args: Any) -> Any:
        others.append(now(account.select("INBOX", False)).opened.recent)
        return note(database, *args)

    monkeypatch.setattr(Database, "note", late)
    assert told_by(first, "news").recent == NONE
    assert others == [UidSet.of([2])]


def test_news_while_somebody_writes_are_claimed_in_turn(
    account: Account, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader does not wait for a writer in its thread: the claim goes where all writing goes."""
    first = now(account.select("INBOX", False))
    opened = first._account
    now(account.append("INBOX", [NewMessage(MAIL, Flags(), None)]))
    since = first.opened.status.highest_modseq

    def waits(_seconds: float) -> None:
        raise AssertionError("a reader waits for a writer")

    with locked(world.paths.folder / WRITE_LOCK, exclusive=True), monkeypatch.context() as patched:
        patched.setattr("mailstore.locks.time.sleep", waits)
        found = now(opened.read_and_note(first._news, since))
    assert found.recent == NONE and found.uid_next == 3
    assert told_by(first, "news").recent == UidSet.of([2])


def test_news_that_others_have_claimed_wake_nobody(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    """Taking the writers' lock is heard of by all workers, so it is not taken for nothing."""
    first, second = now(account.select("INBOX", False)), now(account.select("INBOX", False))
    now(account.append("INBOX", [NewMessage(MAIL, Flags(), None)]))
    told_by(first, "news")

    def nothing_to_note(*_args: object) -> None:
        raise AssertionError("a note was written")

    monkeypatch.setattr(Database, "note", nothing_to_note)
    assert told_by(second, "news").recent == NONE


def test_a_note_leaves_the_next_change_on_disk_as_ever(account: Account) -> None:
    """``synchronous`` is FULL again behind it, also when it fails."""
    opened = now(account.select("INBOX", False))._account

    def fails(_txn: Txn) -> None:
        raise StorageFailed

    def look(database: Database) -> tuple[list[Any], bool]:
        during = database.note(1, lambda txn: txn.value("PRAGMA synchronous"))
        with pytest.raises(StorageFailed):
            database.note(1, fails)
        return [during, *database.pragma("PRAGMA synchronous")], False

    normal, full = 1, 2
    assert now(opened.read_and_note(look)) == [normal, (full,)]


@pytest.mark.parametrize("how", ["sync", "news"])
def test_claiming_what_is_claimed_writes_nothing(
    account: Account, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Every session in the mailbox claims; only the first changes the database, so the others wake nobody."""
    sessions = [now(account.select("INBOX", False)) for _ in range(3)]
    now(account.append("INBOX", [NewMessage(MAIL, Flags(), None)]))
    updates: list[str] = []
    run = Txn.run

    def noted(txn: Txn, sql: str, parameters: Any = ()) -> Any:
        updates.append(sql)
        return run(txn, sql, parameters)

    monkeypatch.setattr(Txn, "run", noted)
    for session in sessions:
        told_by(session, how)
        told_by(session, how)
    assert [sql for sql in updates if sql.startswith("UPDATE")] == [
        "UPDATE mailbox SET recent_uid = ? WHERE id = ?"
    ]


@pytest.mark.parametrize("what", ["sync", "news", "fetch", "select", "seen"])
def test_reading_goes_on_while_another_process_lets_no_writer_in(
    account: Account, world: World, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """``\\Recent`` and ``\\Seen`` go along with reading: mail is not kept back for them."""
    monkeypatch.setattr("mailstore.open_account.BRIEF_PATIENCE_S", 0.0)
    mailbox = now(account.select("INBOX", False))
    now(account.append("INBOX", [NewMessage(MAIL, Flags(), None)]))
    with locked(world.paths.folder / WRITE_LOCK, exclusive=True):
        if what == "select":
            recent = now(account.select("INBOX", False)).opened.recent
        elif what == "seen":
            result = now(mailbox.fetch([2], FetchPlan(set_seen=True), mailbox.opened.status.highest_modseq))
            assert [row.uid for row in result.rows] == [2]
            recent = result.delta.recent
        else:
            recent = told_by(mailbox, what).recent
    # RFC 3501 section 2.3.2: where it cannot be told who is first, a message should be taken for recent.
    assert recent == (UidSet.of([2]) if what == "select" else NONE)
    assert now(account.select("INBOX", False)).opened.recent == UidSet.of([2])


def test_who_is_told_of_new_mail_need_not_read_it(account: Account, world: World) -> None:
    """At that moment, from where it stands, each session is given it; ``\\Recent`` goes to one."""
    first, second = now(account.select("INBOX", False)), now(account.select("INBOX", False))
    since = first.opened.status.highest_modseq
    heard: list[tuple[Delta | None, Delta | None]] = []
    for mailbox in (first, second):
        mailbox.on_change(lambda one=mailbox: heard.append((one.fresh(since), one.fresh(ModSeq(since - 1)))))
    now(account._opened.filed(1.0))
    heard.clear()
    world.deliver(MAIL)
    now(account._opened.filed(1.0))
    found = heard[0][0]
    assert found is not None
    assert [row.uid for row in found.changed] == [2]
    assert heard == [(found, None)] * 2
    assert first.fresh(since) is None
    assert now(first.claim(found)) == UidSet.of([2])
    assert now(second.claim(found)) == now(first.claim(found)) == NONE
    assert told_by(second, "sync") == found
