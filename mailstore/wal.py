"""Read a write-ahead log without a key: its headers and checksums are in the clear, its pages are not.

The layout is SQLite's (the "WAL-mode File Format"): a header of 32 bytes, then frames, each a header of
24 bytes and one page. A frame counts when its salts are the header's, the running checksum is right and
a later frame, or itself, ends a transaction. Pure but for the ``read`` function that is passed in.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field

HEADER_BYTES = 32
FRAME_HEADER_BYTES = 24
_HEADER = struct.Struct(">IIIIIIII")
_FRAME = struct.Struct(">IIIIII")
_SUMS = slice(16, 24)
"""Where in a frame its checksum is."""

_MAGIC_LITTLE, _MAGIC_BIG = 0x377F0682, 0x377F0683
_VERSION = 3_007_000
_MASK = 0xFFFFFFFF
_FRAMES_AT_ONCE = 128
"""Frames read with one call: half a megabyte."""

Read = Callable[[int, int], bytes]
"""``read(offset, size)``: the bytes there, fewer at the end of the file."""


@dataclass(frozen=True, slots=True)
class WalPosition:
    """A commit in a write-ahead log. Two logs of one database never have the same salts."""

    salts: bytes
    frames: int
    """Frames up to and with the commit."""

    database_pages: int
    """Size of the database after the commit, in pages."""

    checksum: bytes
    """The 8 octets in its last frame that sum up all of the log before it.

    Frames may be replaced by others: see ``WalContent.commits``.
    """


@dataclass(frozen=True, slots=True)
class WalContent:
    """The committed frames of a log; ``latest`` maps a page to the number of its newest frame, from 0.

    SQLite may not know the last transaction: its writer was killed, or the power failed, when it was complete
    in the log but not yet visible to anybody; as long as other processes have the database open, they
    overwrite it with their next transaction.
    """

    position: WalPosition
    page_size: int
    latest: dict[int, int] = field(repr=False)
    commits: dict[int, bytes] = field(repr=False)
    """Each commit: the number of frames up to and with it, and its checksum."""

    def offset(self, page_number: int) -> int:
        """Where in the log the newest version of a page begins. Raises KeyError if it is not there."""
        frame = self.latest[page_number]
        return HEADER_BYTES + frame * (FRAME_HEADER_BYTES + self.page_size) + FRAME_HEADER_BYTES


@dataclass(frozen=True, slots=True)
class WalFrames:
    """Every frame of a log, unchecked: there may be more than were committed, never fewer."""

    salts: bytes
    pages: list[int] = field(repr=False)
    """The page of each frame, in order."""

    commits: dict[int, bytes] = field(repr=False)
    """As in :class:`WalContent`."""


@dataclass(frozen=True, slots=True)
class _Header:
    word: str
    page_size: int
    salts: bytes
    checksum: tuple[int, int]


def salts_of(read: Read) -> bytes | None:
    """The salts in the log's header; None when it has no valid header."""
    header = _header(read)
    return None if header is None else header.salts


def read_wal(read: Read) -> WalContent | None:
    """All frames up to the last commit that is there entirely; None when there is none."""
    header = _header(read)
    if header is None:
        return None
    checksum = header.checksum
    latest: dict[int, int] = {}
    pending: dict[int, int] = {}
    commits: dict[int, bytes] = {}
    stride = FRAME_HEADER_BYTES + header.page_size
    number, size = 0, 0
    while True:
        block = read(HEADER_BYTES + number * stride, stride * _FRAMES_AT_ONCE)
        for start in range(0, len(block) - stride + 1, stride):
            frame = memoryview(block)[start : start + stride]
            page, database_pages, _, _, first, second = _FRAME.unpack_from(frame)
            if page == 0 or frame[8:16] != header.salts:
                break
            checksum = _checksum(frame[:8], checksum, header.word)
            checksum = _checksum(frame[FRAME_HEADER_BYTES:], checksum, header.word)
            if checksum != (first, second):
                break
            pending[page] = number
            number += 1
            if database_pages:
                latest |= pending
                pending.clear()
                commits[number] = bytes(frame[_SUMS])
                size = database_pages
        else:
            if len(block) == stride * _FRAMES_AT_ONCE:
                continue
        if not commits:
            return None
        last = max(commits)
        position = WalPosition(header.salts, last, size, commits[last])
        return WalContent(position, header.page_size, latest, commits)


def frames_of(read: Read) -> WalFrames | None:
    """What the headers of all frames say; None without a valid header."""
    header = _header(read)
    if header is None:
        return None
    pages: list[int] = []
    commits: dict[int, bytes] = {}
    stride = FRAME_HEADER_BYTES + header.page_size
    while True:
        raw = read(HEADER_BYTES + len(pages) * stride, FRAME_HEADER_BYTES)
        if len(raw) < FRAME_HEADER_BYTES or raw[8:16] != header.salts:
            return WalFrames(header.salts, pages, commits)
        page, database_pages, *_ = _FRAME.unpack(raw)
        pages.append(page)
        if database_pages:
            commits[len(pages)] = raw[_SUMS]


def _header(read: Read) -> _Header | None:
    raw = read(0, HEADER_BYTES)
    if len(raw) < HEADER_BYTES:
        return None
    magic, version, page_size, _, _, _, first, second = _HEADER.unpack(raw)
    if magic not in (_MAGIC_LITTLE, _MAGIC_BIG) or version != _VERSION:
        return None
    if not 512 <= page_size <= 65_536 or page_size & (page_size - 1):
        return None
    # The magic number says in which byte order the words are summed, not how the sums are stored.
    word = "<II" if magic == _MAGIC_LITTLE else ">II"
    if _checksum(raw[:24], (0, 0), word) != (first, second):
        return None
    return _Header(word, page_size, raw[16:24], (first, second))


def _checksum(data: bytes | memoryview, start: tuple[int, int], word: str) -> tuple[int, int]:
    first, second = start
    for one, two in struct.iter_unpack(word, data):
        first = (first + one + second) & _MASK
        second = (second + two + first) & _MASK
    return first, second
