"""Keys of an account: the hierarchy below its master key, keyslots and the key pair for arriving mail.

Pure but for randomness, which is a parameter. FORMAT.md sections 1 to 4 are the specification.
Passwords are brought to Unicode NFC and may not contain NUL; the full OpaqueString profile (RFC 8265)
is not applied, because Python's library lacks it, and a half profile would lock people out later.
"""

import os
import struct
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NewType

from argon2.exceptions import HashingError
from argon2.low_level import Type, hash_secret_raw
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hpke import MLKEM768X25519PrivateKey, MLKEM768X25519PublicKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from mailstore.errors import AuthenticationFailed, HeaderTampered, PasswordUnusable, TooManyLogins
from mailstore.keys.printed import (
    SLOT_ID_CHARS,
    Printed,
    RandomBytes,
    SlotId,
    SlotKind,
    random_characters,
    read_printed,
)

AccountId = NewType("AccountId", str)
PublicKey = NewType("PublicKey", bytes)

MASTER_KEY_BYTES = 32
NONCE_BYTES = 12
SALT_BYTES = 16
TAG_BYTES = 16
MLKEM_SEED_BYTES = 64
MLKEM_PUBLIC_BYTES = 1184
X25519_BYTES = 32
PUBLIC_KEY_BYTES = MLKEM_PUBLIC_BYTES + X25519_BYTES
PRIVATE_KEY_BYTES = MLKEM_SEED_BYTES + X25519_BYTES
MAX_SECRET_BYTES = 1024


class KeyLabel(StrEnum):
    """Labels for :func:`derive`; a label is used for one purpose and one length only."""

    DATABASE = "sealbox/1/database"
    SCRAM_DUMMY_SALT = "sealbox/1/scram-dummy-salt"
    SCRAM_SLOT = "sealbox/1/scram-slot"
    DATABASE_SALT = "sealbox/1/database-salt"
    SEARCH = "sealbox/1/search"
    SEARCH_SALT = "sealbox/1/search-salt"
    HEADER = "sealbox/1/header"
    PRIVATE_KEY = "sealbox/1/private-key"
    DIRECTORY = "sealbox/1/directory"
    DIRECTORY_SALT = "sealbox/1/directory-salt"
    LOGIN_THROTTLE = "sealbox/1/login-throttle"
    BACKUP_STATE = "sealbox/1/backup-state"
    BACKUP_STATE_SALT = "sealbox/1/backup-state-salt"
    BACKUP_SIGNING = "sealbox/1/backup-signing"


class AccessProtocol(StrEnum):
    """The services a keyslot can be limited to."""

    IMAP = "imap"
    POP3 = "pop3"
    SMTP = "smtp"
    DAV = "dav"


@dataclass(frozen=True, slots=True)
class Scope:
    """What a keyslot is good for. ``protocols`` None means all; ``not_after`` is in epoch seconds."""

    protocols: frozenset[AccessProtocol] | None = None
    read_only: bool = False
    not_after: int | None = None

    def allows(self, protocol: AccessProtocol | None, now: float) -> bool:
        """Whether a login by ``protocol`` (None: administration) at ``now`` (epoch s) is in scope."""
        if self.not_after is not None and now > self.not_after:
            return False
        return self.protocols is None or protocol in self.protocols


@dataclass(frozen=True, slots=True)
class Argon2Params:
    """Cost of one Argon2id run (RFC 9106); the default is its second recommended choice."""

    time_cost: int = 3
    memory_kib: int = 64 * 1024
    parallelism: int = 4

    def weaker_than(self, other: "Argon2Params") -> bool:
        """Whether a slot with these parameters should be upgraded to ``other``."""
        return self.memory_kib < other.memory_kib or (
            self.memory_kib == other.memory_kib and self.time_cost < other.time_cost
        )


Argon2 = Callable[[bytes, bytes, Argon2Params], bytes]


@dataclass(frozen=True, slots=True)
class ScramWrap:
    """The master key wrapped a second time, under what SCRAM's client reveals; see ``scram``."""

    stored_key: bytes = field(repr=False)
    nonce: bytes = field(repr=False)
    wrapped: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Keyslot:
    """One door to the account: the master key wrapped under Argon2id of one secret."""

    id: SlotId
    kind: SlotKind
    label: str
    created: int
    scope: Scope
    params: Argon2Params
    salt: bytes = field(repr=False)
    nonce: bytes = field(repr=False)
    wrapped: bytes = field(repr=False)
    scram: ScramWrap | None = None

    @property
    def is_owner(self) -> bool:
        """Whether this door may change the doors: an app password may not."""
        return self.kind is not SlotKind.APP_PASSWORD


@dataclass(frozen=True, slots=True)
class WrappedKey:
    """The account's private key, encrypted under a key derived from the master key."""

    nonce: bytes = field(repr=False)
    wrapped: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Secret:
    """What a user typed at a login: as a password, and as a generated secret if it has that form."""

    password: bytes = field(repr=False)
    printed: Printed | None = field(repr=False)


def argon2id(secret: bytes, salt: bytes, params: Argon2Params) -> bytes:
    """32 bytes of Argon2id version 1.3; takes about 0.1 s and ``params.memory_kib`` of memory.

    Raises TooManyLogins if the system does not give the memory.
    """
    try:
        return hash_secret_raw(
            secret,
            salt,
            time_cost=params.time_cost,
            memory_cost=params.memory_kib,
            parallelism=params.parallelism,
            hash_len=MASTER_KEY_BYTES,
            type=Type.ID,
        )
    except HashingError:
        raise TooManyLogins from None


