"""The server's signature on what it stores (FORMAT.md section 4): who wrote a segment, not what is in it.

Sealing takes a public key, so anybody who has it can seal. The key that signs is derived from the server's
own, which lies on the server and, sealed, in its stream.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from backup.errors import SegmentDamaged
from backup.former_keys import FormerKey, is_signed, succession
from backup.sealing import SIGNATURE_BYTES
from backup.segment import SegmentName, StreamId
from mailstore.durable import storage_errors
from mailstore.keys import ServerKeyLabel, derive

SEED_BYTES = 32
PUBLIC_BYTES = 32
_READ_BYTES = 1024 * 1024


class Signer:
    """Signs with the key that is derived from the server's key."""

    def __init__(self, server_key: bytes) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(
            derive(server_key, ServerKeyLabel.BACKUP_SIGNING, SEED_BYTES)
        )

    @property
    def public(self) -> bytes:
        """What proves its signatures, 32 bytes; no secret."""
        return self._key.public_key().public_bytes_raw()

    def name_successor(self, public: bytes) -> bytes:
        """The signature by which this key says that ``public`` comes after it."""
        return self._key.sign(succession(public))

    def sign(self, name: SegmentName, digest: bytes) -> bytes:
        """The signature of the segment ``name`` whose octets so far have the SHA-256 ``digest``."""
        return self._key.sign(_message(name, digest))


@dataclass(frozen=True, slots=True)
class Trust:
    """Whose segments are believed."""

    public: bytes
    signed_from: Mapping[StreamId, int] = field(default_factory=dict)
    """The number from which on the segments of a stream are signed; those before it cannot be."""

    former: tuple[FormerKey, ...] = ()
    """Keys that it has had before, each believed as far as it says."""

    followers: tuple[bytes, ...] = ()
    """Keys that came after it, each named by the one before."""

    def check(self, name: SegmentName, *, signed: bool, path: Path) -> None:
        """Whether the server wrote the object in ``path``. Raises SegmentDamaged, StorageFailed."""
        if not signed:
            first = self.signed_from.get(name.stream)
            if first is not None and name.sequence >= first:
                raise SegmentDamaged(str(name), "it is not signed, though this server signs its snapshots")
            return
        digest = hashlib.sha256()
        with storage_errors(), path.open("rb") as file:
            left = path.stat().st_size - SIGNATURE_BYTES
            while left > 0 and (piece := file.read(min(_READ_BYTES, left))):
                digest.update(piece)
                left -= len(piece)
            signature = file.read()
        message = _message(name, digest.digest())
        former = (one.public for one in self.former if one.may_have_signed(name))
        keys = (self.public, *self.followers, *former)
        if not any(is_signed(key, signature, message) for key in keys):
            raise SegmentDamaged(str(name), "this server did not sign it")


def _message(name: SegmentName, digest: bytes) -> bytes:
    return b"\0".join((b"sealbox/2/segment", str(name).encode("ascii"), digest))
