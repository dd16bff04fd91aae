"""A new master key for an account: everything that hangs on the old one is made anew. Blocks.

Whoever has the old master key can read nothing that is stored afterwards: the database is copied under a new
key, mail that arrives is sealed to a new public key, and only the given password opens the new header. App
passwords cannot be kept, because the server does not know them. ``mailstore.staged_keys`` says how the new
files take the place of the old ones. FORMAT.md section 15.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from mailstore.account import AccountPaths, account_paths, keys_lock
from mailstore.account_database import copied_database, database_alone, mail_key, remove_leftovers
from mailstore.directory import AccountRecord, Directory
from mailstore.durable import replace_file, storage_errors, sync_folder, synced, write_new
from mailstore.engine import DatabaseKey
from mailstore.errors import (
    DatabaseDamaged,
    HeaderTampered,
    KeysChanged,
    SealedMessageDamaged,
    StorageFailed,
    StoreError,
)
from mailstore.eviction import evicted
from mailstore.former_key import is_former_key, open_former_keys, seal_former_keys
from mailstore.integrity import require_equal
from mailstore.invitation_files import invitations
from mailstore.keys import (
    NEW_KEYS_FILE,
    Argon2Params,
    Header,
    Keyslot,
    Printed,
    SlotFacts,
    SlotKind,
    choose_slot,
    load_private_key,
    lock_in_memory,
    make_slot,
    new_master,
    new_private_key,
    new_recovery_key,
    new_scram_setup,
    new_slot_id,
    parse_secret,
    serialised_private_key,
    wipe,
    wrap_private_key,
    write_header,
)
from mailstore.locks import HeldLock
from mailstore.opening import Proven, current, open_as_owner
from mailstore.rewriting import require_room_for_a_copy
from mailstore.room import log_bytes
from mailstore.sealed import pending, read_sealed
from mailstore.staged_keys import discard, settle_alone, staged_former_key


class NotThePassword(Exception):
    """The secret opens the account and is not its password: with it the password could not be kept."""


class KeyslotsChanged(Exception):
    """A keyslot was made or revoked after the password had been checked; nothing has been changed."""


@dataclass(frozen=True, slots=True)
class Rekeyed:
    """What has been done. ``size_bytes`` is the database's, 0 where there is none yet."""

    size_bytes: int
    revoked: tuple[str, ...] = field(repr=False)
    """Labels of the app passwords that open the account no more."""

    recovery_key: Printed | None = field(repr=False)
    """The new one, to be shown once, where there was one before."""

    invitations: int
    """How many links have been destroyed."""

    is_finished: bool
    """Whether all is in its place. If not, the new keys count all the same; the next login does the rest."""


@dataclass(frozen=True, slots=True)
class _NewKeys:
    """The new header, and what opens it."""

    header: Header
    master: bytearray = field(repr=False)
    recovery_key: Printed | None = field(repr=False)


def rekey_account(
    root: Path,
    directory: Directory,
    record: AccountRecord,
    password: bytes,
    params: Argon2Params,
    patience_s: float,
) -> Rekeyed:
    """Give the account a new master key. Its sessions are ended, and may come back afterwards.

    Mail is delivered meanwhile. Not for a process that has the account open. If it is interrupted, the
    account has the old keys or the new ones: the next login or command finishes it, or undoes it.

    Raises:
        AuthenticationFailed, NotThePassword, KeyslotsChanged, NoRoomToRewrite, DatabaseDamaged: nothing has
            been changed.
        Busy: its sessions, or a snapshot, did not end within ``patience_s``; or other keys came meanwhile.
        HeaderTampered, StorageFull, StorageFailed: as after an interruption.
    """
    owner = open_as_owner(root, directory, record.name, password, now=time.time(), params=params)
    master = new_master()
    lock_in_memory(master)
    try:
        if owner.slot.kind is not SlotKind.PASSWORD:
            raise NotThePassword
        new = _new_keys(owner.header, owner.slot, password, master, params)
        paths = account_paths(root, record.account_id)
        with keys_lock(paths), evicted(paths, patience_s) as held:
            settle_alone(root, directory, record.account_id)
            _require_unchanged(root, directory, owner)
            invited = len(invitations(root, record.account_id))
            size_bytes = _stage(paths, owner, new, held)
            is_finished = _exchange(root, directory, paths, new.header)
    finally:
        owner.wipe()
        wipe(master)
    return Rekeyed(size_bytes, app_passwords(owner.header), new.recovery_key, invited, is_finished)


def app_passwords(header: Header) -> tuple[str, ...]:
    """The labels of those that a new master key makes useless."""
    return tuple(slot.label for slot in header.slots if slot.kind is SlotKind.APP_PASSWORD)


