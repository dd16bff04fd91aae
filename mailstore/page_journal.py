"""Which pages of mail.db checkpoints have written: a record for the snapshot job, which has no key.

A checkpoint moves pages from the WAL, where their numbers can be read, into the main file, where a change
leaves no trace. So every checkpoint notes the page numbers first. The notes form a chain by the main file's
identity before and after; where it is broken (another tool wrote, notes were lost) or the journal is missing,
the snapshot job takes the whole file: losing it costs only work. The job makes the journal; without it
nothing is noted. FORMAT.md section 10.
"""

from __future__ import annotations

import base64
import json
import os
import struct
import sys
import zlib
from array import array
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mailstore.durable import sync_folder, write_new
from mailstore.wal import WalFrames, WalPosition, frames_of

PAGE_JOURNAL = "mail.db-checkpoints"
"""The journal's name, beside mail.db."""

MAX_JOURNAL_BYTES = 8 * 1024 * 1024
"""A longer journal is thrown away: nobody has read it for a long time, and a full copy is due anyway."""

_CRC_CHARS = 8
_SUMS = struct.Struct(">II")


@dataclass(frozen=True, slots=True)
class FileIdentity:
    """What tells one state of a file from another: inode, size in bytes, time of change in ns."""

    inode: int
    size_bytes: int
    mtime_ns: int


