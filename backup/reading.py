"""Open a segment and read what is in it; every octet that comes out has been authenticated."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from backup.errors import SegmentDamaged
from backup.sealing import PREFIX_BYTES, Damaged, Opener, ReadAt, info_for, open_box
from backup.segment import (
    LENGTH_BYTES,
    MAX_HEADER_BYTES,
    PAGE_BYTES,
    Header,
    Malformed,
    SegmentName,
    decode_header,
    padding_bytes,
)
from mailstore.durable import storage_errors
from mailstore.keys import PrivateKey

_PIECE_BYTES = 1024 * 1024


def content_key(name: SegmentName, read: ReadAt, private_key: PrivateKey) -> bytes:
    """The content key of a segment, by the operator's private key. Raises SegmentDamaged."""
    try:
        return open_box(read(0, PREFIX_BYTES), private_key, info_for(name.stream, name.sequence))
    except Damaged as error:
        raise SegmentDamaged(str(name), str(error)) from None


class OpenSegment:
    """A segment that could be opened and is what its name says. Methods raise SegmentDamaged."""

    def __init__(self, name: SegmentName, read: ReadAt, size_bytes: int, key: bytes) -> None:
        self.name = name
        try:
            self._content = Opener(read, size_bytes, key)
            length = int.from_bytes(self._content.read(0, LENGTH_BYTES), "big")
            if length > MAX_HEADER_BYTES:
                raise Damaged("its header is too long")
            self.header: Header = decode_header(self._content.read(LENGTH_BYTES, length))
        except (Damaged, Malformed) as error:
            raise SegmentDamaged(str(name), str(error)) from None
        self.signed = self._content.version > 1
        header_bytes = LENGTH_BYTES + length
        self._at = header_bytes
        self._padding = padding_bytes(self.header, header_bytes)
        if self.header.version != self._content.version:
            raise SegmentDamaged(str(name), "its header has another version")
        if self.header.name != name:
            raise SegmentDamaged(str(name), "its header names another object")
        if header_bytes + self.header.payload_bytes + self._padding != self._content.content_bytes:
            raise SegmentDamaged(str(name), "its length is not what its header says")

    def pages(self) -> Iterator[tuple[int, bytes]]:
        """The pages it holds: number of the first, and one or more neighbours, in ascending order."""
        if self.header.database is None:
            return
        at, most = self._at, _PIECE_BYTES // PAGE_BYTES
        for first, count in self.header.database.runs:
            for start in range(0, count, most):
                size = min(most, count - start) * PAGE_BYTES
                yield first + start, self._read(at, size)
                at += size

    def files(self) -> Iterator[tuple[str, Iterator[bytes]]]:
        """The files it holds, each in pieces."""
        at = self._at + (self.header.database.held * PAGE_BYTES if self.header.database else 0)
        for name, size in self.header.files:
            yield name, self._pieces(at, size)
            at += size

    def file(self, wanted: str) -> bytes | None:
        """The whole of a small file; None when the segment does not have it."""
        return next((b"".join(pieces) for name, pieces in self.files() if name == wanted), None)

    def check(self) -> None:
        """Read everything once, padding included."""
        for _ in self.pages():
            pass
        for _, pieces in self.files():
            for _ in pieces:
                pass
        for piece in self._pieces(self._content.content_bytes - self._padding, self._padding):
            if piece.count(0) != len(piece):
                raise SegmentDamaged(str(self.name), "its padding is not zeros")

    def _pieces(self, at: int, size: int) -> Iterator[bytes]:
        for start in range(0, size, _PIECE_BYTES):
            yield self._read(at + start, min(_PIECE_BYTES, size - start))

    def _read(self, at: int, size: int) -> bytes:
        try:
            return self._content.read(at, size)
        except Damaged as error:
            raise SegmentDamaged(str(self.name), str(error)) from None


@contextmanager
def open_file(path: Path, name: SegmentName, key: bytes | PrivateKey) -> Iterator[OpenSegment]:
    """A segment that lies in a local file, by its content key or the private key.

    Raises:
        SegmentDamaged: it is not that segment. StorageFailed: the file cannot be read.
    """
    with storage_errors():
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:

            def _read(offset: int, size: int) -> bytes:
                return os.pread(descriptor, size, offset)

            found = key if isinstance(key, bytes) else content_key(name, _read, key)
            yield OpenSegment(name, _read, os.fstat(descriptor).st_size, found)
        finally:
            os.close(descriptor)
