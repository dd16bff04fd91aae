"""The one owner of an account's database: opens it, and checkpoints and closes it under the account's lock.

A snapshot holds the lock shared and copies main file and WAL as they are, so no checkpoint may run without
it; and SQLite checkpoints whenever a file's last connection is closed. So a connection that cannot be closed
because somebody holds the lock stays open, and is closed later. If the process ends first, the WAL stays, and
the next process to open the database recovers it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from mailstore.account import AccountPaths, exclusive_lock, shared_lock
from mailstore.damage import DamagedDatabase, tell
from mailstore.directory import AccountRecord, Directory
from mailstore.durable import storage_errors
from mailstore.engine import Database, DatabaseKey, close_all, open_connection
from mailstore.errors import (
    Busy,
    DatabaseDamaged,
    HeaderTampered,
    KeysChanged,
    NoSuchAccount,
    StoreError,
    TooNew,
)
from mailstore.eviction import asked_to_leave
from mailstore.keys import AccountId, Argon2Params, KeyLabel, PublicKey, derive, read_header, wipe
from mailstore.locks import LOCK_TIMEOUT_S, HeldLock
from mailstore.mail_size import mail_size, note_mail_size
from mailstore.opening import open_as_owner, open_copied_header
from mailstore.staged_keys import is_staged, remove_unfinished

log = logging.getLogger("sealbox.store")

CACHE_KIB = 8192
"""Page cache of a connection."""

_KEY_BYTES, _SALT_BYTES = 32, 16

_kept: list[tuple[AccountPaths, list[Database]]] = []
_kept_guard = threading.Lock()


def mail_key(master: bytes | bytearray) -> DatabaseKey:
    """The key of mail.db, from the account's master key (FORMAT.md, section 9)."""
    key = derive(master, KeyLabel.DATABASE, _KEY_BYTES)
    return DatabaseKey(key, derive(master, KeyLabel.DATABASE_SALT, _SALT_BYTES))


def search_key(master: bytes | bytearray) -> DatabaseKey:
    """The key of search.db, from the account's master key (FORMAT.md, section 13)."""
    key = derive(master, KeyLabel.SEARCH, _KEY_BYTES)
    return DatabaseKey(key, derive(master, KeyLabel.SEARCH_SALT, _SALT_BYTES))


def owners_mail_key(
    root: Path, directory: Directory, record: AccountRecord, secret: bytes, params: Argon2Params
) -> DatabaseKey:
    """The key of an account's mail.db, by its owner's password or recovery key; the master key is forgotten.

    Raises as :func:`mailstore.opening.open_as_owner`.
    """
    owner = open_as_owner(root, directory, record.name, secret, now=time.time(), params=params)
    try:
        return mail_key(owner.master)
    finally:
        owner.wipe()


def copied_mail_key(folder: Path, account_id: AccountId, secret: bytes) -> DatabaseKey:
    """The key of the database in ``folder``, by the owner's secret for the key header beside it.

    Nothing but the header says that it is the account's. Raises AuthenticationFailed, HeaderTampered, TooNew,
    NoSuchAccount, StorageFailed.
    """
    master = open_copied_header(folder, account_id, secret)
    try:
        return mail_key(master)
    finally:
        wipe(master)


@contextmanager
def account_database(
    paths: AccountPaths,
    key: DatabaseKey,
    *,
    wait_s: float = LOCK_TIMEOUT_S,
    may_create: bool = False,
    public_key: PublicKey | None = None,
) -> Iterator[Database]:
    """An account's database, open inside. At the end it waits ``wait_s`` for the lock, then leaves the WAL as
    it is. ``may_create`` and ``public_key`` as in :func:`open_database`.

    Raises:
        DatabaseDamaged: not a database, another key, or there is none.
        StorageFull, StorageFailed, Busy (also KeysChanged).
    """

    def close(database: Database) -> None:
        close_databases(paths, [database], wait_s=wait_s)

    database = open_database(
        paths, key, give_up=close, wait_s=wait_s, may_create=may_create, public_key=public_key
    )
    try:
        yield database
    finally:
        close(database)


def open_database(
    paths: AccountPaths,
    key: DatabaseKey,
    *,
    give_up: Callable[[Database], object],
    cache_kib: int = CACHE_KIB,
    wait_s: float = LOCK_TIMEOUT_S,
    damage: DamagedDatabase | None = None,
    may_create: bool = False,
    public_key: PublicKey | None = None,
) -> Database:
    """This process's first connection, for :func:`close_databases` to close.

    ``may_create`` is for logins: an account gets its database with the first one, and never again.
    ``public_key`` is the account's as it was unlocked, where that may have been a while ago.

    It is opened under the account's lock. A restore holds that lock exclusively while it exchanges files, so
    it either sees this connection or runs after it. ``give_up`` receives a connection that turned out to be
    unusable; it has to be closed in the same way. ``damage`` is shared by the connections of one opening.

    Raises:
        DatabaseDamaged: not a database, another key, or none where one is needed.
        StorageFull, StorageFailed.
        KeysChanged: the account has other keys than ``public_key`` by now.
        Busy: the lock is held for longer than ``wait_s``, or the account is being restored.
    """
    useless: list[Database] = []

    def come_in() -> Database:
        _require_welcome(paths, public_key)
        made = another_connection(paths, key, give_up=useless.append, cache_kib=cache_kib, damage=damage)
        try:
            # From the first read on, SQLite holds a lock on the file, which shows others that it is open.
            made.pragma("PRAGMA schema_version")
        except BaseException:
            useless.append(made)
            raise
        return made

    try:
        with shared_lock(paths, wait_s), storage_errors():
            if _has_database(paths, may_create):
                return come_in()
        # Creating a database writes to the main file directly; a snapshot must not see that half done.
        with exclusive_lock(paths, wait_s):
            return come_in()
    except BaseException:
        for database in useless:
            give_up(database)  # only now: closing takes that lock
        raise


