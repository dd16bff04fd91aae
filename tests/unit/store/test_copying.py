"""A mailbox of one database copied into another: byte for byte, in bounded memory, beside what is there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from store_world import make_database

from mailstore import copying
from mailstore.account import AccountPaths
from mailstore.account_database import account_database
from mailstore.copying import CopiedMailbox, copy_mailbox
from mailstore.engine import Database, DatabaseKey
from mailstore.errors import NoSuchMailbox
from mailstore.limits import StoreLimits
from mailstore.model import Flags, SystemFlag
from mailstore.ops import mailboxes, messages
from mailstore.ops.content import read_span
from mailstore.ops.rows import require_mailbox
from mailstore.prepared import ReadyMessage, prepare
from mailstore.schema import migrate

MAIL = [b"Subject: %d\r\n\r\n%s\r\n" % (number, b"\xff\0" * 100 * number) for number in range(5)]
FLAGS = Flags(SystemFlag.SEEN, ("$Forwarded",))


@pytest.fixture
def databases(tmp_path: Path) -> Iterator[tuple[Database, Database]]:
    """One with five messages in Work, and an empty one."""
    with ExitStack() as stack:
        made = []
        for number, name in enumerate(("source", "target")):
            (tmp_path / name).mkdir()
            key = DatabaseKey(bytes([number]) * 32, bytes(16))
            make_database(AccountPaths(tmp_path / name), key)
            database = stack.enter_context(account_database(AccountPaths(tmp_path / name), key))
            migrate(database, 0)
            made.append(database)
        source, target = made
        source.write(0, lambda txn: mailboxes.create(txn, "Work", None, 100))
        ready = [ReadyMessage(prepare(data), FLAGS, 1000 + at) for at, data in enumerate(MAIL)]
        source.write(0, lambda txn: messages.add_messages(txn, require_mailbox(txn, "Work"), ready))
        yield source, target


def contents(database: Database, name: str) -> list[tuple[bytes, Flags, int]]:
    """Messages with flags and internal dates, in order."""
    placed = database.read(0, lambda txn: messages.placed_messages(txn, require_mailbox(txn, name)))
    return [
        (database.read(0, read_span, one.message_id, 0, one.size_bytes), one.flags, one.internal_date)
        for one in placed
    ]


@pytest.mark.parametrize("batch_bytes", [1, 300, 10**6])
def test_a_mailbox_is_copied_byte_for_byte(
    databases: tuple[Database, Database], monkeypatch: pytest.MonkeyPatch, batch_bytes: int
) -> None:
    """However many messages go in one transaction; a second copy is a mailbox of its own."""
    monkeypatch.setattr(copying, "BATCH_BYTES", batch_bytes)
    source, target = databases
    for title in ("Back", "Back (2)"):
        copied = copy_mailbox(source, target, "Work", "Back", StoreLimits())
        assert copied == CopiedMailbox(title, len(MAIL))
    for title in ("Back", "Back (2)"):
        assert contents(target, title) == [(data, FLAGS, 1000 + at) for at, data in enumerate(MAIL)]
    listed = target.read(0, mailboxes.list_mailboxes).mailboxes
    assert {one.name for one in listed if one.subscribed} >= {"Back", "Back (2)"}


def test_a_mailbox_that_is_not_there_makes_none(databases: tuple[Database, Database]) -> None:
    """The user may have misspelled it."""
    source, target = databases
    before = target.read(0, mailboxes.list_mailboxes)
    with pytest.raises(NoSuchMailbox):
        copy_mailbox(source, target, "Wrok", "Back", StoreLimits())
    assert target.read(0, mailboxes.list_mailboxes) == before
