"""The envelope around a segment: content key in an HPKE box, content in authenticated chunks.

FORMAT.md section 4. Knows nothing of what is inside.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from mailstore.keys import PrivateKey, PublicKey, load_public_key

_MAGIC = b"SEALSEG"
VERSION = 2
"""Written; version 1, without a signature, is read."""

MAGIC_BYTES = len(_MAGIC) + 1
SIGNATURE_BYTES = 64
_SIGNATURE_BYTES_OF = {1: 0, VERSION: SIGNATURE_BYTES}
BOX_BYTES = 1120 + 32 + 16
PREFIX_BYTES = MAGIC_BYTES + BOX_BYTES
CHUNK_BYTES = 65_536
TAG_BYTES = 16
CONTENT_KEY_BYTES = 32

_SUITE = Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
_SEALED_CHUNK = CHUNK_BYTES + TAG_BYTES

ReadAt = Callable[[int, int], bytes]
"""``read(offset, size)``: the octets there, fewer at the end."""


class Damaged(Exception):
    """The envelope cannot be opened; the text says at which octet of the object."""


class Sink(Protocol):
    """Where sealed octets go."""

    def write(self, data: bytes, /) -> object:
        """Take all of ``data``."""


def info_for(stream: str, sequence: int) -> bytes:
    """What the box is bound to."""
    return b"\0".join((b"sealbox/1/segment", stream.encode("ascii"), b"%d" % sequence))


class Sealer:
    """Writes one envelope. ``content_key``, ``sha256`` and ``size_bytes`` are for the server's records.

    ``sign(digest)`` returns a signature for the SHA-256 of everything before it.
    """

    def __init__(
        self,
        sink: Sink,
        public_key: PublicKey,
        info: bytes,
        sign: Callable[[bytes], bytes],
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._sign = sign
        self.content_key = random(CONTENT_KEY_BYTES)
        self.size_bytes = 0
        self._sink = sink
        self._hash = hashlib.sha256()
        self._pending = bytearray()
        self._number = 0
        prefix = (
            _MAGIC
            + bytes((VERSION,))
            + _SUITE.encrypt(self.content_key, load_public_key(public_key), info=info)
        )
        self._cipher = _cipher(self.content_key, prefix)
        self._put(prefix)

    def write(self, data: bytes | memoryview) -> None:
        """Add content."""
        self._pending += data
        # At least one octet is held back: the last chunk is marked as such and never empty.
        while len(self._pending) > CHUNK_BYTES:
            self._put_chunk(bytes(self._pending[:CHUNK_BYTES]), last=False)
            del self._pending[:CHUNK_BYTES]

    def finish(self) -> None:
        """Write the last chunk and the signature; nothing may be added afterwards."""
        self._put_chunk(bytes(self._pending), last=True)
        self._put(self._sign(self.sha256))

    @property
    def sha256(self) -> bytes:
        """SHA-256 of everything written so far."""
        return self._hash.digest()

    def _put_chunk(self, content: bytes, *, last: bool) -> None:
        self._put(self._cipher.encrypt(_nonce(self._number, last=last), content, None))
        self._number += 1

    def _put(self, data: bytes) -> None:
        self._hash.update(data)
        self.size_bytes += len(data)
        self._sink.write(data)


def open_box(prefix: bytes, private_key: PrivateKey, info: bytes) -> bytes:
    """The content key out of the first ``PREFIX_BYTES`` of an object. Raises Damaged."""
    _version(prefix)
    try:
        key = _SUITE.decrypt(prefix[MAGIC_BYTES:], private_key.hpke, info=info)
    except InvalidTag:
        raise Damaged("its box does not open: another key, another place, or damage") from None
    if len(key) != CONTENT_KEY_BYTES:
        raise Damaged("its box does not hold a content key")
    return key


class Opener:
    """Reads content out of an envelope, any range of it; every octet it gives is authenticated."""

    def __init__(self, read: ReadAt, size_bytes: int, content_key: bytes) -> None:
        """Raises Damaged: the object is too short to be one."""
        prefix = read(0, PREFIX_BYTES)
        self.version = _version(prefix)
        body = size_bytes - PREFIX_BYTES - _SIGNATURE_BYTES_OF[self.version]
        if body <= TAG_BYTES:
            raise Damaged("it is too short")
        self._read = read
        self._cipher = _cipher(content_key, prefix)
        self._chunks = -(-body // _SEALED_CHUNK)
        self.content_bytes = body - self._chunks * TAG_BYTES
        self._kept: tuple[int, bytes] = (-1, b"")

    def read(self, offset: int, size: int) -> bytes:
        """``size`` octets of content from ``offset``. Raises Damaged, also when there are fewer."""
        if offset + size > self.content_bytes:
            raise Damaged("it is shorter than its header says")
        first, skip = divmod(offset, CHUNK_BYTES)
        found = bytearray()
        while len(found) < skip + size:
            found += self._chunk(first)
            first += 1
        return bytes(found[skip : skip + size])

    def _chunk(self, number: int) -> bytes:
        if self._kept[0] != number:
            last = number == self._chunks - 1
            rest = self.content_bytes + self._chunks * TAG_BYTES - number * _SEALED_CHUNK
            sealed = self._read(PREFIX_BYTES + number * _SEALED_CHUNK, min(_SEALED_CHUNK, rest))
            try:
                content = self._cipher.decrypt(_nonce(number, last=last), sealed, None)
            except (InvalidTag, ValueError):
                raise Damaged(f"octets from {PREFIX_BYTES + number * _SEALED_CHUNK} are damaged") from None
            self._kept = number, content
        return self._kept[1]


def _version(prefix: bytes) -> int:
    version = prefix[len(_MAGIC) : MAGIC_BYTES]
    known = len(prefix) == PREFIX_BYTES and prefix.startswith(_MAGIC) and version[0] in _SIGNATURE_BYTES_OF
    if not known:
        raise Damaged("it does not begin like a segment of this version")
    return version[0]


def _cipher(content_key: bytes, prefix: bytes) -> AESGCM:
    salt = hashlib.sha256(prefix).digest()
    return AESGCM(HKDF(SHA256(), 32, salt, b"sealbox/1/chunks").derive(content_key))


def _nonce(number: int, *, last: bool) -> bytes:
    return number.to_bytes(11, "big") + (b"\x01" if last else b"\x00")
