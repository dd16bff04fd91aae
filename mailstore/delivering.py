"""Delivering to an account: sealed to the public key that counts when the message is in the inbox. Blocks."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from mailstore.directory import Directory
from mailstore.errors import NoSuchAccount
from mailstore.keys import AccountId, PublicKey
from mailstore.sealed import Facts, deliver, new_sealed_id, remove, seal

Room = Callable[[int], AbstractContextManager[None]]
"""A context in which so many new bytes may be written. Raises StorageFull, StorageFailed."""


def deliver_sealed(
    directory: Directory, account_id: AccountId, inbox: Path, message: bytes, facts: Facts, room: Room
) -> None:
    """Seal a message and put it into the inbox; on disk for good when this returns.

    The account may get new keys meanwhile, and what is sealed to the old ones may come too late to be opened.
    So the directory is asked again afterwards, and the message sealed once more. It keeps its id: should it
    have been filed already, it is not filed twice.

    Raises:
        NoSuchAccount, Busy, StorageFull, StorageFailed: nothing was kept.
    """
    sealed_id = new_sealed_id()
    public_key = _public_key(directory, account_id)
    while True:
        blob = seal(public_key, account_id, sealed_id, message, facts)
        with room(len(blob)):
            deliver(inbox, sealed_id, blob)
        used = public_key
        try:
            public_key = _public_key(directory, account_id)
        except BaseException:
            remove(inbox, sealed_id)
            raise
        if public_key == used:
            return
        remove(inbox, sealed_id)


def _public_key(directory: Directory, account_id: AccountId) -> PublicKey:
    record = directory.account(account_id)
    if record is None:
        raise NoSuchAccount
    return record.public_key
