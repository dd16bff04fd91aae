"""SCRAM-SHA-256 (RFC 5802, 7677) as a way to unwrap the master key; pure but for randomness.

In SCRAM the client proves that it knows a password by revealing ClientKey, of which the server keeps only a
hash. So a keyslot can hold the master key wrapped under ClientKey: the password never reaches the server and
the account still opens. Only app passwords have such a wrap, because they are random; for a human's password
PBKDF2 would be weaker than Argon2id.

The client does not say which app password it has. All slots of an account therefore share one salt, and the
proof itself identifies the slot: trying one costs two hashes.
"""

import hashlib
import hmac
import os
from collections.abc import Iterable
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from mailstore.errors import AuthenticationFailed
from mailstore.keys.hierarchy import (
    MASTER_KEY_BYTES,
    NONCE_BYTES,
    SALT_BYTES,
    AccountId,
    KeyLabel,
    RandomBytes,
    derive,
)
from mailstore.keys.printed import Printed, SlotId
from mailstore.keys.slots import Keyslot, ScramWrap
from mailstore.model import ScramExchange, ScramSetup

STORED_KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class ScramOpened:
    """The keyslot that a proof opened. ``server_signature`` lets the client check the server."""

    slot: Keyslot
    master: bytearray = field(repr=False)
    server_signature: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class ScramKeys:
    """The three keys of RFC 5802, 3."""

    client_key: bytes = field(repr=False)
    stored_key: bytes = field(repr=False)
    server_key: bytes = field(repr=False)


def scram_keys(password: bytes, setup: ScramSetup) -> ScramKeys:
    """SaltedPassword and what follows from it. Takes about 1 ms."""
    salted = hashlib.pbkdf2_hmac("sha256", password, setup.salt, setup.iterations)
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    stored_key = hashlib.sha256(client_key).digest()
    return ScramKeys(client_key, stored_key, hmac.digest(salted, b"Server Key", "sha256"))


def new_scram_setup(random: RandomBytes = os.urandom) -> ScramSetup:
    """A fresh salt for an account."""
    return ScramSetup(random(SALT_BYTES))


def dummy_scram_setup(server_secret: bytes, name: str | bytes) -> ScramSetup:
    """The setup sent for an unknown name: the same at every attempt and on every worker."""
    text = name.encode("utf-8", "surrogatepass") if isinstance(name, str) else name
    return ScramSetup(hmac.digest(server_secret, text.lower(), "sha256")[:SALT_BYTES])


def make_scram_wrap(
    account_id: AccountId,
    printed: Printed,
    setup: ScramSetup,
    master: bytes | bytearray,
    random: RandomBytes = os.urandom,
) -> ScramWrap:
    """Wrap ``master`` for an app password in the form in which it is shown: SCRAM hashes what is typed."""
    keys = scram_keys(printed.text().encode("ascii"), setup)
    nonce = random(NONCE_BYTES)
    plaintext = bytes(master) + keys.server_key
    data = _associated_data(account_id, printed.slot_id)
    return ScramWrap(keys.stored_key, nonce, AESGCM(_wrapping_key(keys)).encrypt(nonce, plaintext, data))


def open_scram_wrap(account_id: AccountId, slots: Iterable[Keyslot], exchange: ScramExchange) -> ScramOpened:
    """The slot that the proof belongs to, opened. Raises AuthenticationFailed."""
    if len(exchange.proof) != STORED_KEY_BYTES:
        raise AuthenticationFailed
    for slot in slots:
        if slot.scram is None:
            continue
        signature = hmac.digest(slot.scram.stored_key, exchange.auth_message, "sha256")
        client_key = bytes(one ^ other for one, other in zip(exchange.proof, signature, strict=True))
        if hmac.compare_digest(hashlib.sha256(client_key).digest(), slot.scram.stored_key):
            return _unwrap(account_id, slot, slot.scram, client_key, exchange.auth_message)
    raise AuthenticationFailed


def _unwrap(
    account_id: AccountId, slot: Keyslot, wrap: ScramWrap, client_key: bytes, auth_message: bytes
) -> ScramOpened:
    key = derive(client_key, KeyLabel.SCRAM_SLOT, MASTER_KEY_BYTES)
    try:
        plaintext = AESGCM(key).decrypt(wrap.nonce, wrap.wrapped, _associated_data(account_id, slot.id))
    except InvalidTag:
        raise AuthenticationFailed from None
    server_key = plaintext[MASTER_KEY_BYTES:]
    signature = hmac.digest(server_key, auth_message, "sha256")
    return ScramOpened(slot, bytearray(plaintext[:MASTER_KEY_BYTES]), signature)


def _wrapping_key(keys: ScramKeys) -> bytes:
    return derive(keys.client_key, KeyLabel.SCRAM_SLOT, MASTER_KEY_BYTES)


def _associated_data(account_id: AccountId, slot_id: SlotId) -> bytes:
    return f"{KeyLabel.SCRAM_SLOT}/{account_id}/{slot_id}".encode("ascii")
