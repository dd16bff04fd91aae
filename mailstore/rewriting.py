"""Writing an account's database anew without its free pages, and putting it in the old one's place.

Until the new file takes the name of the old one, in one step, nothing is changed. What an interrupted run
leaves, the next opening of the account removes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mailstore.account import AccountPaths, account_paths
from mailstore.account_database import (
    copied_database,
    database_alone,
    owners_mail_key,
    remove_leftovers,
    require_same_keys,
)
from mailstore.directory import AccountRecord, Directory
from mailstore.durable import storage_errors, synced, take_place
from mailstore.engine import DatabaseKey
from mailstore.errors import NoSuchAccount, StorageFailed
from mailstore.eviction import evicted
from mailstore.integrity import require_equal
from mailstore.keys import Argon2Params, PublicKey
from mailstore.locks import HeldLock
from mailstore.room import ROOM_TO_OPEN_BYTES, ROOM_TO_WRITE_BYTES, free_bytes, log_bytes


class NoRoomToRewrite(Exception):
    """There is less free space than a second copy may take: so much is needed. Nothing has been changed."""

    def __init__(self, needed_bytes: int) -> None:
        super().__init__("there is no room for a second copy")
        self.needed_bytes = needed_bytes


@dataclass(frozen=True, slots=True)
class Rewritten:
    """Size of the database in octets, before and after."""

    before_bytes: int
    after_bytes: int


def vacuum_account(
    root: Path,
    directory: Directory,
    record: AccountRecord,
    secret: bytes,
    params: Argon2Params,
    patience_s: float,
) -> Rewritten:
    """As :func:`vacuum`, for whom the account's password or recovery key is given.

    Raises as that does, and as :func:`mailstore.opening.open_as_owner`.
    """
    key = owners_mail_key(root, directory, record, secret, params)
    return vacuum(account_paths(root, record.account_id), key, patience_s, record.public_key)


def vacuum(
    paths: AccountPaths, key: DatabaseKey, patience_s: float, public_key: PublicKey | None = None
) -> Rewritten:
    """Write the database anew without free pages. Its sessions are ended, and may come back afterwards.

    Mail is delivered meanwhile. Not for a process that has the account open.

    Raises:
        NoSuchAccount: there is no database yet. NoRoomToRewrite. DatabaseDamaged.
        Busy: its sessions, or a snapshot, did not end within ``patience_s``; or it has got new keys since
            ``public_key`` was its own (KeysChanged).
        StorageFull, StorageFailed: nothing has been changed.
    """
    with storage_errors():
        if not paths.mail_db.exists():
            raise NoSuchAccount
    with evicted(paths, patience_s) as held:
        remove_leftovers(paths)
        if public_key is not None:
            require_same_keys(paths, public_key)
        require_room_for_a_copy(paths)
        try:
            _copy(paths, key, held)
            return _take_its_place(paths)
        finally:
            remove_leftovers(paths)


def require_room_for_a_copy(paths: AccountPaths) -> None:
    """Raises NoRoomToRewrite, StorageFailed."""
    with storage_errors():
        log = log_bytes(paths.mail_db)
        # The log goes into the database first, which may make that as much longer.
        needed = paths.mail_db.stat().st_size + 2 * log + ROOM_TO_OPEN_BYTES + ROOM_TO_WRITE_BYTES
        free = free_bytes(paths.folder)
    if free is not None and free < needed:
        raise NoRoomToRewrite(needed)


def _copy(paths: AccountPaths, key: DatabaseKey, held: HeldLock) -> None:
    """Make the copy, and see that it is whole and holds the same."""
    with database_alone(paths, key, held) as old:
        old.copy_compactly(paths.rewritten)
        with copied_database(paths, key) as new:
            require_equal(new, old)


def _take_its_place(paths: AccountPaths) -> Rewritten:
    with storage_errors():
        if log_bytes(paths.mail_db) or log_bytes(paths.rewritten):
            raise StorageFailed("a log was not copied back")
        after = synced(paths.rewritten)
        (before,) = take_place((paths.rewritten, paths.mail_db))
        return Rewritten(before, after)
