"""New keys of an account that wait to take the place of its old ones: how that is finished, or undone.

``mailstore.rekeying`` puts three files beside the old ones: a copy of the database under the new key, the old
private key (``mailstore.former_key``), and last the new header. Then it tells the directory the new public
key: from that moment on the new ones count. The rest is renaming, for which no key is needed: whoever comes
next finishes it. Until then nobody opens the database.
"""

from __future__ import annotations

from pathlib import Path

from mailstore.account import AccountPaths, account_paths, exclusive_lock, keys_lock
from mailstore.damage import tell_seldom
from mailstore.directory import AccountRecord, Directory
from mailstore.durable import shred, storage_errors, sync_folder, take_place
from mailstore.errors import Busy, HeaderTampered, NoSuchAccount
from mailstore.former_key import former_key_id
from mailstore.inbox_size import FORMER_KEY, SUFFIX, changing
from mailstore.invitation_files import remove_invitations
from mailstore.keys import NEW_KEYS_FILE, AccountId, Header, PublicKey, SignedHeader, read_header
from mailstore.locks import LOCK_TIMEOUT_S
from mailstore.this_node import require_here

SETTLE_S = 0.5
"""Seconds that a login waits for somebody who is changing the keys: it occupies a thread that others need."""

_TRIES = 3
"""How often a header is read that the directory does not agree with: each time the keys may have changed."""


def is_staged(paths: AccountPaths) -> bool:
    """Whether new keys wait. Raises StorageFailed."""
    with storage_errors():
        return _staged_header(paths).exists()


def staged_former_key(paths: AccountPaths) -> Path:
    """Where the old private key waits."""
    return paths.folder / "former-key"


def header_now(root: Path, directory: Directory, record: AccountRecord) -> tuple[AccountRecord, SignedHeader]:
    """The account's header and the record that belongs to it; a change of keys is finished or undone first.

    ``record`` was read before. Everybody who opens an account comes by here.

    Raises OnAnotherNode, LeaseOver, NoSuchAccount, HeaderTampered, TooNew, Busy, DirectoryUnavailable,
    OutcomeUnknown, StorageFull, StorageFailed.
    """
    require_here(root, record)
    folder = account_paths(root, record.account_id).folder
    for _ in range(_TRIES):
        settle(root, directory, record.account_id, SETTLE_S)
        signed = read_header(folder)
        if signed.header.public_key == record.public_key:
            break
        # New keys may have come between the two.
        again = directory.account(record.account_id)
        if again is None or again == record:
            break
        record = again
        require_here(root, record)
    return record, signed


def settle(root: Path, directory: Directory, account_id: AccountId, timeout_s: float) -> None:
    """Finish an interrupted change of keys, or undo it; nothing happens where there is none.

    Each of two locks is waited for ``timeout_s`` at most.

    Raises NoSuchAccount, HeaderTampered (neither is possible), TooNew, Busy, DirectoryUnavailable,
    OutcomeUnknown, StorageFull, StorageFailed.
    """
    paths = account_paths(root, account_id)
    if not is_staged(paths):
        return
    with keys_lock(paths, timeout_s), exclusive_lock(paths, timeout_s):
        settle_alone(root, directory, account_id)


def settle_alone(root: Path, directory: Directory, account_id: AccountId) -> None:
    """As :func:`settle`, for whoever holds the account's two locks. Raises the same."""
    paths = account_paths(root, account_id)
    if not is_staged(paths):
        return
    # What was last known may be overtaken by a commit that is still under way, and then undoing was wrong.
    record = directory.settled_account(account_id)
    if record is None:
        raise NoSuchAccount
    new = _read_staged(paths)
    if new is not None and new.public_key == record.public_key:
        with storage_errors():
            _finish(root, paths, new)
    elif _may_be_undone(paths, record.public_key):
        with storage_errors():
            discard(paths)
    else:
        tell_seldom(account_id, f"{NEW_KEYS_FILE} does not belong to what the directory knows")
        raise HeaderTampered


