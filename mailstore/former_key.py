"""An account's private key of before a change of its keys, for mail that was sealed to its public half.

It lies in the inbox as the first of all files, sealed to the new public key, until nothing waits that may
need it, and for a day at least: a delivery may have begun before the change, or in a process for which the
directory was away. So it goes wherever that mail goes: into snapshots, and out of them. FORMAT.md section 6.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from mailstore.durable import storage_errors
from mailstore.errors import SealedMessageDamaged
from mailstore.inbox_size import FORMER_KEY, SUFFIX
from mailstore.keys import PRIVATE_KEY_BYTES, AccountId, PrivateKey, PublicKey, load_public_key
from mailstore.sealed import MAGIC, SealedId, pending, remove

_SUITE = Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
KEPT_S = 86_400
"""Seconds for which former keys stay at least: longer than any delivery takes."""

_INFO_LABEL = b"sealbox/1/former-key"


def former_key_id(public_key: PublicKey) -> SealedId:
    """The name in the inbox of what is sealed to ``public_key``; no message has it, and all come after it."""
    return SealedId(FORMER_KEY + hashlib.sha256(public_key).hexdigest()[:16])


def is_former_key(name: str) -> bool:
    """Whether a file of the inbox, by its name or id, holds private keys and no message."""
    return name.startswith(FORMER_KEY)


def waiting_messages(inbox: Path) -> list[SealedId]:
    """As ``pending``, without former private keys."""
    return [one for one in pending(inbox) if not is_former_key(one)]


def remove_old_former_keys(inbox: Path, found: Sequence[SealedId]) -> None:
    """Remove those that no delivery can need any more. Raises Busy, StorageFailed."""
    for sealed_id in found:
        with storage_errors():
            try:
                age_s = time.time() - (inbox / (sealed_id + SUFFIX)).stat().st_mtime
            except FileNotFoundError:
                continue  # another process was faster
        if age_s >= KEPT_S:
            remove(inbox, sealed_id)


def seal_former_keys(public_key: PublicKey, account_id: AccountId, keys: Sequence[bytes]) -> bytes:
    """Serialised private keys, so that only the owner of ``public_key`` can have them."""
    info = _info(account_id, former_key_id(public_key))
    return MAGIC + _SUITE.encrypt(b"".join(keys), load_public_key(public_key), info=info)


def open_former_keys(
    private_key: PrivateKey, account_id: AccountId, sealed_id: SealedId, blob: bytes
) -> list[bytes]:
    """The serialised private keys out of ``blob``. Raises SealedMessageDamaged."""
    if not blob.startswith(MAGIC):
        raise SealedMessageDamaged
    info = _info(account_id, sealed_id)
    try:
        found = _SUITE.decrypt(memoryview(blob)[len(MAGIC) :], private_key.hpke, info=info)
    except InvalidTag:
        raise SealedMessageDamaged from None
    if not found or len(found) % PRIVATE_KEY_BYTES:
        raise SealedMessageDamaged
    return [found[at : at + PRIVATE_KEY_BYTES] for at in range(0, len(found), PRIVATE_KEY_BYTES)]


def _info(account_id: AccountId, sealed_id: SealedId) -> bytes:
    return b"\0".join((_INFO_LABEL, account_id.encode("ascii"), sealed_id.encode("ascii")))
