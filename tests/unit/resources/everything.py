"""A data root with everything in it, and what is tried on it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from backup_world import PASSWORD, TINY, BackupWorld, message, now
from keys_world import outcome
from test_scram_slots import prove
from twisted.internet.defer import Deferred

from mailstore.account import (
    AccountPaths,
)
from mailstore.account_database import close_kept, mail_key
from mailstore.engine import DatabaseKey
from mailstore.filing import Filer
from mailstore.keyring import Keyring
from mailstore.keys import Scope
from mailstore.limits import StoreLimits
from mailstore.mime import DEFAULT_LIMITS
from mailstore.model import ModSeq, NewMessage
from mailstore.opening import Proven, open_as_owner
from mailstore.sealed import Facts, SealedId, new_sealed_id, seal
from mailstore.store import Account
from mailstore.uidset import UidSet

NAME = "alice@example.org"
OTHER = "ann@example.org"
GRACE_S = StoreLimits().close_grace_s + 1
BEGINNING = ModSeq(0)
ONE = UidSet.of([1])
SERVER_KEY = b"a key of the server, for testing"


class Everything(BackupWorld):
    """A data root with an account that has mail and one snapshot, a snapshot job, and room for more."""

    def __init__(self, place: Path) -> None:
        super().__init__(place)
        self.root = self.mail.root
        self.directory = self.mail.directory
        self.account_id = self.directory.accounts()[0].account_id
        self.spare = place / "spare"
        self.spare.mkdir()
        self.account: Account | None = None
        self.made: Any = None
        account = self.mail.login()
        now(account.append("INBOX", [NewMessage(message(f"number {number}")) for number in range(3)]))
        account.release()
        self.settle()
        assert self.take() is not None
        self.upload()
        self.opened = self.owner()
        self.exchange, _ = prove(
            self.keyring().add_app_password("phone", Scope()).printed.text(),
            outcome(Deferred.fromCoroutine(self.mail.store.scram_setup(NAME.encode()))),
        )

    @property
    def paths(self) -> AccountPaths:
        """The account's files."""
        return self.mail.paths

    def owner(self) -> Proven:
        """The account, opened by its owner."""
        return open_as_owner(self.root, self.directory, NAME, PASSWORD, now=0, params=TINY)

    def keyring(self) -> Keyring:
        """The account's keyslots."""
        return Keyring(self.root, self.directory, self.account_id, self.opened.master, TINY)

    def key(self) -> DatabaseKey:
        """The key of the account's database."""
        master = self.opened.master
        return mail_key(master)

    def filer(self) -> Filer:
        """One that files the account's mail."""
        return Filer(self.paths, self.account_id, self.opened.private_key, StoreLimits(), DEFAULT_LIMITS)

    def settle(self) -> None:
        """Close the account."""
        self.mail.clock.advance(GRACE_S)
        close_kept()

    def open_session(self) -> Account:
        """A session that stays until the operation is undone."""
        self.account = self.mail.login()
        now(self.account.status("INBOX"))
        return self.account

    def close_session(self) -> None:
        """End it, and close the account."""
        if self.account is not None:
            self.account.release()
            self.account = None
        self.settle()

    def blob(self) -> tuple[SealedId, bytes]:
        """A message, sealed."""
        sealed_id = new_sealed_id()
        public = self.opened.record.public_key
        return sealed_id, seal(public, self.account_id, sealed_id, message("waiting"), Facts(0))

    def empty_inbox(self) -> None:
        """Nothing waits."""
        for path in self.paths.inbox.iterdir():
            path.unlink()


@contextmanager
def room() -> Iterator[Path]:
    """A folder for a world, in memory where there is such: no power is cut off here."""
    memory = Path("/dev/shm")
    with TemporaryDirectory(dir=memory if memory.is_dir() else None) as place:
        yield Path(place)


World = Everything
Step = Callable[[World], Any]

_RANDOM = re.compile(r"(?<=accounts/)../|(?<=invitations/)[0-9a-z]{8}|[0-9a-f]{16,}")
_COMES_AND_GOES = re.compile(
    r"(-wal|-shm|\.lock|-checkpoints|/inbox-size|/mail-size|/search\.db-progress|/accounts/..)$"
)


NOWHERE = "$."


def nothing(_world: World) -> None:
    """Where there is nothing to do."""


def files(world: World) -> list[str]:
    """All files and folders, but for what comes and goes with an open database, and notes beside it."""
    found = (str(path.relative_to(world.place)) for path in world.place.rglob("*"))
    return sorted(_RANDOM.sub("*", name) for name in found if not _COMES_AND_GOES.search(name))


@dataclass(frozen=True)
class Operation:
    """``run`` is what is tried; ``prepare`` and ``undo`` come before and after it, whatever it came to."""

    name: str
    run: Step
    prepare: Step = nothing
    undo: Step = nothing
    state: Step = files
    """What ``run`` changes: a failure leaves it as it was before or as it is afterwards."""
    undone: bool = False
    """It raises only what has changed nothing."""
    goes_on: str = NOWHERE
    """At which steps a failure does not keep it from success, as a regular expression."""
    may_go_on: str = NOWHERE
    """At which it need not."""
    others: tuple[type[Exception], ...] = ()
    """What it may raise besides: the object store is on this disk, too."""
    again: bool = False
    """A failure may leave a part of the work, which the same call finishes."""

    def __str__(self) -> str:
        return self.name
