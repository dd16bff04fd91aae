"""Invitations: the master key wrapped under the secret of a link that works once; pure.

Whoever opens the link gets a secret of their own and the invitation is gone; see ``mailstore.invitations``.
FORMAT.md section 14 is the specification. The secret is random, so HKDF is enough to make a key of it: no
stranger can have the server spend Argon2's memory.
"""

import base64
import binascii
import json
import os
import re
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from mailstore.errors import AuthenticationFailed, HeaderTampered
from mailstore.keys.hierarchy import (
    MASTER_KEY_BYTES,
    NONCE_BYTES,
    TAG_BYTES,
    AccountId,
    KeyLabel,
    RandomBytes,
    derive,
)
from mailstore.keys.printed import ALPHABET, SLOT_ID_CHARS, SlotId, is_slot_id, random_characters
from mailstore.keys.slots import Scope
from mailstore.model import AccessProtocol

INVITATION_SECRET_CHARS = 32
"""160 random bits."""

INVITATION_FILE_BYTES = 4096
"""More than any invitation has; a longer file is none."""

_FORMAT, _VERSION = "sealbox-invitation", 1
_TOKEN = re.compile(f"[{ALPHABET}]{{{SLOT_ID_CHARS + INVITATION_SECRET_CHARS}}}")
_ACCOUNT_ID = re.compile(r"[0-9a-f]{32}")
_FIELDS = (
    "format", "version", "id", "account", "label", "created", "protocols", "read_only", "not_after",
    "replaces", "nonce", "wrapped",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Token:
    """What a link holds: the public id of its invitation, and the secret, which is stored nowhere."""

    id: SlotId
    secret: str = field(repr=False)

    def text(self) -> str:
        """As it is written in the link."""
        return self.id + self.secret


@dataclass(frozen=True, slots=True)
class Invitation:
    """One invitation as it is stored. Times are in epoch seconds.

    ``scope`` is what the app password may do that it is exchanged for, whose keyslot gets ``id``. With
    ``replaces``, the id of a password's keyslot, its holder chooses the account's password instead.
    """

    id: SlotId
    account_id: AccountId
    label: str
    created: int
    not_after: int
    scope: Scope
    replaces: SlotId | None
    nonce: bytes = field(repr=False)
    wrapped: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class InvitationFacts:
    """The part of an invitation that its creator decides."""

    label: str
    created: int
    not_after: int
    scope: Scope
    replaces: SlotId | None = None


def make_invitation(
    account_id: AccountId,
    slot_id: SlotId,
    facts: InvitationFacts,
    master: bytes | bytearray,
    *,
    random: RandomBytes = os.urandom,
) -> tuple[Invitation, Token]:
    """Wrap ``master`` under a new secret; ``slot_id`` is one that no keyslot of the account has."""
    token = Token(slot_id, random_characters(INVITATION_SECRET_CHARS, random))
    bare = Invitation(
        slot_id,
        account_id,
        facts.label,
        facts.created,
        facts.not_after,
        facts.scope,
        facts.replaces,
        random(NONCE_BYTES),
        b"",
    )
    wrapped = AESGCM(_key(token)).encrypt(bare.nonce, bytes(master), _associated_data(bare))
    return replace(bare, wrapped=wrapped), token


def open_invitation(invitation: Invitation, token: Token, now: float) -> bytearray:
    """The master key; ``now`` is in epoch seconds. Raises AuthenticationFailed: wrong secret, or run out."""
    if now > invitation.not_after:
        raise AuthenticationFailed
    master = bytearray(MASTER_KEY_BYTES)
    try:
        AESGCM(_key(token)).decrypt_into(
            invitation.nonce, invitation.wrapped, _associated_data(invitation), master
        )
    except InvalidTag:
        raise AuthenticationFailed from None
    return master


def read_token(text: str) -> Token | None:
    """The token that ``text`` spells, None if it has no such form."""
    if not _TOKEN.fullmatch(text):
        return None
    return Token(SlotId(text[:SLOT_ID_CHARS]), text[SLOT_ID_CHARS:])


def encode_invitation(invitation: Invitation) -> bytes:
    """The file's bytes."""
    protocols = invitation.scope.protocols
    tree = dict(
        zip(
            _FIELDS,
            (
                _FORMAT,
                _VERSION,
                invitation.id,
                invitation.account_id,
                invitation.label,
                invitation.created,
                None if protocols is None else sorted(protocols),
                invitation.scope.read_only,
                invitation.not_after,
                invitation.replaces,
                base64.b64encode(invitation.nonce).decode("ascii"),
                base64.b64encode(invitation.wrapped).decode("ascii"),
            ),
            strict=True,
        )
    )
    return json.dumps(tree, indent=1).encode("ascii") + b"\n"


def decode_invitation(data: bytes) -> Invitation:
    """An invitation from its file; nobody has authenticated it yet. Raises HeaderTampered: it is none."""
    if len(data) > INVITATION_FILE_BYTES:
        raise HeaderTampered
    try:
        invitation = _decoded(json.loads(data))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise HeaderTampered from None
    if encode_invitation(invitation) != data:
        raise HeaderTampered  # there is one spelling of every invitation
    return invitation


# Any: json.loads has no better type; every value passes a check below before it is used.
def _decoded(tree: Any) -> Invitation:
    if tuple(tree) != _FIELDS or (tree["format"], tree["version"]) != (_FORMAT, _VERSION):
        raise HeaderTampered
    numbers, replaces = (tree["created"], tree["not_after"]), tree["replaces"]
    texts = (tree["id"], tree["account"], tree["label"], *([] if replaces is None else [replaces]))
    if not all(type(one) is int for one in numbers) or not all(isinstance(one, str) for one in texts):
        raise HeaderTampered
    ids = [tree["id"], *([] if replaces is None else [replaces])]
    if not all(map(is_slot_id, ids)) or not _ACCOUNT_ID.fullmatch(tree["account"]):
        raise HeaderTampered
    names = tree["protocols"]
    protocols = None if names is None else frozenset(AccessProtocol(name) for name in names)
    invitation = Invitation(
        SlotId(tree["id"]),
        AccountId(tree["account"]),
        tree["label"],
        *numbers,
        Scope(protocols, tree["read_only"] is True, None),
        replaces,
        _data(tree["nonce"]),
        _data(tree["wrapped"]),
    )
    if (len(invitation.nonce), len(invitation.wrapped)) != (NONCE_BYTES, MASTER_KEY_BYTES + TAG_BYTES):
        raise HeaderTampered
    return invitation


def _data(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        raise HeaderTampered from None


def _key(token: Token) -> bytes:
    return derive(token.secret.encode("ascii"), KeyLabel.INVITATION, MASTER_KEY_BYTES)


def _associated_data(invitation: Invitation) -> bytes:
    """All metadata, each field with its length before it, so that no two invitations share it."""
    scope = invitation.scope
    texts: Iterable[str] = (
        KeyLabel.INVITATION,
        invitation.account_id,
        invitation.id,
        invitation.label,
        str(invitation.created),
        str(invitation.not_after),
        "*" if scope.protocols is None else ",".join(sorted(scope.protocols)),
        "read-only" if scope.read_only else "read-write",
        invitation.replaces or "",
    )
    fields = [text.encode("utf-8") for text in texts]
    return b"".join(struct.pack(">I", len(data)) + data for data in fields)
