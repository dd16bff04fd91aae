"""Put one mailbox's messages back into the living account, for a user who can give the secret.

The snapshot is rebuilt in scratch and opened with the account's own key; its messages are appended to a
new mailbox. Nothing that is in the account now is changed.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from backup.restore import Restorer
from backup.restore_accounts import Sources, Wishes
from backup.state_key import AskThen, key_of_state
from mailstore.account import AccountPaths, account_paths, open_directory
from mailstore.account_database import account_database, owners_mail_key
from mailstore.copying import copy_mailbox
from mailstore.directory import AccountRecord
from mailstore.engine import DatabaseKey
from mailstore.errors import NoSuchAccount, NoSuchMailbox
from mailstore.keys import AccountId, Argon2Params
from mailstore.limits import StoreLimits
from mailstore.model import MailboxName
from mailstore.names import mailbox_name
from mailstore.schema import migrate


@dataclass(frozen=True, slots=True)
class RestoredMailbox:
    """The new mailbox, how many messages it has, and their point in time (ms since the epoch)."""

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
    ask_then: AskThen,
    params: Argon2Params,
) -> RestoredMailbox:
    """Append the messages of ``mailbox``, as a snapshot has them, to a new mailbox "Restored ...".

    Raises:
        AuthenticationFailed: the secret opens nothing.
        NoSuchMailbox: the snapshot has none of that name; nothing was made.
        BackupError, StoreError: batches that were appended stay.
    """
    record, key = opened_key(root, account, secret, params)
    wanted = sources.target(record.account_id, wishes.at_ms)
    restorer = Restorer(root, sources.source, work, wishes.threads)
    folder, rebuilt = restorer.rebuild(wanted, newest_sound=wishes.newest_sound)
    if not rebuilt.pages:
        raise NoSuchMailbox  # nobody had logged in yet
    living = account_paths(root, record.account_id)
    then_key = key_of_state(root, folder, record, key, secret, ask_then)
    with (
        account_database(AccountPaths(folder), then_key) as then,
        account_database(living, key, public_key=record.public_key) as now,
    ):
        for database in (then, now):  # the living one may not have been opened since an update either
            migrate(database, int(time.time()))
        wanted_name, taken_ms = mailbox_name(mailbox), rebuilt.newest.taken_ms
        copied = copy_mailbox(then, now, wanted_name, _title(wanted_name, taken_ms), StoreLimits())
        return RestoredMailbox(copied.mailbox, copied.messages, taken_ms)


def opened_key(
    root: Path, account: str, secret: bytes, params: Argon2Params
) -> tuple[AccountRecord, DatabaseKey]:
    """The account and its database's key, by the owner's secret.

    Raises NoSuchAccount, AuthenticationFailed, and other StoreError.
    """
    directory = open_directory(root)
    try:
        record = directory.login(account) or directory.account(AccountId(account))
        if record is None:
            raise NoSuchAccount
        return record, owners_mail_key(root, directory, record, secret, params)
    finally:
        directory.close()


def _title(mailbox: MailboxName, taken_ms: int) -> MailboxName:
    taken = datetime.fromtimestamp(taken_ms / 1000, UTC)
    return MailboxName(f"Restored {mailbox.replace('/', '-')} {taken:%Y-%m-%d %H.%M}")
