"""Delivering to an account: sealed to the public key that counts when the message is in the inbox. Blocks."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from mailstore.directory import Directory, Recipient
from mailstore.errors import DirectoryUnavailable, NoSuchAccount
from mailstore.keys import PublicKey
from mailstore.sealed import Facts, deliver, new_sealed_id, remove, seal

Room = Callable[[int], AbstractContextManager[None]]
"""A context in which so many new bytes may be written. Raises StorageFull, StorageFailed."""


def deliver_sealed(
    directory: Directory, recipient: Recipient, inbox: Path, message: bytes, facts: Facts, room: Room
) -> None:
    """Seal a message and put it into the inbox; on disk for good when this returns.

    The account may get new keys meanwhile, and whoever knows the old ones must not read what comes after
    that. So the directory is asked again, before and after, and the message sealed once more if need be. It
    keeps its id: should it have been filed already, it is not filed twice.

    Raises:
        NoSuchAccount, Busy, StorageFull, StorageFailed: nothing was kept.
    """
    sealed_id = new_sealed_id()
    public_key = _public_key(directory, recipient, recipient.public_key)
    while True:
        blob = seal(public_key, recipient.account_id, sealed_id, message, facts)
        with room(len(blob)):
            deliver(inbox, sealed_id, blob)
        used = public_key
        try:
            public_key = _public_key(directory, recipient, used)
        except BaseException:
            remove(inbox, sealed_id)
            raise
        if public_key == used:
            return
        remove(inbox, sealed_id)


def _public_key(directory: Directory, recipient: Recipient, known: PublicKey) -> PublicKey:
    """The key that counts now; ``known`` while the directory is away, and nobody's keys can be changed."""
    try:
        found = directory.resolve(recipient.name)
    except DirectoryUnavailable:
        return known
    if found is None or found.account_id != recipient.account_id:
        raise NoSuchAccount
    return found.public_key
