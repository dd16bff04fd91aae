"""What is deleted is gone from the database, and what is destroyed holds on to nothing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from store_world import NAME, World, now

from mailstore.account import destroy_account
from mailstore.engine import Database, Txn
from mailstore.errors import TooNew
from mailstore.model import AccessProtocol, Flags, ModSeq, NewMessage, SystemFlag
from mailstore.prepared import FRAME_BYTES
from mailstore.schema import SCHEMA_VERSION
from mailstore.store import Account
from mailstore.uidset import UidSet
from mailstore.unlock import Unlocked
from tests.unit.keys_world import is_unlocked

LARGE = b"Message-ID: <1@x>\r\nReferences: <2@x> <3@x>\r\n\r\n" + os.urandom(2 * FRAME_BYTES).hex().encode()
SMALL = b"Message-ID: <4@x>\r\nSubject: x\r\n\r\nhello\r\n"


def rows(txn: Txn) -> dict[str, int]:
    """How many rows each table has, but for the account's own counters."""
    tables = txn.rows("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
    return {name: txn.value(f"SELECT count(*) FROM {name}") for (name,) in tables if name != "setting"}


def counted(world: World, account: Account) -> dict[str, int]:
    """``rows`` of the account."""
    found: dict[str, int] = now(world.store._open[account.account_id].read(rows))
    return found


def fill(account: Account, name: str) -> None:
    """Make a mailbox that has something of everything."""
    now(account.create(name))
    new = [
        NewMessage(LARGE, Flags(SystemFlag.SEEN, ("$Work",))),
        NewMessage(SMALL, Flags(SystemFlag.DELETED)),
    ]
    now(account.append(name, [*new, NewMessage(b"")]))
    mailbox = now(account.select(name, False))
    now(mailbox.expunge(UidSet.of([2]), ModSeq(0)))
    now(account.append(name, new))
    now(account.annotate(name, {"/private/comment": b"x"}))


def test_a_deleted_mailbox_leaves_no_row_behind(world: World) -> None:
    """Else its mail would stay in the database, and in every later snapshot, with nobody to see it."""
    account = world.login()
    before = counted(world, account)
    assert before["message"] == before["content"] == before["reference"] == 0
    fill(account, "short-lived")
    filled = counted(world, account)
    same = {name for name in filled if filled[name] == before[name]}
    assert same == {"filed", "subscription"}, "of everything else the mailbox has something"
    now(account.delete("short-lived"))
    assert counted(world, account) == before


def test_a_deleted_mailbox_takes_no_mail_that_lies_elsewhere(world: World) -> None:
    """A copy keeps the message, to the last mailbox that has it."""
    account = world.login()
    before = counted(world, account)
    fill(account, "first")
    now(account.create("second"))
    first = now(account.select("first", False))
    now(first.copy(UidSet(((1, 99),)), "second", ModSeq(0)))
    filled = counted(world, account)
    now(account.delete("first"))
    left = counted(world, account)
    for name in ("message", "message_meta", "content", "reference"):
        assert left[name] == filled[name] > 0
    now(account.delete("second"))
    assert counted(world, account) == before


def open_files(folder: Path) -> list[str]:
    """The files of a folder that this process has open, deleted ones too."""
    found = []
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{descriptor}")
        except FileNotFoundError:
            continue  # the one that lists the folder
        if target.startswith(f"{folder}/"):
            found.append(target)
    return found


def test_databases_of_a_destroyed_account_are_closed(world: World) -> None:
    """An open file keeps its space on the disk until the process ends, long after it was deleted."""
    account = world.login()
    now(account.append("Drafts", [NewMessage(SMALL)]))
    now(account.status("Drafts"))
    folder = world.paths.folder
    callback = world.store.watcher.callbacks[folder]  # type: ignore[attr-defined]
    assert any(name.endswith("mail.db") for name in open_files(folder))
    destroy_account(world.root, world.directory, account.account_id)
    assert any(name.endswith("mail.db (deleted)") for name in open_files(folder))
    callback(frozenset({"keys"}))
    assert open_files(folder) == []


def test_a_login_that_does_not_come_to_anything_holds_no_key(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The account was unlocked, and then its database could not be opened."""
    account = world.login()
    opened = world.store._open[account.account_id]

    def newer(database: Database) -> None:
        database.pragma(f"PRAGMA user_version={SCHEMA_VERSION + 1}")

    now(opened._rest._databases.writer.run(newer))
    account.release_at_once()
    world.clock.advance(0)
    unlocked: list[Unlocked] = []
    unlock = world.store._unlocker.unlock

    async def noted(*args: object) -> Unlocked:
        unlocked.append(await unlock(*args))  # type: ignore[arg-type]
        return unlocked[-1]

    monkeypatch.setattr(world.store._unlocker, "unlock", noted)
    with pytest.raises(TooNew):
        now(world.store.login(NAME, b"correct horse battery staple", AccessProtocol.IMAP))
    assert unlocked[0].is_wiped
    assert not is_unlocked(world.store._unlocker, account.account_id)