def discard(paths: AccountPaths) -> None:
    """Remove new keys that wait, with all that belongs to them. The account's locks are held.

    Raises OSError, StorageFailed.
    """
    shred(_staged_header(paths))
    remove_unfinished(paths)


def set_aside(paths: AccountPaths) -> None:
    """As :func:`discard`, of new keys that have another name elsewhere, which has to keep them.

    Raises OSError, StorageFailed.
    """
    _staged_header(paths).unlink(missing_ok=True)
    sync_folder(paths.folder)
    remove_unfinished(paths)


def accept_header(root: Path, directory: Directory, account_id: AccountId) -> None:
    """Copy public key and generation from the header on disk to the directory: the last step of a restore.

    Whoever has logged in since may have changed the keys: that is settled first, as the directory says.

    Raises NoSuchAccount, HeaderTampered, TooNew, Busy, DirectoryUnavailable, OutcomeUnknown, StorageFull,
    StorageFailed.
    """
    paths = account_paths(root, account_id)
    settle(root, directory, account_id, LOCK_TIMEOUT_S)
    with keys_lock(paths):
        if is_staged(paths):
            raise Busy("the account's keys are being changed")
        header = read_header(paths.folder).header
        directory.set_header(account_id, header.public_key, header.generation)


def remove_unfinished(paths: AccountPaths) -> None:
    """Remove copies that never took anything's place. The account's lock is held, and no keys are staged.

    Raises StorageFailed.
    """
    new = paths.rewritten
    with storage_errors():
        if new.exists():
            # The file itself last: as long as it is there, somebody looks for the others.
            for ending in ("-wal", "-shm", "-journal", ""):
                new.with_name(new.name + ending).unlink(missing_ok=True)
        staged_former_key(paths).unlink(missing_ok=True)
        for pattern in (".former-key.*.tmp", f".{NEW_KEYS_FILE}.*.tmp"):
            for path in paths.folder.glob(pattern):
                path.unlink(missing_ok=True)


def _staged_header(paths: AccountPaths) -> Path:
    return paths.folder / NEW_KEYS_FILE


def _read_staged(paths: AccountPaths) -> Header | None:
    """None where it is damaged. Raises TooNew, StorageFailed."""
    try:
        return read_header(paths.folder, name=NEW_KEYS_FILE).header
    except HeaderTampered:
        return None


def _may_be_undone(paths: AccountPaths, known: PublicKey) -> bool:
    """Whether the old keys are still those of the directory, and the database is still under them."""
    is_in_place = paths.mail_db.exists() and not paths.rewritten.exists()
    return not is_in_place and read_header(paths.folder).header.public_key == known


def _finish(root: Path, paths: AccountPaths, new: Header) -> None:
    """Have everything renamed, the header last. Raises OSError, StoreError."""
    # They hold the old master key, which opens nothing any more.
    remove_invitations(root, new.account_id)
    former, place = staged_former_key(paths), paths.inbox / (former_key_id(new.public_key) + SUFFIX)
    # It has what earlier ones have, which open for nobody any more.
    earlier = [path for path in paths.inbox.glob(f"{FORMER_KEY}*{SUFFIX}") if path != place]
    with changing(paths.inbox) as change:
        if former.exists():
            change.added_bytes += former.stat().st_size
            former.rename(place)
        sync_folder(paths.inbox)
        for path in earlier:
            change.added_bytes -= path.stat().st_size
            path.unlink()
    if paths.rewritten.exists():
        # A write-ahead log must never meet another database; journal and index belong to the old one too.
        shm = paths.mail_db.with_name("mail.db-shm")
        for path in (paths.wal, shm, paths.page_journal, *paths.search_db_files):
            path.unlink(missing_ok=True)
        sync_folder(paths.folder)
        take_place((paths.rewritten, paths.mail_db), (_staged_header(paths), paths.keys))
    else:
        take_place((_staged_header(paths), paths.keys))
