"""Bring one mailbox's messages back into the living account, for a user who can give the secret.

The snapshot is rebuilt in scratch and opened with the account's own key; its messages are appended to a
new mailbox. Nothing that is in the account now is changed.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from backup.restore import Restorer
from backup.restore_accounts import Sources, Wishes
from mailstore.account import AccountPaths, account_paths, open_directory
from mailstore.account_database import account_database, owners_mail_key
from mailstore.directory import AccountRecord
from mailstore.engine import Database, DatabaseKey, Txn
from mailstore.errors import MailboxExists, NoSuchAccount, NoSuchMailbox
from mailstore.keys import AccountId, Argon2Params
from mailstore.limits import StoreLimits
from mailstore.model import Flags
from mailstore.names import normalised
from mailstore.ops import mailboxes
from mailstore.ops.content import read_span
from mailstore.ops.messages import add_messages
from mailstore.ops.rows import flags_of, require_mailbox
from mailstore.prepared import PreparedMessage, prepare
from mailstore.schema import migrate

BATCH_BYTES = 16 * 1024 * 1024
_NAME_TRIES = 100

Old = tuple[PreparedMessage, Flags, int]
"""A message with its flags and internal date."""

_Row = tuple[int, int, str | None, int, int]
"""Id, flags, keywords, internal date and octets of a message as it lay in its mailbox."""


@dataclass(frozen=True, slots=True)
class RestoredMailbox:
    """The new mailbox, how many messages are in it and of when they are (ms since the epoch)."""

    mailbox: str = field(repr=False)
    messages: int
    taken_ms: int


def restore_mailbox(
    root: Path,
    sources: Sources,
    work: Path,
    wishes: Wishes,
    account: str,
    mailbox: str,
    secret: bytes,
    params: Argon2Params,
) -> RestoredMailbox:
    """Append the messages of ``mailbox``, as a snapshot has them, to a new mailbox "Restored ...".

    Raises:
        AuthenticationFailed: the secret opens nothing.
        NoSuchMailbox: the snapshot has none of that name; nothing was made.
        BackupError, StoreError: as they say; batches that were appended stay.
    """
    record, key = opened_key(root, account, secret, params)
    wanted = sources.target(record.account_id, wishes.at_ms)
    restorer = Restorer(root, sources.source, work, wishes.threads)
    folder, rebuilt = restorer.rebuild(wanted, newest_sound=wishes.newest_sound)
    living = account_paths(root, record.account_id)
    with account_database(AccountPaths(folder), key) as then, account_database(living, key) as now:
        migrate(then, int(time.time()))
        return _copy(then, now, mailbox, rebuilt.newest.taken_ms)


def opened_key(
    root: Path, account: str, secret: bytes, params: Argon2Params
) -> tuple[AccountRecord, DatabaseKey]:
    """The account and its database's key, by the owner's secret. Raises AuthenticationFailed, StoreError."""
    directory = open_directory(root)
    try:
        record = directory.login(account) or directory.account(AccountId(account))
        if record is None:
            raise NoSuchAccount
        return record, owners_mail_key(root, directory, record, secret, params)
    finally:
        directory.close()


def _copy(then: Database, now: Database, mailbox: str, taken_ms: int) -> RestoredMailbox:
    now_s, limits = int(time.time()), StoreLimits()
    found = then.read(0, _rows, normalised(mailbox))
    name = now.write(now_s, _new_mailbox, _title(mailbox, taken_ms), limits.max_mailboxes)
    count = 0
    for batch in _batches(then, found):
        now.write(now_s, _append, name, batch)
        count += len(batch)
    return RestoredMailbox(name, count, taken_ms)


def _title(mailbox: str, taken_ms: int) -> str:
    taken = datetime.fromtimestamp(taken_ms / 1000, UTC)
    return f"Restored {normalised(mailbox).replace('/', '-')} {taken:%Y-%m-%d %H.%M}"


def _new_mailbox(txn: Txn, title: str, max_mailboxes: int) -> str:
    for number in range(1, _NAME_TRIES):
        name = title if number == 1 else f"{title} ({number})"
        try:
            mailboxes.create(txn, name, None, max_mailboxes)
        except MailboxExists:
            continue
        mailboxes.subscribe(txn, name, StoreLimits().max_subscriptions)
        return name
    raise MailboxExists


def _append(txn: Txn, name: str, batch: list[Old]) -> None:
    add_messages(txn, require_mailbox(txn, name), batch)


def _batches(then: Database, rows: list[_Row]) -> Iterator[list[Old]]:
    """The messages of these rows, a bounded number of octets at a time."""
    batch: list[Old] = []
    size_bytes = 0
    for message_id, flags, keywords, internal_date, size in rows:
        data = then.read(0, read_span, message_id, 0, size)
        batch.append((prepare(data), flags_of(flags, keywords), internal_date))
        size_bytes += size
        if size_bytes >= BATCH_BYTES:
            yield batch
            batch, size_bytes = [], 0
    if batch:
        yield batch


def _rows(txn: Txn, mailbox: str) -> list[_Row]:
    found = txn.value("SELECT id FROM mailbox WHERE name = ?", (mailbox,))
    if found is None:
        raise NoSuchMailbox
    return [
        (row[0], row[1], row[2], row[3], row[4])
        for row in txn.rows(
            "SELECT message_id, flags, keywords, internal_date, size_bytes FROM placed"
            " WHERE mailbox_id = ? ORDER BY uid",
            (found,),
        )
    ]
