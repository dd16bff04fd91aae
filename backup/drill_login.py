"""The last step of a drill: open the rebuilt database with a test account's password and compare it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from backup.drill import Opens
from backup.restore_check import unsound
from mailstore.account import AccountPaths, account_paths
from mailstore.account_database import account_database
from mailstore.directory import Directory
from mailstore.durable import storage_errors
from mailstore.engine import DatabaseKey, Txn
from mailstore.keys import AccountId, Argon2Params, KeyLabel, derive, wipe
from mailstore.opening import open_as_owner


def opener(root: Path, directory: Directory, name: str, secret: Path, params: Argon2Params) -> Opens:
    """Opens rebuilt databases of the account called ``name``, whose password is in the file ``secret``."""

    def opens(account_id: AccountId, folder: Path) -> str | None:
        record = directory.login(name)
        if record is None or record.account_id != account_id:
            return None
        with storage_errors():
            password = secret.read_bytes().rstrip(b"\r\n")
        owner = open_as_owner(root, directory, name, password, now=time.time(), params=params)
        try:
            key = DatabaseKey(
                derive(owner.master, KeyLabel.DATABASE, 32), derive(owner.master, KeyLabel.DATABASE_SALT, 16)
            )
        finally:
            wipe(owner.master)
        return _differs(AccountPaths(folder), account_paths(root, account_id), key)

    return opens


@dataclass(frozen=True, slots=True)
class _Mailbox:
    modseq: int
    uids: frozenset[int]
    expunged: frozenset[int]


def _differs(restored: AccountPaths, living: AccountPaths, key: DatabaseKey) -> str | None:
    """What proves that the restored database is not an earlier state of the living one; None for nothing."""
    with account_database(restored, key) as database:
        wrong = unsound(database)
        if wrong is not None:
            return f"in what was restored, {wrong}"
        then = database.read(0, _mailboxes)
    with account_database(living, key) as database:
        now = database.read(0, _mailboxes)
    for one, before in then.items():
        after = now.get(one)
        if after is None:
            continue  # deleted since
        lost = before.uids - after.uids
        if (
            after.modseq < before.modseq
            or not lost <= after.expunged
            or (after.modseq == before.modseq and after.uids != before.uids)
        ):
            return "a mailbox is not an earlier state of the living one"
    return None


def _mailboxes(txn: Txn) -> dict[str, _Mailbox]:
    def numbers(table: str, mailbox_id: int) -> frozenset[int]:
        queries = {
            "placed": "SELECT uid FROM placed WHERE mailbox_id = ?",
            "expunged": "SELECT uid FROM expunged WHERE mailbox_id = ?",
        }
        return frozenset(row[0] for row in txn.rows(queries[table], (mailbox_id,)))

    return {
        object_id: _Mailbox(modseq, numbers("placed", mailbox_id), numbers("expunged", mailbox_id))
        for mailbox_id, object_id, modseq in txn.rows("SELECT id, object_id, highest_modseq FROM mailbox")
    }
