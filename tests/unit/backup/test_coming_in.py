"""Who comes in while everybody is asked to leave works on what stays, or is told to come again."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from living_world import SOMEBODY_INSIDE, Living, inode

from backup.errors import AccountInUse
from backup.state import Segment
from mailstore import account_database, eviction, open_account
from mailstore.account import AccountPaths, exclusive_lock
from mailstore.engine import Database, open_connection
from mailstore.errors import Busy
from mailstore.locks import locked


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Living]:
    """A fresh account."""
    made = Living(tmp_path)
    yield made
    made.close()


@pytest.fixture
def then(world: Living) -> Segment:
    """A snapshot, after which more came."""
    world.append("old")
    made = world.snapshot()
    world.append("new")
    world.settle()
    return made


def test_a_restore_does_not_pass_a_login_that_is_opening_the_database(
    world: Living, then: Segment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It asked before anybody was to leave, and opens the file only now: what it appends is not lost."""
    database = inode(world.paths.mail_db)
    monkeypatch.setattr(eviction, "exclusive_lock", partial(exclusive_lock, timeout_s=0.0))

    def slow(*arguments: Any, **named: Any) -> Database:
        monkeypatch.setattr(account_database, "open_connection", open_connection)
        with pytest.raises(AccountInUse):
            world.install(then)
        return open_connection(*arguments, **named)

    monkeypatch.setattr(account_database, "open_connection", slow)
    world.append("newest")
    assert inode(world.paths.mail_db) == database and not world.paths.restored.exists()
    assert world.inbox() == [b"new", b"newest", b"old"]
    world.settle()
    world.install(then)
    assert world.inbox() == [b"old"]


def test_a_restore_sees_who_came_in_before_it_had_the_lock(
    world: Living, then: Segment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody was inside when it looked first; somebody is when it has the lock."""
    database = inode(world.paths.mail_db)
    with ExitStack() as stack:

        @contextmanager
        def late(paths: AccountPaths) -> Iterator[None]:
            inside = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", SOMEBODY_INSIDE, str(paths.folder), "stays"],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                )
            )
            stack.callback(inside.communicate, b"go\n")
            assert inside.stdout is not None and inside.stdout.readline() == b"inside\n"
            with exclusive_lock(paths):
                yield

        monkeypatch.setattr(eviction, "exclusive_lock", late)
        with pytest.raises(AccountInUse):
            world.install(then)
    assert inode(world.paths.mail_db) == database and not world.paths.restored.exists()


def test_who_was_asked_to_leave_while_coming_in_goes(
    world: Living, then: Segment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing watched for it yet: the restore would wait in vain for a session that never heard of it."""
    with ExitStack() as stack:

        def asked(*arguments: Any, **named: Any) -> Database:
            made = open_connection(*arguments, **named)
            stack.enter_context(locked(world.paths.leave, exclusive=True))
            return made

        monkeypatch.setattr(account_database, "open_connection", asked)
        with pytest.raises(Busy, match="being restored"):
            world.mail.login()
        assert not world.paths.wal.exists(), "the database is closed"
    monkeypatch.setattr(account_database, "open_connection", open_connection)
    assert world.inbox() == [b"new", b"old"]
    world.install(then)
    assert world.inbox() == [b"old"]


def test_who_leaves_while_coming_in_is_not_taken_for_open(
    world: Living, then: Segment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder's watcher hears of it between the last question and its answer."""
    answers = iter([False, True])

    def overtaken(_paths: AccountPaths) -> bool:
        answer = next(answers)
        if not answer:
            world.mail.store.watcher.callbacks[world.paths.folder](frozenset({"leave"}))  # type: ignore[attr-defined]  # the tests' own
        return answer

    with monkeypatch.context() as patch:
        patch.setattr(open_account, "asked_to_leave", overtaken)
        with pytest.raises(Busy, match="being restored"):
            world.mail.login()
    assert world.inbox() == [b"new", b"old"]
