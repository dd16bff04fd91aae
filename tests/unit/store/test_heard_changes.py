"""Changes that a session hears of while mail is filed: none is missed, and none is looked at twice."""

from __future__ import annotations

import fcntl
from collections.abc import Callable

import pytest
from store_world import World, now

from mailstore.engine import WRITE_LOCK, Txn
from mailstore.errors import StorageFull
from mailstore.filing import LOCK_NAME, Batch
from mailstore.model import MailboxId
from mailstore.open_account import OpenAccount
from mailstore.ops import mailboxes

MESSAGE = b"Subject: news\r\n\r\nworld\r\n"


def test_a_change_heard_of_before_mail_is_filed_is_looked_at_at_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the writer's turn and lock are waited for: only what files itself tells of all before it."""
    account = world.login()
    opened = world.store._open[account.account_id]
    account.listen(lambda: None)
    load, looks = opened._filer.load, []

    def heard_first(*, few: bool) -> Batch | None:
        opened._account_folder_changed(frozenset({WRITE_LOCK}))
        looks.append(opened._heard_s)
        return load(few=few)

    monkeypatch.setattr(opened._filer, "load", heard_first)
    world.deliver(MESSAGE)
    assert now(account.status("INBOX")).messages == 1
    assert looks == [None]


@pytest.mark.parametrize("after_the_look", [False, True])
def test_a_change_heard_of_while_mail_is_filed_is_not_missed(
    world: World, monkeypatch: pytest.MonkeyPatch, after_the_look: bool
) -> None:
    """Filing ends with a look: what is heard before it is covered, behind it there is another one."""
    account = world.login()
    opened = world.store._open[account.account_id]
    heard: list[str] = []
    account.listen(lambda: heard.append("told"))
    polls: list[str] = []
    poll = opened._poll

    async def counted() -> None:
        polls.append("poll")
        await poll()

    monkeypatch.setattr(opened, "_poll", counted)
    insert, modseqs = opened._filer.insert, mailboxes.modseqs

    def told_before(*args: object) -> None:
        insert(*args)  # type: ignore[arg-type]
        opened._account_folder_changed(frozenset({WRITE_LOCK}))

    def told_behind(txn: Txn) -> dict[MailboxId, int]:
        found = modseqs(txn)
        opened._account_folder_changed(frozenset({WRITE_LOCK}))
        return found

    if after_the_look:
        monkeypatch.setattr("mailstore.open_account.mailboxes.modseqs", told_behind)
    else:
        monkeypatch.setattr(opened._filer, "insert", told_before)
    heard.clear()
    world.deliver(MESSAGE)
    monkeypatch.setattr("mailstore.open_account.OpenAccount._poll_soon", _without_endless_polls(opened))
    opened._inbox.file_soon()
    assert polls == (["poll"] if after_the_look else [])
    assert heard


@pytest.mark.parametrize("why", ["another process files", "an empty batch", "a failure"])
def test_a_change_heard_of_while_nothing_is_filed_is_looked_at(
    world: World, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    """A pass that files nothing has not looked at the mailboxes either."""
    account = world.login()
    opened = world.store._open[account.account_id]
    heard: list[str] = []
    account.listen(lambda: heard.append("told"))
    load = opened._filer.load

    def heard_meanwhile(*, few: bool = False) -> Batch | None:
        opened._account_folder_changed(frozenset({WRITE_LOCK}))
        assert not heard  # it is put off until filing is over
        if why == "a failure":
            raise StorageFull("the disk is full")
        return load(few=few)

    monkeypatch.setattr(opened._filer, "load", heard_meanwhile)
    heard.clear()
    with (world.paths.folder / LOCK_NAME).open("r+b") as other:
        if why == "another process files":
            fcntl.flock(other, fcntl.LOCK_EX)
        opened._inbox.file_soon()
    assert heard == ["told"]


def _without_endless_polls(opened: OpenAccount) -> Callable[[OpenAccount], None]:
    """``_poll_soon`` until a poll is running: the test's own news come during that one, too."""
    poll_soon = type(opened)._poll_soon

    def soon(self: OpenAccount) -> None:
        if not self._polling:
            poll_soon(self)

    return soon
