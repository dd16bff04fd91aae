"""No session is ended early: a login that comes while its account is about to close, at every step of it."""

from __future__ import annotations

from collections.abc import Awaitable
from pathlib import Path
from typing import TypeVar

import pytest
from store_world import NAME, PASSWORD, SteppingExecutor, World, open_files
from twisted.internet.defer import CancelledError, Deferred, ensureDeferred
from twisted.python.failure import Failure

from mailstore.errors import AccountClosed
from mailstore.limits import StoreLimits
from mailstore.model import AccessProtocol
from mailstore.store import Account
from tests.unit.keys_world import is_unlocked

T = TypeVar("T")
GRACE_S = StoreLimits().close_grace_s
MOST_STEPS = 50
"""More than any login takes here."""


class Steps:
    """An account whose last session has just ended; everything in threads waits for ``take``."""

    def __init__(self, place: Path) -> None:
        World(place).close()
        self.executor = SteppingExecutor()
        self.world = World(place, executor=self.executor)
        self.world.clock.advance(0)
        self.settled(self.login(AccessProtocol.IMAP)).release()

    def login(self, protocol: AccessProtocol) -> Deferred[Account]:
        """A login that has begun."""
        return ensureDeferred(self.world.store.login(NAME, PASSWORD, protocol))

    def take(self, steps: int) -> None:
        """Let so many jobs run."""
        for _ in range(steps):
            self.executor.step()

    def settled(self, awaited: Deferred[T]) -> T:
        """What comes of it when everything may run."""
        outcome: list[T | Failure] = []
        awaited.addBoth(outcome.append)
        while self.executor.step():
            pass
        assert outcome, "it waits for something"
        found = outcome[0]
        if isinstance(found, Failure):
            found.raiseException()
        return found  # type: ignore[return-value]  # no failure

    def run(self, work: Awaitable[T]) -> T:
        """The result of a coroutine."""
        return self.settled(ensureDeferred(work))  # type: ignore[arg-type]  # a coroutine

    def close(self) -> None:
        """Stop the store."""
        self.run(self.world.store.stop())
        self.world.directory.close()


@pytest.mark.parametrize("protocol", [AccessProtocol.IMAP, AccessProtocol.POP3])
def test_a_login_that_meets_the_end_of_the_grace_gets_a_session_that_lasts(
    tmp_path: Path, protocol: AccessProtocol
) -> None:
    """Whether the account closes before, or stays open: nobody who has logged in is told to go."""
    for step in range(MOST_STEPS):
        steps = Steps(tmp_path / str(step))
        steps.world.clock.advance(GRACE_S - 1)
        login = steps.login(protocol)
        steps.take(step)
        finished_before = login.called
        steps.world.clock.advance(1)
        account = steps.settled(login)
        told: list[str] = []
        account.on_closed(lambda told=told: told.append("ended"))  # type: ignore[misc]  # bound at once
        steps.world.clock.advance(GRACE_S + 1)
        assert steps.run(account.status("INBOX")).messages == 0
        assert told == []
        account.release()
        steps.close()
        if finished_before:
            return
    raise AssertionError("too many steps")


@pytest.mark.parametrize("protocol", [AccessProtocol.IMAP, AccessProtocol.POP3])
def test_a_login_that_hangs_up_leaves_no_account_open(tmp_path: Path, protocol: AccessProtocol) -> None:
    """Wherever it was: after the grace the database is closed and the key is forgotten."""
    for step in range(MOST_STEPS):
        steps = Steps(tmp_path / str(step))
        steps.world.clock.advance(GRACE_S + 1)
        while steps.executor.step():
            pass
        assert not steps.world.store._open
        login = steps.login(protocol)
        steps.take(step)
        if login.called:
            steps.settled(login).release()
            steps.close()
            return
        login.cancel()
        with pytest.raises(CancelledError):
            steps.settled(login)
        steps.world.clock.advance(GRACE_S + 1)
        while steps.executor.step():
            pass
        assert not steps.world.store._open
        assert not is_unlocked(steps.world.store._unlocker, steps.world.directory.accounts()[0].account_id)
        steps.close()
    raise AssertionError("too many steps")


def awake(steps: Steps) -> bool:
    """Whether the account's databases are open."""
    return next(iter(steps.world.store._open.values())).is_awake


@pytest.mark.parametrize("when", ["falling asleep", "waking"])
def test_a_server_that_stops_while_an_account_falls_asleep_or_wakes_closes_it(
    tmp_path: Path, when: str
) -> None:
    """At every step of it: stopping comes to an end, no file stays open, and the key is forgotten."""
    for step in range(MOST_STEPS):
        steps = Steps(tmp_path / str(step))
        account = steps.settled(steps.login(AccessProtocol.IMAP))
        while awake(steps):
            steps.settled(ensureDeferred(_nothing()))
            steps.world.clock.advance(1.0)
        account.on_closed(account.release)
        if when == "waking":
            steps.settled(ensureDeferred(_nothing()))
            command = ensureDeferred(account.status("INBOX"))
            command.addErrback(lambda failure: failure.trap(AccountClosed))
        steps.take(step)
        is_over = not steps.executor.is_busy
        account_id = account.account_id
        stopping = ensureDeferred(steps.world.store.stop())
        while not stopping.called:
            assert steps.executor.step(), "it waits for something"
        assert open_files(steps.world.paths) == []
        assert not steps.executor.is_busy
        steps.close()
        assert not steps.world.paths.wal.exists()
        assert not is_unlocked(steps.world.store._unlocker, account_id)
        assert when != "waking" or command.called
        if is_over:
            return
    raise AssertionError("too many steps")


def test_an_account_does_not_fall_asleep_while_a_message_for_it_arrives(tmp_path: Path) -> None:
    """It would have to wake at once."""
    steps = Steps(tmp_path)
    account = steps.settled(steps.login(AccessProtocol.IMAP))
    account.listen(lambda: None)
    for _ in range(10):  # until the search index is done
        steps.settled(ensureDeferred(_nothing()))
        steps.world.clock.advance(1.0)
    steps.world.watcher.written(f".{'0' * 16}-{'0' * 16}.tmp")
    assert steps.executor.is_busy
    steps.world.clock.advance(StoreLimits().hibernate_after_s)
    assert awake(steps)
    steps.settled(ensureDeferred(_nothing()))
    steps.world.clock.advance(StoreLimits().hibernate_after_s)
    assert not awake(steps)
    steps.settled(ensureDeferred(_nothing()))
    account.release()
    steps.close()


async def _nothing() -> None:
    """Nothing to wait for."""
