"""Signing keys that the server has had: what they signed stays believed, and nothing that comes later.

The list is a note of the data root and comes with the server's stream (FORMAT.md section 6), signed by the
key of today. Each former key has itself signed which one succeeded it, so that somebody who kept a former one
can be told.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from backup.segment import SegmentName, StreamId


@dataclass(frozen=True, slots=True)
class FormerKey:
    """A signing key, of which only the public half is known, and how far it counts."""

    public: bytes
    successor: bytes
    """The public half of the key that came after it."""

    proof: bytes = field(repr=False)
    """Its own signature, which names the successor."""

    until_ms: int
    """When that was, in ms since the epoch; for people."""

    last: Mapping[StreamId, int] = field(repr=False)
    """The number of the last segment of each stream that it may have signed."""

    def may_have_signed(self, name: SegmentName) -> bool:
        """Whether a segment of this number is from its time."""
        return name.sequence <= self.last.get(name.stream, 0)


def succession(successor: bytes) -> bytes:
    """What a key signs to name its successor."""
    return b"sealbox/1/signing-successor\0" + successor


def is_signed(public: bytes, signature: bytes, message: bytes) -> bool:
    """Whether it is a signature by that key."""
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def successors_of(public: bytes, keys: Iterable[FormerKey]) -> tuple[bytes, ...]:
    """The keys to which ``public`` leads, each named by the one before; the last is today's.

    Whoever has stolen a key can name a successor, too.
    """
    named = {one.public: one for one in keys}
    found: list[bytes] = []
    while (key := named.pop(public, None)) is not None:
        if not is_signed(public, key.proof, succession(key.successor)):
            break
        public = key.successor
        found.append(public)
    return tuple(found)


def encode_former(keys: Iterable[FormerKey]) -> str:
    """The text of the note."""
    return json.dumps(
        [
            {
                "public": one.public.hex(),
                "successor": one.successor.hex(),
                "proof": one.proof.hex(),
                "until": one.until_ms,
                "last": dict(one.last),
            }
            for one in keys
        ],
        sort_keys=True,
    )


def decode_former(text: str | None) -> tuple[FormerKey, ...]:
    """The list in a note. Raises ValueError, KeyError, TypeError, AttributeError."""
    return tuple(
        FormerKey(
            bytes.fromhex(one["public"]),
            bytes.fromhex(one["successor"]),
            bytes.fromhex(one["proof"]),
            int(one["until"]),
            {StreamId(stream): int(number) for stream, number in one["last"].items()},
        )
        for one in json.loads(text or "[]")
    )