def _new_keys(
    old: Header, slot: Keyslot, password: bytes, master: bytearray, params: Argon2Params
) -> _NewKeys:
    """Two Argon2 runs at most, before anybody waits."""
    account_id, raw = old.account_id, new_private_key()
    chosen = choose_slot([slot], parse_secret(password))
    assert chosen is not None, "it has just been opened by that"
    facts = SlotFacts(slot.id, slot.kind, slot.label, slot.created, slot.scope)
    slots = [make_slot(account_id, facts, params, chosen[1], master)]
    recovery: Printed | None = None
    if any(one.kind is SlotKind.RECOVERY_KEY for one in old.slots):
        recovery = new_recovery_key(new_slot_id(one.id for one in old.slots))
        facts = SlotFacts(recovery.slot_id, SlotKind.RECOVERY_KEY, "recovery key", int(time.time()))
        slots.append(make_slot(account_id, facts, params, recovery.canonical.encode("ascii"), master))
    header = replace(
        old,
        generation=old.generation + 1,
        public_key=load_private_key(raw).public,
        private_key=wrap_private_key(account_id, raw, master),
        scram=new_scram_setup(),
        slots=tuple(slots),
    )
    return _NewKeys(header, master, recovery)


def _require_unchanged(root: Path, directory: Directory, owner: Proven) -> None:
    """Raises KeyslotsChanged, KeysChanged: somebody else was faster while the locks were waited for."""
    try:
        now = current(root, directory, owner.record.account_id, owner.master)
    except HeaderTampered:
        raise KeysChanged from None  # it was sound a moment ago
    if now.header != owner.header:
        raise KeyslotsChanged


def _stage(paths: AccountPaths, owner: Proven, new: _NewKeys, held: HeldLock) -> int:
    """Put everything new beside the old, the header last; the size of the database in octets."""
    remove_leftovers(paths)
    with storage_errors():
        has_database, was_made = paths.mail_db.exists(), paths.made.exists()
    if was_made and not has_database:
        raise DatabaseDamaged
    account_id, header = owner.record.account_id, new.header
    try:
        size_bytes = _copy(paths, mail_key(owner.master), mail_key(new.master), held) if has_database else 0
        former = seal_former_keys(header.public_key, account_id, _former_keys(paths, owner))
        with storage_errors():
            replace_file(staged_former_key(paths), former)
        write_header(paths.folder, header, new.master, name=NEW_KEYS_FILE)
    except BaseException:
        with suppress(StorageFailed, OSError):
            discard(paths)
        raise
    return size_bytes


def _exchange(root: Path, directory: Directory, paths: AccountPaths, new: Header) -> bool:
    """Make the new keys those that count, and have them in their place; False if the latter failed."""
    account_id = new.account_id
    try:
        directory.set_header(account_id, new.public_key, new.generation)
    except StoreError as error:
        try:
            record = directory.settled_account(account_id)
        except StoreError:
            # It may still be committed: both the old keys and the new ones stay, and whoever comes next asks.
            raise error from None
        if record is None or record.public_key != new.public_key:
            with suppress(StorageFailed, OSError):
                discard(paths)
            raise
    with suppress(StoreError):
        settle_alone(root, directory, account_id)
        return True
    return False


def _copy(paths: AccountPaths, old_key: DatabaseKey, new_key: DatabaseKey, held: HeldLock) -> int:
    """Copy the database, see that the copy holds the same, and have it on the disk."""
    require_room_for_a_copy(paths)
    with storage_errors():
        # Before SQLite makes a journal beside it, which nobody would look for without the file itself.
        write_new(paths.rewritten, b"")
        sync_folder(paths.folder)
    with database_alone(paths, old_key, held) as old, copied_database(paths, new_key) as new:
        old.copy_into(new)
        require_equal(new, old)
    with storage_errors():
        if log_bytes(paths.mail_db) or log_bytes(paths.rewritten):
            raise StorageFailed("a log was not copied back")
        return synced(paths.rewritten)


def _former_keys(paths: AccountPaths, owner: Proven) -> list[bytes]:
    """The private key, and those of before that are still needed, serialised."""
    account_id = owner.record.account_id
    keys = [serialised_private_key(account_id, owner.header.private_key, owner.master)]
    for sealed_id in filter(is_former_key, pending(paths.inbox)):
        with suppress(SealedMessageDamaged):
            blob = read_sealed(paths.inbox, sealed_id)
            keys += open_former_keys(owner.private_key, account_id, sealed_id, blob)
    return keys
