"""A message made ready for the database before any lock is taken: scanned, compressed, hashed. Pure.

Content is kept byte for byte: the header in frames of its own, then the body, every frame holding
``FRAME_BYTES`` of it (the last of each fewer), so that a part is read without reading the rest.
"""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass

import zstandard

from mailstore import mime
from mailstore.model import Flags

FRAME_BYTES = 256 * 1024
"""Bytes of message in one compressed frame, before compression; part of the file format."""

COMPRESSION_LEVEL = 3

MAX_REFERENCES = 50
"""Most message ids of one message that take part in threading."""

_per_thread = threading.local()


@dataclass(frozen=True, slots=True)
class PreparedMessage:
    """Everything that is written when a message is filed. Its repr shows no content."""

    size_bytes: int
    header_bytes: int
    frames: tuple[bytes, ...]
    envelope: bytes
    body: bytes
    bodystructure: bytes
    parts: bytes
    sort_keys: mime.SortKeys
    own_hash: bytes | None
    reference_hashes: tuple[bytes, ...]
    preview: str
    kept_fields: mime.KeptFields | None

    @property
    def thread_hashes(self) -> tuple[bytes, ...]:
        """Hashes of the ids that tie the message to its thread, without repeats, its own last."""
        own = (self.own_hash,) if self.own_hash else ()
        return tuple(dict.fromkeys((*self.reference_hashes, *own)))

    def __repr__(self) -> str:
        return f"PreparedMessage({self.size_bytes} bytes)"


@dataclass(frozen=True, slots=True)
class ReadyMessage:
    """A prepared message and what its mailbox has to know of it; ``internal_date`` in epoch seconds."""

    prepared: PreparedMessage
    flags: Flags
    internal_date: int


def compress(data: bytes) -> bytes:
    """One zstd frame that names its content size."""
    compressor = getattr(_per_thread, "compressor", None)
    if compressor is None:
        # One per thread: a compressor object must not be used by two threads at once.
        compressor = _per_thread.compressor = zstandard.ZstdCompressor(level=COMPRESSION_LEVEL)
    result: bytes = compressor.compress(data)
    return result


def decompress(frame: bytes) -> bytes:
    """The bytes in a frame that ``compress`` made.

    Raises:
        ValueError: the frame is damaged or claims to hold more than ``FRAME_BYTES``.
    """
    decompressor = getattr(_per_thread, "decompressor", None)
    if decompressor is None:
        decompressor = _per_thread.decompressor = zstandard.ZstdDecompressor()
    try:
        if zstandard.frame_content_size(frame) > FRAME_BYTES:
            raise ValueError("a content frame claims to be too large")
        result: bytes = decompressor.decompress(frame, max_output_size=FRAME_BYTES)
    except zstandard.ZstdError:
        raise ValueError("a content frame is damaged") from None
    return result


def frame_spans(size_bytes: int, header_bytes: int) -> list[tuple[int, int]]:
    """Where the frames of a message begin and end in it, header frames first; an empty message has one."""
    starts = [(at, min(at + FRAME_BYTES, header_bytes)) for at in range(0, header_bytes, FRAME_BYTES)]
    starts += [(at, min(at + FRAME_BYTES, size_bytes)) for at in range(header_bytes, size_bytes, FRAME_BYTES)]
    return starts or [(0, 0)]


def frames_of(data: bytes, header_bytes: int) -> tuple[bytes, ...]:
    """The message as compressed frames, as :func:`frame_spans` has them."""
    view = memoryview(data)
    return tuple(compress(bytes(view[low:high])) for low, high in frame_spans(len(data), header_bytes))


def header_frames(header_bytes: int) -> int:
    """How many frames of a message hold its header."""
    return -(-header_bytes // FRAME_BYTES)


def hash_of(message_id: bytes) -> bytes:
    """What the database keeps of a message id (without angle brackets) for threading."""
    return hashlib.sha256(message_id).digest()[:16]


def prepare(data: bytes, limits: mime.MimeLimits | None = None) -> PreparedMessage:
    """Scan and compress a message. Any bytes are a message; this never fails on content."""
    limits = limits or mime.MimeLimits()
    root = mime.scan(data, limits)
    return _prepared(data, root, frames_of(data, root.body_start), limits)


def prepare_again(data: bytes, frames: tuple[bytes, ...], limits: mime.MimeLimits) -> PreparedMessage:
    """As :func:`prepare`, of a message whose frames are stored already."""
    return _prepared(data, mime.scan(data, limits), frames, limits)


def _prepared(
    data: bytes, root: mime.Part, frames: tuple[bytes, ...], limits: mime.MimeLimits
) -> PreparedMessage:
    header = data[: root.body_start]
    ids = mime.message_ids(header)
    return PreparedMessage(
        len(data),
        root.body_start,
        frames,
        mime.envelope(header),
        mime.body(root, data),
        mime.bodystructure(root, data),
        mime.dump(root),
        mime.sort_keys(header),
        hash_of(ids.message_id) if ids.message_id else None,
        tuple(map(hash_of, ids.references[-MAX_REFERENCES:])),
        mime.preview(root, data),
        mime.kept_fields(header, limits),
    )
