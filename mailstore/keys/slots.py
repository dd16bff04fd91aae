"""Keyslots: the master key wrapped under Argon2id of one secret each, and which slot a secret may open.

Pure but for randomness, which is a parameter. FORMAT.md section 3 is the specification.
Passwords are brought to Unicode NFC and may not contain NUL; the full OpaqueString profile (RFC 8265)
is not applied, because Python's library lacks it, and a half profile would lock people out later.
"""

import os
import struct
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from argon2.exceptions import HashingError
from argon2.low_level import Type, hash_secret_raw
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from mailstore.errors import AuthenticationFailed, PasswordUnusable, TooManyLogins
from mailstore.keys.hierarchy import MASTER_KEY_BYTES, NONCE_BYTES, SALT_BYTES, AccountId, RandomBytes
from mailstore.keys.printed import (
    SLOT_ID_CHARS,
    Printed,
    SlotId,
    SlotKind,
    random_characters,
    read_printed,
)
from mailstore.model import AccessProtocol

MAX_SECRET_BYTES = 1024


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
    """One way into the account: the master key wrapped under Argon2id of one secret."""

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
        """Whether this slot's secret may change the keyslots: an app password may not."""
        return self.kind is not SlotKind.APP_PASSWORD


@dataclass(frozen=True, slots=True)
class Secret:
    """What a user typed at a login: as a password, and as a generated secret if it has that form."""

    password: bytes = field(repr=False)
    printed: Printed | None = field(repr=False)


def argon2id(secret: bytes, salt: bytes, params: Argon2Params) -> bytes:
    """32 bytes of Argon2id version 1.3; takes about 0.1 s and ``params.memory_kib`` of memory.

    Raises TooManyLogins if the memory cannot be allocated.
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
