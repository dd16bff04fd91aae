"""The key of a rebuilt database, by what its owner knows: today's secret, or the one of then.

``sealbox account rekey`` gives an account a new master key. States of before are under the old one, which is
in their own key header.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from backup.errors import SecretOfThen
from backup.restored_keys import is_one_master_key
from mailstore.account import account_paths
from mailstore.account_database import copied_mail_key
from mailstore.directory import AccountRecord
from mailstore.engine import DatabaseKey
from mailstore.errors import AuthenticationFailed, HeaderTampered, NoSuchAccount, TooNew
from mailstore.keys import read_header

AskThen = Callable[[], bytes]
"""Asks the owner for the password or recovery key of the state."""


def key_of_state(
    root: Path, folder: Path, record: AccountRecord, key: DatabaseKey, secret: bytes, ask_then: AskThen
) -> DatabaseKey:
    """The key of the database that was rebuilt in ``folder``; ``key`` and ``secret`` are today's.

    The secret of today is tried first where the master key was another one then: most people keep their
    password. Raises SecretOfThen, and StoreError.
    """
    try:
        then = read_header(folder).header
        now = read_header(account_paths(root, record.account_id).folder).header
    except (HeaderTampered, TooNew, NoSuchAccount):
        return key
    if is_one_master_key(then, now):
        return key
    try:
        return copied_mail_key(folder, record.account_id, secret)
    except AuthenticationFailed:
        secret_then = ask_then()
    try:
        return copied_mail_key(folder, record.account_id, secret_then)
    except AuthenticationFailed:
        raise SecretOfThen from None
