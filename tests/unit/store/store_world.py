"""A store without reactor and threads: real SQLCipher files, a clock moved by hand."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from twisted.internet import defer, task

from mailstore.account import (
    AccountPaths,
    NewAccount,
    account_paths,
    create_account,
    init_root,
    open_directory,
)
from mailstore.account_database import close_databases, open_database
from mailstore.directory import directory_place
from mailstore.engine import Database, DatabaseKey
from mailstore.keys import Argon2Params
from mailstore.limits import StoreLimits
from mailstore.model import AccessProtocol
from mailstore.sealed import Facts
from mailstore.store import Account, MailStore
from mailstore.unlock import Unlocker, UnlockLimits

T = TypeVar("T")
TINY = Argon2Params(1, 64, 1)
NAME = b"alice@example.org"
PASSWORD = b"correct horse battery staple"


class ImmediateExecutor:
    """Runs every job at once, in the caller's thread."""

    def __init__(self) -> None:
        self.background = defer.DeferredSemaphore(1)

    def call(self, fn: Callable[..., T], *args: Any) -> defer.Deferred[T]:
        """Like ``Executor.call``."""
        return defer.maybeDeferred(fn, *args)

    def stop(self) -> None:
        """Nothing runs."""


class SteppingExecutor:
    """Runs jobs in order, one with each call of ``step``: whatever may happen meanwhile can."""

    def __init__(self) -> None:
        self.background = defer.DeferredSemaphore(1)
        self._jobs: deque[tuple[defer.Deferred[Any], Callable[[], Any]]] = deque()

    def call(self, fn: Callable[..., T], *args: Any) -> defer.Deferred[T]:
        """Like ``Executor.call``; cancelling it means only that nobody hears of the result."""
        done: defer.Deferred[T] = defer.Deferred()
        self._jobs.append((done, partial(fn, *args)))
        return done

    @property
    def is_busy(self) -> bool:
        """Whether a job waits."""
        return bool(self._jobs)

    def step(self) -> bool:
        """Run the first job that waits; False when there is none."""
        if not self._jobs:
            return False
        done, job = self._jobs.popleft()
        outcome = defer.maybeDeferred(job)
        if done.called:
            outcome.addErrback(lambda _failure: None)
        else:
            outcome.chainDeferred(done)
        return True


class ManualWatcher:
    """Watches nothing; tests say what changed."""

    def __init__(self) -> None:
        self.callbacks: dict[Path, Callable[[frozenset[str]], None]] = {}

    def watch(self, folder: Path, names: Any, callback: Callable[[frozenset[str]], None]) -> None:
        """Like ``Watcher.watch``."""
        self.callbacks[folder] = callback

    def watch_arrivals(
        self, folder: Path, callback: Callable[[frozenset[str]], None], written: Callable[[str], None]
    ) -> None:
        """Like ``Watcher.watch_arrivals``."""
        self.callbacks[folder] = callback
        self.written = written

    def ignore(self, folder: Path) -> None:
        """Like ``Watcher.ignore``."""
        self.callbacks.pop(folder, None)

    def from_any_thread(self, _callback: Callable[[], None]) -> Callable[[], None]:
        """What other threads tell is not heard."""
        return lambda: None

    def stop(self) -> None:
        """Like ``Watcher.stop``."""
        self.callbacks.clear()


class World:
    """One data root with the account ``NAME`` and a store over it."""

    def __init__(
        self,
        root: Path,
        limits: StoreLimits | None = None,
        executor: ImmediateExecutor | SteppingExecutor | None = None,
    ) -> None:
        self.root = root
        self.clock = task.Clock()
        fresh = directory_place(root) is None and not (root / "directory.db").exists()
        init_root(root)
        self.directory = open_directory(root)
        if fresh:
            create_account(root, self.directory, NewAccount(NAME.decode(), PASSWORD), params=TINY)
        executor = executor or ImmediateExecutor()
        unlocker = Unlocker(root, self.directory, executor.call, limits=UnlockLimits(params=TINY))
        self.watcher = ManualWatcher()
        self.store = MailStore(
            self.clock,
            root,
            self.directory,
            unlocker,
            executor,  # type: ignore[arg-type]
            limits or StoreLimits(),
            self.watcher,  # type: ignore[arg-type]
        )

    @property
    def paths(self) -> AccountPaths:
        """The account's files."""
        return account_paths(self.root, self.directory.accounts()[0].account_id)

    def login(self, secret: bytes = PASSWORD) -> Account:
        """A session of the account."""
        return now(self.store.login(NAME, secret, AccessProtocol.IMAP))

    def deliver(self, message: bytes, address: bytes = NAME, received: int = 1_700_000_000) -> None:
        """Deliver one message as LMTP does."""
        recipient = now(self.store.recipient(address, len(message)))
        assert recipient is not None
        now(self.store.deliver(recipient, message, Facts(received, mailbox_hint=recipient.mailbox_hint)))

    def close(self) -> None:
        """Stop the store."""
        now(self.store.stop())
        self.directory.close()


def open_files(paths: AccountPaths) -> list[str]:
    """The account's files that this process has open."""
    found = []
    for number in os.listdir("/proc/self/fd"):
        try:
            target = Path(os.readlink(f"/proc/self/fd/{number}"))
        except FileNotFoundError:
            continue  # the one that lists them
        if target.is_relative_to(paths.folder):
            found.append(target.name)
    return sorted(found)


def make_database(paths: AccountPaths, key: DatabaseKey) -> None:
    """An empty database, as a first login makes it."""
    made = open_database(paths, key, give_up=Database.close, may_create=True)
    assert close_databases(paths, [made])


def now(coroutine: Any) -> Any:
    """The result of a coroutine that has nothing to wait for; its exception when it fails."""
    outcome: list[Any] = []
    defer.ensureDeferred(coroutine).addBoth(outcome.append)
    assert outcome, "the coroutine waits for something"
    if hasattr(outcome[0], "raiseException"):
        outcome[0].raiseException()
    return outcome[0]
