"""The last step of a drill: open the rebuilt database with a test account's password and compare it."""

from __future__ import annotations

import time
from pathlib import Path

from backup.drill import Opens
from backup.errors import SecretOfThen
from backup.state_key import key_of_state
from mailstore.account import AccountPaths, account_paths
from mailstore.account_database import account_database, owners_mail_key
from mailstore.directory import Directory
from mailstore.durable import storage_errors
from mailstore.engine import DatabaseKey
from mailstore.integrity import is_earlier_state, unsound
from mailstore.keys import AccountId, Argon2Params, PublicKey
from mailstore.schema import migrate


def opener(root: Path, directory: Directory, name: str, secret: Path, params: Argon2Params) -> Opens:
    """Opens rebuilt databases of the account called ``name``, whose password is in the file ``secret``."""

    def opens(account_id: AccountId, folder: Path) -> str | None:
        record = directory.login(name)
        if record is None or record.account_id != account_id:
            return None
        with storage_errors():
            password = secret.read_bytes().rstrip(b"\r\n")
        key = owners_mail_key(root, directory, record, password, params)
        then = key_of_state(root, folder, record, key, password, _nobody)
        living = account_paths(root, account_id)
        return _differs(AccountPaths(folder), then, living, key, record.public_key)

    return opens


def _nobody() -> bytes:
    """There is no other secret. Raises SecretOfThen."""
    raise SecretOfThen


def _differs(
    restored: AccountPaths,
    then_key: DatabaseKey,
    living: AccountPaths,
    key: DatabaseKey,
    public_key: PublicKey,
) -> str | None:
    """What proves that the restored database is not an earlier state of the living one; None for nothing."""
    with account_database(restored, then_key) as then:
        wrong = unsound(then)
        if wrong is not None:
            return f"in what was restored, {wrong}"
        migrate(then, int(time.time()))
        with account_database(living, key, public_key=public_key) as now:
            migrate(now, int(time.time()))
            if not is_earlier_state(then, now):
                return "a mailbox is not an earlier state of the living one"
    return None
