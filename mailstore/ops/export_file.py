"""The SQLite file that an account is exported to: its schema, and what is written into it.

Its owner reads it with any SQLite. Version 1:

    export(name, value)       'version', 'account' (its id), 'complete' ('1' once everything is in it)
    mailbox                   one row each; levels of the name are divided by '/'
    message                   one row for a message in a mailbox; ``data`` are its bytes, ``internal_date``
                              seconds since the epoch, ``flags`` and ``keywords`` divided by spaces
    subscription(name)        subscribed mailboxes, whether they exist or not
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from mailstore.engine import Txn

VERSION = "1"

_SCHEMA = (
    "CREATE TABLE export(name TEXT PRIMARY KEY, value TEXT NOT NULL)",
    """CREATE TABLE mailbox(
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        special_use TEXT,
        uid_validity INTEGER NOT NULL,
        uid_next INTEGER NOT NULL,
        highest_modseq INTEGER NOT NULL,
        messages INTEGER NOT NULL,
        complete INTEGER NOT NULL
    )""",
    """CREATE TABLE message(
        mailbox_id INTEGER NOT NULL REFERENCES mailbox ON DELETE CASCADE,
        uid INTEGER NOT NULL,
        internal_date INTEGER NOT NULL,
        flags TEXT NOT NULL,
        keywords TEXT NOT NULL,
        size_bytes INTEGER NOT NULL,
        data BLOB NOT NULL,
        PRIMARY KEY(mailbox_id, uid)
    )""",
    "CREATE TABLE subscription(name TEXT PRIMARY KEY)",
)


class FileMailbox(NamedTuple):
    """A mailbox as the file has it, without ``complete``."""

    name: str
    special_use: str | None
    uid_validity: int
    uid_next: int
    highest_modseq: int
    messages: int


class FileMessage(NamedTuple):
    """A message as the file has it, without its content."""

    uid: int
    internal_date: int
    flags: str
    keywords: str
    size_bytes: int


def create(txn: Txn, account_id: str) -> None:
    """Make the tables of an export."""
    for statement in _SCHEMA:
        txn.run(statement)
    rows = (("version", VERSION), ("account", account_id), ("complete", "0"))
    txn.many("INSERT INTO export VALUES(?, ?)", rows)


def is_empty(txn: Txn) -> bool:
    """Whether nothing has been written to the file."""
    return not txn.value("SELECT count(*) FROM sqlite_master")


def facts(txn: Txn) -> dict[str, str]:
    """The table ``export``; empty for a file of something else."""
    if not txn.value("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'export'"):
        return {}
    columns = [row[1] for row in txn.rows("PRAGMA table_info(export)")]
    if columns != ["name", "value"]:
        return {}
    return {str(name): str(value) for name, value in txn.rows("SELECT name, value FROM export")}


def begin_again(txn: Txn) -> None:
    """Note that the export is not complete."""
    txn.run("UPDATE export SET value = '0' WHERE name = 'complete'")


def is_done(txn: Txn, mailbox: FileMailbox) -> bool:
    """Whether the mailbox is in the file as it is."""
    row = txn.one(
        "SELECT name, special_use, uid_validity, uid_next, highest_modseq, messages FROM mailbox"
        " WHERE name = ? AND complete",
        (mailbox.name,),
    )
    return row is not None and FileMailbox(*row) == mailbox


def begin_mailbox(txn: Txn, mailbox: FileMailbox) -> int:
    """The id of a mailbox that is about to be written; what is there stays if its UIDs are still valid."""
    txn.run("DELETE FROM mailbox WHERE name = ? AND uid_validity <> ?", (mailbox.name, mailbox.uid_validity))
    txn.run(
        "INSERT INTO mailbox(name, special_use, uid_validity, uid_next, highest_modseq, messages, complete)"
        " VALUES(?, ?, ?, ?, ?, ?, 0) ON CONFLICT(name) DO UPDATE SET special_use = excluded.special_use,"
        " uid_next = excluded.uid_next, highest_modseq = excluded.highest_modseq,"
        " messages = excluded.messages, complete = 0",
        mailbox,
    )
    return int(txn.value("SELECT id FROM mailbox WHERE name = ?", (mailbox.name,)))


def has(txn: Txn, mailbox_id: int, message: FileMessage) -> bool | None:
    """Whether the message is there; None when it is there with other flags."""
    row = txn.one(
        "SELECT uid, internal_date, flags, keywords, size_bytes FROM message"
        " WHERE mailbox_id = ? AND uid = ?",
        (mailbox_id, message.uid),
    )
    if row is None or row[4] != message.size_bytes:
        return False
    return True if FileMessage(*row) == message else None


def write(
    txn: Txn, mailbox_id: int, new: Iterable[tuple[FileMessage, bytes]], changed: Iterable[FileMessage]
) -> None:
    """Write messages, and other flags of messages that are there."""
    txn.many(
        "INSERT OR REPLACE INTO message(mailbox_id, uid, internal_date, flags, keywords, size_bytes, data)"
        " VALUES(?, ?, ?, ?, ?, ?, ?)",
        [(mailbox_id, *message, data) for message, data in new],
    )
    txn.many(
        "UPDATE message SET flags = ?, keywords = ? WHERE mailbox_id = ? AND uid = ?",
        [(one.flags, one.keywords, mailbox_id, one.uid) for one in changed],
    )


def finish_mailbox(txn: Txn, mailbox_id: int, uids: Sequence[int]) -> None:
    """The mailbox is whole with these messages; others that the file has of it are removed."""
    txn.run(
        "DELETE FROM message WHERE mailbox_id = ? AND uid NOT IN (SELECT value FROM json_each(?))",
        (mailbox_id, json.dumps(uids)),
    )
    txn.run("UPDATE mailbox SET complete = 1 WHERE id = ?", (mailbox_id,))


def finish(txn: Txn, names: Sequence[str], subscriptions: Sequence[str]) -> None:
    """The export is complete with these mailboxes; others are removed."""
    txn.run("DELETE FROM mailbox WHERE name NOT IN (SELECT value FROM json_each(?))", (json.dumps(names),))
    txn.run("DELETE FROM subscription")
    txn.many("INSERT INTO subscription VALUES(?)", [(name,) for name in subscriptions])
    txn.run("UPDATE export SET value = '1' WHERE name = 'complete'")
