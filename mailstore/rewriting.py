"""Writing an account's database anew without its free pages, and putting it in the old one's place.

Until the new file takes the name of the old one, in one step, nothing is changed. What an interrupted run
leaves, the next opening of the account removes.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mailstore.account import AccountPaths, account_paths
from mailstore.account_database import (
    copied_database,
    database_alone,
    owners_mail_key,
    remove_unfinished,
)
from mailstore.directory import AccountRecord, Directory
from mailstore.durable import storage_errors, sync_folder
from mailstore.engine import DatabaseKey
from mailstore.errors import NoSuchAccount, StorageFailed
from mailstore.eviction import evicted
from mailstore.integrity import unsound
from mailstore.keys import Argon2Params
from mailstore.locks import HeldLock
from mailstore.ops.contents import contents
from mailstore.room import ROOM_TO_OPEN_BYTES, ROOM_TO_WRITE_BYTES, free_bytes, log_bytes

_CHUNK_BYTES = 1024 * 1024


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
    return vacuum(account_paths(root, record.account_id), key, patience_s)


def vacuum(paths: AccountPaths, key: DatabaseKey, patience_s: float) -> Rewritten:
    """Write the database anew without free pages. Its sessions are ended, and may come back afterwards.

    Mail is delivered meanwhile. Not for a process that has the account open.

    Raises:
        NoSuchAccount: there is no database yet. NoRoomToRewrite. DatabaseDamaged.
        Busy: its sessions, or a snapshot, did not end within ``patience_s``.
        StorageFull, StorageFailed: nothing has been changed.
    """
    with storage_errors():
        if not paths.mail_db.exists():
            raise NoSuchAccount
    with evicted(paths, patience_s) as held:
        remove_unfinished(paths)
        _require_room(paths)
        try:
            _copy(paths, key, held)
            return _take_its_place(paths)
        finally:
            remove_unfinished(paths)


def _require_room(paths: AccountPaths) -> None:
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
            if unsound(new) is not None or new.read(0, contents) != old.read(0, contents):
                raise StorageFailed("the copy is not what it was made from")


def _take_its_place(paths: AccountPaths) -> Rewritten:
    with storage_errors():
        if log_bytes(paths.mail_db) or log_bytes(paths.rewritten):
            raise StorageFailed("a log was not copied back")
        after = _synced(paths.rewritten)
        old = os.open(paths.mail_db, os.O_RDWR | os.O_CLOEXEC)
        try:
            paths.rewritten.rename(paths.mail_db)
            sync_folder(paths.folder)
            before = os.fstat(old)
            if not before.st_nlink:
                with suppress(OSError):
                    _overwrite(old, before.st_size)
        finally:
            os.close(old)
    return Rewritten(before.st_size, after)


def _synced(path: Path) -> int:
    """Have it on the disk, which VACUUM INTO does not promise; its size."""
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        path.chmod(0o600)
        os.fsync(descriptor)
        return os.fstat(descriptor).st_size
    finally:
        os.close(descriptor)


def _overwrite(descriptor: int, size_bytes: int) -> None:
    """So that mail which is deleted later does not stay in space that nobody uses. Raises OSError."""
    for at in range(0, size_bytes, _CHUNK_BYTES):
        os.pwrite(descriptor, bytes(min(_CHUNK_BYTES, size_bytes - at)), at)
    os.fsync(descriptor)
