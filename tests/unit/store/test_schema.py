"""Databases of every older version become today's, also when that was interrupted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from store_world import World, now

from mailstore import sort_keys_again
from mailstore.account_database import account_database
from mailstore.engine import Database, Row, Txn
from mailstore.mime import sort_keys
from mailstore.model import NewMessage
from mailstore.schema import SCHEMA_VERSION, migrate, version

HEADERS = [
    b"Subject: Re: _b\r\nFrom: Friends: z@x;\r\n\r\n",
    "Subject: Äpfel\r\nTo: Jo\u0301 <jo@x>\r\n\r\n".encode(),
    b"Subject: =?utf-8?q?=C3=9F?=\r\nCc: Undisclosed:;\r\n\r\n",
    b"Subject: huge\r\n" + b"X-Filler: %b\r\n" % (b"x" * 900) * 400 + b"From: last@x\r\n\r\n",
    b"",
]
OLD = (
    "UPDATE message_meta SET sort_subject = 'old', is_reply = 0, sort_from = 'old', sort_to = 'old',"
    " sort_cc = 'old', display_from = 'old', display_to = 'old'"
)
COLUMNS = "sort_subject, is_reply, sort_from, sort_to, sort_cc, display_from, display_to"


@contextmanager
def of_version_1(world: World) -> Iterator[Database]:
    """The account's database as version 1 left it, with ``HEADERS`` in it."""
    account = world.login()
    now(account.append("Drafts", [NewMessage(header + b"text\r\n") for header in HEADERS]))
    key = world.store._open[account.account_id]._rest._databases.connections.key()
    account.release_at_once()
    world.clock.advance(0)
    with account_database(world.paths, key) as database:
        database.write(0, lambda txn: txn.run(OLD))
        database.write(0, lambda txn: txn.run("DROP TABLE kept_fields"))
        database.pragma("PRAGMA user_version=1")
        yield database


def stored(database: Database) -> list[Row]:
    """The sort keys of all messages, in their order."""

    def read(txn: Txn) -> list[Row]:
        return txn.rows(f"SELECT {COLUMNS} FROM message_meta ORDER BY message_id")

    return database.read(0, read)


def todays(header: bytes) -> Row:
    """What is stored of a message that is filed today."""
    keys = sort_keys(header)
    return (
        keys.subject, int(keys.is_reply), keys.sender, keys.to, keys.cc, keys.display_from, keys.display_to
    )  # fmt: skip


@pytest.mark.parametrize("batch", [1, 2, 5, 100])
def test_sort_keys_of_version_1_are_computed_again(
    world: World, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    """Every message of an old mailbox sorts as one that is filed today, whatever a batch holds."""
    monkeypatch.setattr(sort_keys_again, "BATCH_ROWS", batch)
    with of_version_1(world) as database:
        migrate(database, 0)
        assert version(database) == SCHEMA_VERSION
        assert stored(database) == [todays(header) for header in HEADERS]
        assert (
            database.read(0, lambda txn: txn.value("SELECT count(*) FROM setting WHERE name LIKE 'sort%'"))
            == 0
        )


def test_an_interrupted_migration_goes_on_where_it_was(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch that was committed is not done again, and the version is not new before the last one is."""
    monkeypatch.setattr(sort_keys_again, "BATCH_ROWS", 2)
    with of_version_1(world) as database:
        assert database.write(0, sort_keys_again.compute_again)
        assert version(database) == 1
        done = [todays(header)[0] for header in HEADERS[:2]]
        assert [row[0] for row in stored(database)] == [*done, "old", "old", "old"]
        database.write(
            0, lambda txn: txn.run("UPDATE message_meta SET sort_subject = 'kept' WHERE message_id = 1")
        )
        migrate(database, 0)
        assert [row[0] for row in stored(database)] == [
            "kept",
            *(todays(header)[0] for header in HEADERS[1:]),
        ]


def test_a_damaged_message_does_not_keep_the_mailbox_closed(world: World) -> None:
    """What cannot be read keeps its old keys; all others are right, and the mailbox opens."""
    with of_version_1(world) as database:
        database.write(0, lambda txn: txn.run("UPDATE content SET frame = x'00' WHERE id = 2 << 16"))
        migrate(database, 0)
        assert version(database) == SCHEMA_VERSION
        subjects = [row[0] for row in stored(database)]
    assert subjects == [todays(HEADERS[0])[0], "old", *(todays(header)[0] for header in HEADERS[2:])]
    assert now(world.login().status("Drafts")).messages == len(HEADERS)
