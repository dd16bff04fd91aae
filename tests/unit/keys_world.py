"""A small data root with one account, a counting Argon2 and hand-driven threads."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.python.failure import Failure

from mailstore.account import (
    AccountPaths,
    NewAccount,
    account_paths,
    create_account,
    init_root,
    open_directory,
)
from mailstore.directory import AccountRecord, Directory
from mailstore.keyring import Keyring
from mailstore.keys import AccountId, Argon2Params, argon2id
from mailstore.opening import Proven, open_as_owner
from mailstore.unlock import Unlocker

TINY = Argon2Params(time_cost=1, memory_kib=64, parallelism=1)
NAME = "joe@example.org"
PASSWORD = b"correct horse battery staple"
NOW = 1_800_000_000.0


class CountingArgon2:
    """Argon2id that counts its runs and remembers results, so that thousands of openings stay fast."""

    def __init__(self) -> None:
        self.runs: list[Argon2Params] = []
        self._known: dict[tuple[bytes, bytes, Argon2Params], bytes] = {}

    def __call__(self, secret: bytes, salt: bytes, params: Argon2Params) -> bytes:
        self.runs.append(params)
        question = (bytes(secret), salt, params)
        if question not in self._known:
            self._known[question] = argon2id(secret, salt, params)
        return self._known[question]


@dataclass
class World:
    """One root, one directory, one account."""

    root: Path
    directory: Directory
    record: AccountRecord
    argon2: CountingArgon2 = field(default_factory=CountingArgon2)

    @property
    def paths(self) -> AccountPaths:
        """The account's files."""
        return account_paths(self.root, self.record.account_id)

    def open(self, secret: bytes = PASSWORD, name: str = NAME) -> Proven:
        """Open an account as its owner."""
        return open_as_owner(
            self.root, self.directory, name, secret, now=NOW, argon2=self.argon2, params=TINY
        )

    def keyring(self, secret: bytes = PASSWORD) -> Keyring:
        """The account's keyslots."""
        opened = self.open(secret)
        return Keyring(
            self.root,
            self.directory,
            self.record.account_id,
            opened.master,
            TINY,
            self.argon2,
            clock=lambda: NOW,
            lock_timeout_s=0.2,
        )


def make_world(root: Path) -> Iterator[World]:
    """For a fixture: ``yield from make_world(tmp_path)``."""
    init_root(root)
    directory = open_directory(root)
    wanted = NewAccount(NAME, PASSWORD)
    record = create_account(root, directory, wanted, params=TINY, clock=lambda: NOW)
    yield World(root, directory, record)
    directory.close()


def at_once(function: Callable[..., Any], /, *args: Any) -> Deferred[Any]:
    """A thread that is done before it was started."""
    return maybeDeferred(function, *args)


class Later:
    """Threads whose work happens when the test says so."""

    def __init__(self) -> None:
        self.jobs: list[tuple[Deferred[Any], Callable[..., Any], tuple[Any, ...]]] = []

    def __call__(self, function: Callable[..., Any], /, *args: Any) -> Deferred[Any]:
        answer: Deferred[Any] = Deferred()
        self.jobs.append((answer, function, args))
        return answer

    def run(self) -> None:
        """Do what waits now, not what that starts."""
        jobs, self.jobs = self.jobs, []
        for answer, function, args in jobs:
            maybeDeferred(function, *args).chainDeferred(answer)

    def run_all(self) -> None:
        """Work until nothing waits."""
        while self.jobs:
            self.run()


def outcome(deferred: Deferred[Any]) -> Any:
    """The value of a fired Deferred, or its exception as a value."""
    seen: list[Any] = []
    deferred.addBoth(seen.append)
    assert seen, "nothing has happened yet"
    return seen[0].value if isinstance(seen[0], Failure) else seen[0]


def fixed_random(seed: str) -> Callable[[int], bytes]:
    """A source of bytes that is the same in every run."""
    counter = iter(range(1 << 30))
    return lambda count: hashlib.shake_256(f"{seed} {next(counter)}".encode()).digest(count)


def is_unlocked(unlocker: Unlocker, account_id: AccountId) -> bool:
    """Whether the process has the account's master key."""
    unlocker.reap()
    return account_id in unlocker._live
