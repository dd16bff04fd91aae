"""The account's key pair, to which arriving mail is sealed: ML-KEM-768 and X25519 together (HPKE, RFC 9180).

Pure but for randomness, which is a parameter. FORMAT.md section 4 is the specification.
"""

import os
from dataclasses import dataclass, field
from typing import NewType

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hpke import MLKEM768X25519PrivateKey, MLKEM768X25519PublicKey

from mailstore.errors import HeaderTampered
from mailstore.keys.hierarchy import MASTER_KEY_BYTES, NONCE_BYTES, AccountId, KeyLabel, RandomBytes, derive

PublicKey = NewType("PublicKey", bytes)
MLKEM_SEED_BYTES = 64
MLKEM_PUBLIC_BYTES = 1184
X25519_BYTES = 32
PUBLIC_KEY_BYTES = MLKEM_PUBLIC_BYTES + X25519_BYTES
PRIVATE_KEY_BYTES = MLKEM_SEED_BYTES + X25519_BYTES


@dataclass(frozen=True, slots=True)
class WrappedKey:
    """The account's private key, encrypted under a key derived from the master key."""

    nonce: bytes = field(repr=False)
    wrapped: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class PrivateKey:
    """The account's private half: ML-KEM-768 seed and X25519 scalar, ready for HPKE."""

    hpke: MLKEM768X25519PrivateKey = field(repr=False)
    public: PublicKey = field(repr=False)


def new_private_key(random: RandomBytes = os.urandom) -> bytes:
    """The 96 bytes of a fresh private key: ML-KEM-768 seed, then X25519 scalar."""
    return random(PRIVATE_KEY_BYTES)


def load_private_key(raw: bytes) -> PrivateKey:
    """The key pair of 96 serialised bytes."""
    mlkem = MLKEM768PrivateKey.from_seed_bytes(raw[:MLKEM_SEED_BYTES])
    x25519 = X25519PrivateKey.from_private_bytes(raw[MLKEM_SEED_BYTES:])
    public = mlkem.public_key().public_bytes_raw() + x25519.public_key().public_bytes_raw()
    return PrivateKey(MLKEM768X25519PrivateKey(mlkem, x25519), PublicKey(public))


def load_public_key(public: PublicKey) -> MLKEM768X25519PublicKey:
    """The HPKE key of 1,216 serialised bytes. Raises HeaderTampered if they are not a key."""
    try:
        mlkem = MLKEM768PublicKey.from_public_bytes(public[:MLKEM_PUBLIC_BYTES])
        x25519 = X25519PublicKey.from_public_bytes(public[MLKEM_PUBLIC_BYTES:])
    except ValueError:
        raise HeaderTampered from None
    return MLKEM768X25519PublicKey(mlkem, x25519)


def wrap_private_key(
    account_id: AccountId,
    raw: bytes,
    master: bytes | bytearray,
    random: RandomBytes = os.urandom,
) -> WrappedKey:
    """Encrypt 96 serialised bytes under the derived private-key key."""
    nonce = random(NONCE_BYTES)
    key = derive(master, KeyLabel.PRIVATE_KEY, MASTER_KEY_BYTES)
    return WrappedKey(nonce, AESGCM(key).encrypt(nonce, raw, _private_key_associated_data(account_id)))


def unwrap_private_key(account_id: AccountId, wrapped: WrappedKey, master: bytes | bytearray) -> PrivateKey:
    """The key pair out of the header. Raises HeaderTampered."""
    return load_private_key(serialised_private_key(account_id, wrapped, master))


def serialised_private_key(account_id: AccountId, wrapped: WrappedKey, master: bytes | bytearray) -> bytes:
    """The 96 bytes of the private key out of the header. Raises HeaderTampered."""
    key = derive(master, KeyLabel.PRIVATE_KEY, MASTER_KEY_BYTES)
    try:
        return AESGCM(key).decrypt(wrapped.nonce, wrapped.wrapped, _private_key_associated_data(account_id))
    except InvalidTag:
        raise HeaderTampered from None


def _private_key_associated_data(account_id: AccountId) -> bytes:
    return f"{KeyLabel.PRIVATE_KEY}/{account_id}".encode("ascii")