def identity(path: Path) -> FileIdentity | None:
    """The identity of a file now; None when it is missing. Raises OSError."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return FileIdentity(found.st_ino, found.st_size, found.st_mtime_ns)


@dataclass(frozen=True, slots=True)
class Checkpointed:
    """One checkpoint: the pages of the WAL's frames in order, the main file before and after.

    ``after`` None means that it was begun and its end was not seen.
    """

    salts: bytes
    pages: tuple[int, ...] = field(repr=False)
    commits: Mapping[int, bytes] = field(repr=False)
    """As in ``mailstore.wal.WalFrames``."""

    before: FileIdentity
    after: FileIdentity | None = None
    frames: int = 0
    """How many of the frames SQLite knew; 0 while the end was not seen."""

    def has(self, seen: WalPosition) -> bool:
        """Whether the log was the one that ``seen`` is of, and what was read then was committed."""
        known = self.salts == seen.salts and seen.frames <= self.frames
        return known and self.commits.get(seen.frames) == seen.checksum


@dataclass(slots=True)
class Checkpoint:
    """What whoever runs a checkpoint reports about it."""

    frames: int = 0
    """How many frames of the log SQLite knows."""


@contextmanager
def recorded(main: Path, wal: Path, journal: Path) -> Iterator[Checkpoint]:
    """Record the checkpoint that runs inside; nobody else may write to the database meanwhile.

    The first line is on disk before the checkpoint begins, so no change of the main file goes unnoticed
    after a power cut; without its second line it still counts. Raises OSError: the checkpoint may not run.
    """
    checkpoint = Checkpoint()
    before = identity(main)
    found = _frames(wal) if before is not None and journal.exists() else None
    if before is None or found is None or not found.pages:
        yield checkpoint
        return
    first = {"before": _plain(before), "salts": found.salts.hex(), "pages": _packed(found.pages)}
    _note(journal, {**first, "commits": _packed(_words(found.commits))})
    yield checkpoint
    after = identity(main)
    if after is not None:
        _note(journal, {"after": _plain(after), "frames": checkpoint.frames})


def make_journal(journal: Path) -> None:
    """Begin to keep notes. The caller holds the account's lock. Raises OSError.

    The folder is not fsynced: a journal that a power cut takes away is a missing one.
    """
    if not journal.exists():
        write_new(journal, b"")


def read_journal(journal: Path) -> list[Checkpointed] | None:
    """All checkpoints noted, oldest first; None when there is no journal. Raises OSError.

    A line that a crash has cut is passed over: its checkpoint had not begun, or its end is not known.
    """
    try:
        lines = journal.read_bytes().splitlines()
    except FileNotFoundError:
        return None
    found: list[Checkpointed] = []
    for line in lines:
        tree = _tree(line)
        if tree is None:
            continue
        if "pages" in tree:
            commits = _commits(_unpacked(tree.get("commits", _NOTHING)))
            pages, before = _unpacked(tree["pages"]), FileIdentity(*tree["before"])
            found.append(Checkpointed(bytes.fromhex(tree["salts"]), pages, commits, before))
        elif found and found[-1].after is None:
            after = FileIdentity(*tree["after"])
            found[-1] = replace(found[-1], after=after, frames=tree.get("frames", 0))
    return found


def written_since(
    records: Sequence[Checkpointed],
    known: FileIdentity,
    now: FileIdentity,
    seen: WalPosition | None,
) -> set[int] | None:
    """Pages of the main file that checkpoints have written since it was ``known``; None: not known.

    ``seen`` says how far the WAL had been read then: those pages are known already.
    """
    start = next((index for index, record in enumerate(records) if record.before == known), None)
    if start is None:
        return set() if known == now else None
    chain = records[start:]
    for record, following in zip(chain, [*(one.before for one in chain[1:]), now], strict=True):
        if record.after is not None and record.after != following:
            return None
    pages: set[int] = set()
    for record in chain:
        pages.update(record.pages[seen.frames if seen is not None and record.salts == seen.salts else 0 :])
    return pages


def forget_until(journal: Path, records: Sequence[Checkpointed], known: FileIdentity) -> None:
    """Empty the journal when nothing in it is newer than ``known``. Raises OSError."""
    if records and records[-1].after == known:
        os.truncate(journal, 0)


def _frames(wal: Path) -> WalFrames | None:
    """What stands in the log, on disk before it is noted.

    Some commits are not synced (``Database.note``), and neither is the WAL by a checkpoint that a reader
    prevents from copying. If a note outlived what it describes, another transaction would be mistaken for it.
    """
    try:
        descriptor = os.open(wal, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        os.fsync(descriptor)
        return frames_of(lambda offset, size: os.pread(descriptor, size, offset))
    finally:
        # This is not the file that SQLite's own locks are on, so closing it drops none of them.
        os.close(descriptor)


def _note(journal: Path, tree: dict[str, Any]) -> None:
    """Add a line and fsync it. A journal that cannot be kept is removed for good. Raises OSError."""
    if not _append(journal, _line(tree)):
        journal.unlink(missing_ok=True)
        sync_folder(journal.parent)


def _append(journal: Path, line: bytes) -> bool:
    try:
        descriptor = os.open(journal, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        size = os.fstat(descriptor).st_size
        if size + len(line) > MAX_JOURNAL_BYTES:
            return False
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            line = b"\n" + line  # after the rest of a line that a crash has cut off
        written = os.write(descriptor, line)
        os.fsync(descriptor)
    except OSError:
        return False
    else:
        return written == len(line)
    finally:
        os.close(descriptor)


def _line(tree: dict[str, Any]) -> bytes:
    text = json.dumps(tree, separators=(",", ":")).encode("ascii")
    return b"%08x %s\n" % (zlib.crc32(text), text)


def _tree(line: bytes) -> dict[str, Any] | None:
    crc, _, text = line.partition(b" ")
    if len(crc) != _CRC_CHARS or crc != b"%08x" % zlib.crc32(text):
        return None
    tree: dict[str, Any] = json.loads(text)
    return tree


def _plain(one: FileIdentity) -> list[int]:
    return [one.inode, one.size_bytes, one.mtime_ns]


def _words(commits: Mapping[int, bytes]) -> list[int]:
    """Three for each commit: its number of frames, and its checksum."""
    return [word for frames, sums in commits.items() for word in (frames, *_SUMS.unpack(sums))]


def _commits(words: Sequence[int]) -> dict[int, bytes]:
    triples = zip(words[::3], words[1::3], words[2::3], strict=True)
    return {frames: _SUMS.pack(first, second) for frames, first, second in triples}


def _packed(numbers: Sequence[int]) -> str:
    words = array("I", numbers)
    if sys.byteorder == "big":
        words.byteswap()
    return base64.b64encode(zlib.compress(words.tobytes(), 1)).decode("ascii")


def _unpacked(text: str) -> tuple[int, ...]:
    words = array("I")
    words.frombytes(zlib.decompress(base64.b64decode(text)))
    if sys.byteorder == "big":
        words.byteswap()
    return tuple(words)


_NOTHING = _packed(())
"""Notes of earlier versions tell of no commits."""