def derive(master: bytes | bytearray, label: str, length: int) -> bytes:
    """``length`` bytes for one purpose, from HKDF-SHA256 (RFC 5869; no salt, info = ``label``)."""
    return HKDF(algorithm=SHA256(), length=length, salt=None, info=label.encode("ascii")).derive(master)


def new_master(random: RandomBytes = os.urandom) -> bytearray:
    """A fresh master key, in a buffer that can be overwritten."""
    return bytearray(random(MASTER_KEY_BYTES))


def parse_secret(raw: bytes) -> Secret:
    """Read a secret as it came from a client.

    Raises PasswordUnusable if no account could have it: empty, over 1,024 bytes, not UTF-8, or NUL.
    """
    if not raw or len(raw) > MAX_SECRET_BYTES or b"\0" in raw:
        raise PasswordUnusable
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise PasswordUnusable from None
    return Secret(unicodedata.normalize("NFC", text).encode("utf-8"), read_printed(text))


def choose_slot(slots: Iterable[Keyslot], secret: Secret) -> tuple[Keyslot, bytes] | None:
    """The one slot that ``secret`` may open, and what to feed to Argon2 for it; None if there is none.

    A generated secret names its slot. If there is no such slot, the text is tried as the password:
    a password that merely looks generated works, and no login ever costs a second Argon2 run.
    """
    password_slot = None
    for slot in slots:
        printed = secret.printed
        if printed is not None and slot.id == printed.slot_id and slot.kind is printed.kind:
            return slot, printed.canonical.encode("ascii")
        if slot.kind is SlotKind.PASSWORD:
            password_slot = slot
    return None if password_slot is None else (password_slot, secret.password)


def new_slot_id(taken: Iterable[SlotId], random: RandomBytes = os.urandom) -> SlotId:
    """A slot id that is not in ``taken``."""
    in_use = frozenset(taken)
    while True:
        slot_id = SlotId(random_characters(SLOT_ID_CHARS, random))
        if slot_id not in in_use:
            return slot_id


@dataclass(frozen=True, slots=True)
class SlotFacts:
    """The part of a keyslot that its creator decides; times are in epoch seconds."""

    id: SlotId
    kind: SlotKind
    label: str
    created: int
    scope: Scope = field(default_factory=Scope)


def make_slot(
    account_id: AccountId,
    facts: SlotFacts,
    params: Argon2Params,
    secret: bytes,
    master: bytes | bytearray,
    *,
    argon2: Argon2 = argon2id,
    random: RandomBytes = os.urandom,
) -> Keyslot:
    """Wrap ``master`` under ``secret`` (as :func:`choose_slot` gives it): one Argon2 run."""
    salt, nonce = random(SALT_BYTES), random(NONCE_BYTES)
    bare = Keyslot(
        facts.id, facts.kind, facts.label, facts.created, facts.scope, params, salt, nonce, wrapped=b""
    )
    key = argon2(secret, salt, params)
    wrapped = AESGCM(key).encrypt(nonce, bytes(master), slot_associated_data(account_id, bare))
    return Keyslot(
        facts.id, facts.kind, facts.label, facts.created, facts.scope, params, salt, nonce, wrapped
    )


def open_slot(account_id: AccountId, slot: Keyslot, secret: bytes, *, argon2: Argon2 = argon2id) -> bytearray:
    """The master key out of ``slot``: one Argon2 run. Raises AuthenticationFailed."""
    key = argon2(secret, slot.salt, slot.params)
    master = bytearray(MASTER_KEY_BYTES)
    try:
        AESGCM(key).decrypt_into(slot.nonce, slot.wrapped, slot_associated_data(account_id, slot), master)
    except InvalidTag:
        raise AuthenticationFailed from None
    return master


def slot_associated_data(account_id: AccountId, slot: Keyslot) -> bytes:
    """All metadata of a slot, each field with its length before it, so that no two slots share it."""
    scope = slot.scope
    protocols = "*" if scope.protocols is None else ",".join(sorted(scope.protocols))
    texts = (
        "sealbox/1/keyslot",
        account_id,
        slot.id,
        slot.kind.value,
        slot.label,
        str(slot.created),
        protocols,
        "read-only" if scope.read_only else "read-write",
        "" if scope.not_after is None else str(scope.not_after),
        f"{slot.params.time_cost},{slot.params.memory_kib},{slot.params.parallelism}",
    )
    fields = [text.encode("utf-8") for text in texts]
    fields.append(slot.salt)
    return b"".join(struct.pack(">I", len(data)) + data for data in fields)


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
    if len(public) != PUBLIC_KEY_BYTES:
        raise HeaderTampered
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
    key = derive(master, KeyLabel.PRIVATE_KEY, MASTER_KEY_BYTES)
    try:
        raw = AESGCM(key).decrypt(wrapped.nonce, wrapped.wrapped, _private_key_associated_data(account_id))
    except InvalidTag:
        raise HeaderTampered from None
    return load_private_key(raw)


def _private_key_associated_data(account_id: AccountId) -> bytes:
    return f"{KeyLabel.PRIVATE_KEY}/{account_id}".encode("ascii")
