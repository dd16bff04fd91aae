"""``\\Recent`` belongs to one session (RFC 3501 section 2.3.2): the first that is told of a message."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mailstore import search
from mailstore.engine import Txn
from mailstore.mailbox import Mailbox
from mailstore.model import (
    Delta,
    FetchPlan,
    Flags,
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
    ["sync", "fetch", "store", "copy", "move", "expunge", "search", "sort", "threads", "replace"],
)
def test_a_new_message_is_recent_for_the_first_session_alone(account: Account, what: str) -> None:
    """By whichever command it is told of it; neither another session nor a later one is given it again."""
    first, second = now(account.select("INBOX", False)), now(account.select("INBOX", False))
    now(account.append("INBOX", [NewMessage(MAIL, Flags(), None)]))
    assert told_by(first, what).recent == UidSet.of([2])
    assert told_by(second, "sync").recent == NONE
    assert told_by(first, "sync").recent == NONE
    assert now(account.select("INBOX", False)).opened.recent == NONE
    assert now(account.status("INBOX")).recent == 0


def test_a_session_that_only_reads_leaves_it_to_another(account: Account) -> None:
    """EXAMINE claims nothing."""
    examined = now(account.select("INBOX", True))
    now(account.append("INBOX", [NewMessage(MAIL, Flags(), None)]))
    assert told_by(examined, "sync").recent == NONE
    assert now(account.select("INBOX", False)).opened.recent == UidSet.of([2])


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


def test_claiming_what_is_claimed_writes_nothing(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
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
        told_by(session, "sync")
        told_by(session, "sync")
    assert [sql for sql in updates if sql.startswith("UPDATE")] == [
        "UPDATE mailbox SET recent_uid = ? WHERE id = ?"
    ]
