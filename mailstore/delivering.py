"""Delivering to an account: sealed to the public key that counts when the message is in the inbox. Blocks."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from mailstore.account import account_paths
from mailstore.directory import Directory, Recipient
from mailstore.errors import DirectoryUnavailable, NoSuchAccount
from mailstore.inbox_size import Admit
from mailstore.keys import AccountId, PublicKey, has_public_key
from mailstore.sealed import Facts, deliver, new_sealed_id, seal, withdraw
from mailstore.staged_keys import is_staged
from mailstore.this_node import require_here

Room = Callable[[int], AbstractContextManager[None]]
"""A context in which so many new bytes may be written. Raises StorageFull, StorageFailed."""


def deliver_sealed(
    root: Path,
    directory: Directory,
    recipient: Recipient,
    message: bytes,
    facts: Facts,
    room: Room,
    admit: Admit | None = None,
) -> None:
    """Seal a message and put it into the inbox; on disk for good when this returns.

    The account may get new keys meanwhile, and whoever knows the old ones must not read what comes after
    that; it may also be given to another node. So the directory is asked again, before and after, and the
    message sealed once more if need be. It keeps its id: should it have been filed already, it is not filed
    twice.

    Raises:
        NoSuchAccount, OnAnotherNode, LeaseOver, Busy, DirectoryUnavailable, OutcomeUnknown, StorageFull,
            StorageFailed, and what ``admit`` raises: nothing was kept, or, where it could not be taken back,
            it may come twice.
    """
    sealed_id = new_sealed_id()
    inbox = account_paths(root, recipient.account_id).inbox
    public_key = _public_key(root, directory, recipient, recipient.public_key)
    while True:
        blob = seal(public_key, recipient.account_id, sealed_id, message, facts)
        try:
            with room(len(blob)):
                deliver(inbox, sealed_id, blob, admit)
        except NoSuchAccount:
            _public_key(root, directory, recipient, public_key)  # its folder may just have gone with it
            raise
        used = public_key
        try:
            public_key = _public_key(root, directory, recipient, used)
        except BaseException:
            withdraw(inbox, sealed_id)
            raise
        if public_key == used:
            return
        withdraw(inbox, sealed_id)


def _public_key(root: Path, directory: Directory, recipient: Recipient, known: PublicKey) -> PublicKey:
    """The key that counts now.

    A directory that is away answers from memory, or not at all, and somebody whom it is not away for may have
    changed the keys. The account's files show that. They are not believed, since whoever can write them could
    put any key there: where they say something else, only the directory itself can tell.
    """
    try:
        found = directory.resolve(recipient.name)
    except DirectoryUnavailable:
        require_here(root, recipient)
        key = known
    else:
        if found is None or found.account_id != recipient.account_id:
            raise NoSuchAccount
        require_here(root, found)
        key = found.public_key
    if _has_key(root, recipient.account_id, key):
        return key
    record = directory.settled_account(recipient.account_id)
    if record is None:
        raise NoSuchAccount
    require_here(root, record)
    return record.public_key


def _has_key(root: Path, account_id: AccountId, key: PublicKey) -> bool:
    """Whether the account's header is that of this key, and no other waits. Raises StorageFailed."""
    paths = account_paths(root, account_id)
    # First: what waited before the header was read may be the header by now.
    if is_staged(paths):
        return False
    try:
        return has_public_key(paths.folder, key)
    except NoSuchAccount:
        return False