def _require_welcome(paths: AccountPaths, public_key: PublicKey | None) -> None:
    """See that the database may be opened now, under the account's lock. Raises as :func:`open_database`."""
    if asked_to_leave(paths):
        raise Busy("the account is being restored")
    remove_leftovers(paths)
    if public_key is not None:
        require_same_keys(paths, public_key)


def require_same_keys(paths: AccountPaths, public_key: PublicKey) -> None:
    """Tell a database under a new key from a damaged one, under the account's lock.

    Raises KeysChanged: ``public_key`` is the account's no more. StorageFailed.
    """
    with suppress(NoSuchAccount, HeaderTampered, TooNew):
        if read_header(paths.folder).header.public_key != public_key:
            raise KeysChanged("the account has new keys")


def _has_database(paths: AccountPaths, may_create: bool) -> bool:
    """Whether there is a database; SQLite would make a new one, and its user find no mail there.

    Raises StorageFailed, and DatabaseDamaged: there is none, and it may not be created.
    """
    with storage_errors():
        if paths.mail_db.exists() and paths.mail_db.stat().st_size:
            return True
        was_made = paths.made.exists()
    if not may_create or was_made:
        tell(paths.folder.name, "mail.db is lost: the file is missing or empty")
        raise DatabaseDamaged
    return False


def remove_leftovers(paths: AccountPaths) -> None:
    """Remove what a run that was interrupted has left. The account's lock is held.

    Raises StorageFailed, and Busy: its keys are being changed, and that has to be finished first.
    """
    if is_staged(paths):
        raise Busy("the account's keys are being changed")
    remove_unfinished(paths)


@contextmanager
def database_alone(paths: AccountPaths, key: DatabaseKey, held: HeldLock) -> Iterator[Database]:
    """The database of an account that nobody has open, and whose lock is held; its log goes with the end.

    Raises:
        DatabaseDamaged, StorageFull, StorageFailed.
    """

    def close(database: Database) -> None:
        try:
            close_all([database], held)
        except StoreError:
            database.close(held)
            raise

    database = open_connection(paths.mail_db, key, lock=paths.lock, give_up=close)
    try:
        yield database
    finally:
        close(database)


@contextmanager
def copied_database(paths: AccountPaths, key: DatabaseKey) -> Iterator[Database]:
    """The copy that is to take the database's place. Raises as :func:`database_alone`."""
    database = open_connection(paths.rewritten, key)
    try:
        yield database
    finally:
        database.close()


def another_connection(
    paths: AccountPaths,
    key: DatabaseKey,
    *,
    give_up: Callable[[Database], object],
    cache_kib: int = CACHE_KIB,
    damage: DamagedDatabase | None = None,
) -> Database:
    """One more connection while :func:`open_database`'s is open, and keeps restores away: it takes no lock.

    Raises:
        DatabaseDamaged, StorageFull, StorageFailed, Busy.
    """
    return open_connection(
        paths.mail_db, key, cache_kib=cache_kib, lock=paths.lock, give_up=give_up, damage=damage
    )


def checkpoint(paths: AccountPaths, database: Database) -> bool:
    """Copy the WAL back; False when a snapshot is being copied or a reader was in the way."""
    try:
        with exclusive_lock(paths, 0.0) as held:
            is_done = database.checkpoint(held)
            note_mail_size(paths, mail_size(database))
            return is_done
    except Busy:
        return False


def close_databases(
    paths: AccountPaths, databases: Sequence[Database], *, wait_s: float = LOCK_TIMEOUT_S
) -> bool:
    """Checkpoint and close connections of one account.

    Returns:
        False when the lock was held for longer than ``wait_s``: :func:`close_kept` has to try again.

    Raises:
        StorageFull, StorageFailed: the checkpoint failed.
    """
    if not databases:
        return True
    try:
        with exclusive_lock(paths, wait_s) as held:
            size = mail_size(databases[0])
            close_all(databases, held)
            note_mail_size(paths, size)
    except NoSuchAccount:
        for database in databases:
            database.close()  # the account has been deleted: there is nothing to checkpoint into
    except StoreError as error:
        left = [one for one in databases if not one.closed]
        if left:
            with _kept_guard:
                _kept.append((paths, left))
        if not isinstance(error, Busy):
            raise
        log.warning("account %s: the database stays open: its lock is held", paths.folder.name)
        return False
    return True


def close_kept() -> bool:
    """Try again to close what had to stay open; returns whether nothing is left. Logs other failures."""
    with _kept_guard:
        waiting, _kept[:] = _kept[:], []
    for paths, databases in waiting:
        try:
            close_databases(paths, databases, wait_s=0.0)
        except StoreError as error:
            log.error("account %s: closing the database failed: %s", paths.folder.name, type(error).__name__)
    with _kept_guard:
        return not _kept
