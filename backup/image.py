"""The image of an account's database while its lock is held: no key, no SQLite (FORMAT.md section 1).

Why it is one committed state, and not an older one than the image before. Only checkpoints write the main
file, and they hold the lock alone. A log that grows leaves its committed frames as they are; whoever commits
has written all of its frames before anybody is told, so they are read by whoever looks later. A log that is
restarted had been copied to the main file entirely, and its header is written before its first frame: either
another one is there after the last frame has been read, and ``check`` says so, or all frames were of one log.
Where no committed frame is found at all, the main file has everything. What is left is a transaction that is
whole in the log and that SQLite does not know, because its writer was killed; see ``_stands``.

Only the backup job's process and restores use this, because closing a descriptor of mail.db drops
every POSIX lock that SQLite holds on it in the same process.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from backup.errors import ImageUnreadable
from backup.segment import PAGE_BYTES, Run
from mailstore.account import AccountPaths
from mailstore.page_journal import (
    Checkpointed,
    FileIdentity,
    forget_until,
    identity,
    make_journal,
    read_journal,
    written_since,
)
from mailstore.wal import Read, WalContent, WalPosition, read_wal, salts_of

_PLAIN_SQLITE = b"SQLite format 3\0"
_PAGES_AT_ONCE = 256
"""Neighbouring pages of the main file that are read with one call: a megabyte."""

TRIES = 5
"""How often reading is tried when writers disturb it; each try takes the account's lock again."""


class Disturbed(Exception):
    """A writer restarted the log while it was read: discard what was copied."""


@dataclass(frozen=True, slots=True)
class Position:
    """How far a database had been read: the main file as it was, and the log up to a commit."""

    main: FileIdentity
    wal: WalPosition | None


@dataclass(slots=True)
class Image:
    """The database as it is now. Valid inside ``image_of`` only."""

    pages: int
    position: Position
    changed: frozenset[int] | None
    """Pages that may differ from the state at the position asked for; None: any page may."""

    _main: int = field(repr=False)
    _read_wal: Read = field(repr=False)
    _wal: WalContent | None = field(repr=False)

    def content(self, runs: tuple[Run, ...]) -> Iterator[bytes]:
        """The pages of ``runs``, in pieces. Raises ImageUnreadable, OSError."""
        in_log = self._wal.latest if self._wal is not None else {}
        for first, count in runs:
            number, end = first, first + count
            while number < end:
                stop = number + 1
                if number not in in_log:
                    most = min(end, number + _PAGES_AT_ONCE)
                    while stop < most and stop not in in_log:
                        stop += 1
                yield self._pages(number, stop - number, in_log=number in in_log)
                number = stop

    def _pages(self, number: int, count: int, *, in_log: bool) -> bytes:
        if in_log and self._wal is not None:
            data = self._read_wal(self._wal.offset(number), PAGE_BYTES)
        else:
            data = os.pread(self._main, count * PAGE_BYTES, (number - 1) * PAGE_BYTES)
        if len(data) != count * PAGE_BYTES:
            raise ImageUnreadable("a page of the database is missing")
        return data

    def page(self, number: int) -> bytes:
        """One page. Raises ImageUnreadable, OSError."""
        return self._pages(number, 1, in_log=self._wal is not None and number in self._wal.latest)

    def check(self) -> None:
        """Call this after the last read. Raises Disturbed: read everything again."""
        _check(self._read_wal, self._wal)


@contextmanager
def image_of(
    paths: AccountPaths, since: Position | None, *, keep_notes: bool = True
) -> Iterator[Image | None]:
    """The image of the account's database; None when there is none yet. Hold the account's lock.

    With ``keep_notes`` the journal of checkpoints is made where it is missing, and emptied of what is
    known at ``since``: only whoever remembers the position may ask for that.

    Raises:
        ImageUnreadable: this is no database of ours. Disturbed: try again. OSError: it cannot be read.
    """
    with ExitStack() as stack:
        main = _opened(stack, paths.mail_db)
        now = identity(paths.mail_db)
        if main is None or now is None:
            yield None
            return
        wal = _opened(stack, paths.wal)
        read = _reader(wal)
        whole = read_wal(read)
        _check(read, whole)
        if whole is None and now.size_bytes == 0:
            yield None
            return
        if os.pread(main, len(_PLAIN_SQLITE), 0) == _PLAIN_SQLITE:
            raise ImageUnreadable("the database is not encrypted")
        if now.size_bytes % PAGE_BYTES or (whole is not None and whole.page_size != PAGE_BYTES):
            raise ImageUnreadable("the database has pages of another size")
        pages = whole.position.database_pages if whole else now.size_bytes // PAGE_BYTES
        position = Position(now, whole.position if whole else None)
        changed = _changed(paths.page_journal, since, now, whole, keep_notes=keep_notes)
        yield Image(
            pages,
            position,
            None if changed is None else frozenset(page for page in changed if page <= pages),
            main,
            read,
            whole,
        )


def _changed(
    journal: Path, since: Position | None, now: FileIdentity, whole: WalContent | None, *, keep_notes: bool
) -> set[int] | None:
    records = read_journal(journal)
    if records is None:
        # From now on checkpoints leave notes; whatever was before is not known.
        if keep_notes:
            make_journal(journal)
        return None
    # The newest note is needed as long as the log that it is of is there: see _stands.
    done_with = keep_notes and not (records and whole and records[-1].salts == whole.position.salts)
    if since is None:
        if done_with:
            forget_until(journal, records, now)
        return None
    seen = since.wal
    written = written_since(records, since.main, now, seen)
    if written is None or (seen is not None and not _stands(seen, whole, records)):
        return None
    if done_with:
        forget_until(journal, records, since.main)
    if whole is not None:
        known = seen.frames if seen is not None and seen.salts == whole.position.salts else 0
        written |= {page for page, frame in whole.latest.items() if frame >= known}
    return written


def _stands(seen: WalPosition, whole: WalContent | None, records: Sequence[Checkpointed]) -> bool:
    """Whether all that was read from a log has become part of the database.

    Its last transaction may have been one that SQLite never knew, and another has been written over it since;
    its pages would stay in the snapshots for good, because nothing tells them (FORMAT.md section 1).
    """
    if not seen.checksum:
        return True  # noted by an earlier version, without a checksum: accept it once
    if whole is not None and whole.position.salts == seen.salts:
        return whole.commits.get(seen.frames) == seen.checksum
    return any(record.has(seen) for record in records)


def _check(read: Read, whole: WalContent | None) -> None:
    """Whether the log is still the one that was read; without a committed frame it was none."""
    if whole is not None and salts_of(read) != whole.position.salts:
        raise Disturbed


def _opened(stack: ExitStack, path: Path) -> int | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    stack.callback(os.close, descriptor)
    return descriptor


def _reader(descriptor: int | None) -> Read:
    if descriptor is None:
        return lambda _offset, _size: b""
    return lambda offset, size: os.pread(descriptor, size, offset)
