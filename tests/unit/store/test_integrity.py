"""Whether one database is whole, and an earlier state of another: what proves a restore."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from store_world import make_database

from mailstore.account import AccountPaths
from mailstore.account_database import account_database
from mailstore.engine import DatabaseKey, Txn
from mailstore.integrity import is_earlier_state, unsound
from mailstore.model import Flags, ModSeq, StoreMode, SystemFlag
from mailstore.ops import mailboxes, messages
from mailstore.ops.rows import require_mailbox
from mailstore.prepared import ReadyMessage, prepare
from mailstore.schema import migrate
from mailstore.uidset import UidSet

KEY = DatabaseKey(bytes(32), bytes(16))
MAIL = prepare(b"Subject: x\r\n\r\ntext\r\n")


class States:
    """One account's database, and copies of it as it was."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.count = 0
        self.now = self.change(lambda txn: mailboxes.create(txn, "Work", None, 100))

    def change(self, what: Callable[[Txn], object]) -> AccountPaths:
        """Make a change to the living database; a copy of what it is afterwards."""
        living = self.folder / "living"
        living.mkdir(exist_ok=True)
        if not self.count:
            make_database(AccountPaths(living), KEY)
        with account_database(AccountPaths(living), KEY) as database:
            if not self.count:
                migrate(database, 0)
            database.write(0, what)
        self.count += 1
        copy = self.folder / str(self.count)
        shutil.copytree(living, copy)
        self.now = AccountPaths(copy)
        return self.now

    def append(self, mailbox: str = "Work") -> AccountPaths:
        """A message more."""
        return self.change(
            lambda txn: messages.add_messages(
                txn, require_mailbox(txn, mailbox), [ReadyMessage(MAIL, Flags(), 0)]
            )
        )

    def expunge(self) -> AccountPaths:
        """The first message is gone."""

        def change(txn: Txn) -> None:
            work = require_mailbox(txn, "Work")
            deleted, one = Flags(SystemFlag.DELETED), UidSet.of([1])
            messages.store_flags(txn, work, one, StoreMode.ADD, deleted, None, ModSeq(0))
            messages.expunge(txn, work, one, ModSeq(0))

        return self.change(change)


def earlier(then: AccountPaths, now: AccountPaths) -> bool:
    """The answer for two folders."""
    with account_database(then, KEY) as first, account_database(now, KEY) as second:
        return is_earlier_state(first, second)


@pytest.fixture
def states(tmp_path: Path) -> States:
    """An account with one mailbox and a message in it."""
    made = States(tmp_path)
    made.append()
    return made


def test_every_state_is_earlier_than_what_became_of_it(states: States) -> None:
    """Messages that came, went, and mailboxes that were deleted; a state is also its own."""
    past = [states.now, states.append(), states.expunge(), states.append()]
    past.append(states.change(lambda txn: mailboxes.delete(txn, "Work")))
    for index, then in enumerate(past):
        for now in past[index:]:
            assert earlier(then, now)


def test_no_state_is_earlier_than_the_one_before_it(states: States) -> None:
    """The living database has lost a message, or was itself put back."""
    past = [states.now, states.append(), states.expunge(), states.append()]
    for index, then in enumerate(past):
        for now in past[:index]:
            assert not earlier(then, now)


def test_a_message_that_went_without_a_trace_is_noticed(states: States) -> None:
    """Whether the mailbox went on since or not."""
    then = states.append()
    lost = states.change(lambda txn: txn.run("DELETE FROM placed WHERE uid = 1"))
    assert not earlier(then, lost)
    assert not earlier(then, states.append())


def test_another_message_in_its_place_is_noticed(states: States) -> None:
    """Two databases that parted: as many changes, other messages."""
    then = states.append()
    assert not earlier(then, states.change(lambda txn: txn.run("UPDATE placed SET uid = 9 WHERE uid = 1")))


def test_a_sound_database_has_nothing_wrong(states: States) -> None:
    """And one with a page of rubbish says which page."""
    with account_database(states.now, KEY) as database:
        assert unsound(database) is None
    with states.now.mail_db.open("r+b") as file:
        file.seek(2 * 4096)
        file.write(bytes(4096))
    with account_database(states.now, KEY) as database:
        assert unsound(database) == "page 3 is not authentic"
