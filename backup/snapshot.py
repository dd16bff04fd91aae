"""Take one snapshot: what changed in an account since the last one, sealed into a file of the staging folder.

No key of the account, no SQLite on its database, no network. Under the account's shared lock the
changed pages are copied, already sealed, and the state is recorded; then the lock is let go.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

from backup.errors import ImageUnreadable
from backup.image import TRIES, Disturbed, Image, image_of
from backup.limits import BackupLimits
from backup.reading import open_file
from backup.retention import dated_ahead, full_is_due
from backup.segment import (
    INBOX_PREFIX,
    KEYS_FILE,
    PAGE_BYTES,
    DatabasePart,
    Header,
    Kind,
    SegmentName,
    pages_of,
    runs_of,
)
from backup.signing import Signer
from backup.soundness import wrong_keys, wrong_page
from backup.staging import staged_name, write_segment
from backup.state import Segment, State, Stream, new_stream
from mailstore.account import AccountPaths, account_paths, shared_lock
from mailstore.damage import tell
from mailstore.durable import storage_errors
from mailstore.errors import Busy, NoSuchAccount, NoSuchMessage
from mailstore.inbox_size import SUFFIX
from mailstore.keys import AccountId, PublicKey
from mailstore.page_journal import identity
from mailstore.restored_mark import restored_without_database
from mailstore.sealed import pending, read_sealed
from mailstore.staged_keys import is_staged

_COPY_BYTES = 1024 * 1024
_NEVER_MS = 2**63
"""A time that no clock reaches, so that nothing is ever found dated ahead."""


def fingerprint(paths: AccountPaths) -> str | None:
    """A value that changes whenever the account does, from four stat calls; None: no such account."""
    found = [identity(path) for path in (paths.keys, paths.mail_db, paths.wal, paths.inbox)]
    if found[0] is None:
        return None
    return ";".join("-" if one is None else f"{one.inode},{one.size_bytes},{one.mtime_ns}" for one in found)


class _NeedsFull(Exception):
    """It is not known what changed: everything has to be copied."""


@dataclass(frozen=True, slots=True)
class _Mail:
    """Sealed messages waiting in the inbox; those to be copied are in the spool file, in this order."""

    names: frozenset[str] = field(repr=False)
    spooled: tuple[tuple[str, int], ...] = field(repr=False)
    spool: Path


@dataclass(frozen=True, slots=True)
class _Base:
    """What the new segment builds on."""

    stream: Stream
    before: tuple[Segment, ...]
    replaced: tuple[Segment, ...]
    known_mail: frozenset[str] = field(repr=False)
    generation: int

    @property
    def has_come(self) -> bool:
        """Whether the account was on another node since."""
        return self.generation > self.stream.generation

    @property
    def sequence(self) -> int:
        """The new segment's number."""
        return _sequence(self.before, self.replaced)

    def is_dated_ahead(self, now_ms: int, sure_ms: int) -> bool:
        """Whether the newest segment that stays is dated ahead, and the clock is right again."""
        return bool(self.before) and dated_ahead(self.before[-1].name.taken_ms, now_ms, sure_ms)


class Snapshotter:
    """Takes snapshots into the staging folder, one at a time; it blocks."""

    def __init__(
        self,
        root: Path,
        state: State,
        staging: Path,
        public_key: PublicKey,
        signer: Signer,
        limits: BackupLimits,
        clock: Callable[[], float] = time.time,
        sure_ms: Callable[[], int] = lambda: _NEVER_MS,
    ) -> None:
        """``sure_ms`` is the latest time at which ``clock`` was believed, in ms since the epoch."""
        self._root = root
        self._state = state
        self._staging = staging
        self._public_key = public_key
        self._signer = signer
        self._limits = limits
        self._clock = clock
        self._sure_ms = sure_ms

    def clean(self) -> None:
        """Remove what a crash has left in the staging folder. Raises StorageFailed."""
        known = {staged_name(one.name) for one in self._state.waiting()}
        with storage_errors():
            for path in self._staging.iterdir():
                if path.name not in known:
                    path.unlink()

    def take(self, account_id: AccountId, *, merge: bool = False, generation: int = 0) -> Segment | None:
        """A snapshot of one account; None when nothing changed since the last.

        With ``merge`` it replaces those that still wait to be uploaded. ``generation`` is what the directory
        says of the account, from before this; the first snapshot after it came from another node is full.

        Raises:
            NoSuchAccount: it has been deleted. Busy: its lock is held for long. ImageUnreadable,
            StorageFull, StorageFailed: nothing was recorded.
        """
        paths = account_paths(self._root, account_id)
        base = self._base(account_id, generation, merge=merge)
        full = self._full(base)
        for _ in range(TRIES):
            try:
                with storage_errors():
                    taken = self._attempt(paths, base, full=full)
                    for one in base.replaced if taken else ():
                        (self._staging / staged_name(one.name)).unlink(missing_ok=True)
                    return taken
            except _NeedsFull:
                full = True
            except Disturbed:
                continue
        raise ImageUnreadable("writers kept restarting the write-ahead log")

    def _base(self, account_id: AccountId, generation: int, *, merge: bool) -> _Base:
        stream = self._state.stream(account_id) or new_stream(account_id)
        segments = self._state.segments(stream.stream)
        before = tuple(one for one in segments if one.stored or not merge)
        replaced = tuple(segments[len(before) :])
        known = self._state.waiting_mail(stream.stream, _sequence(before, replaced))
        return _Base(stream, before, replaced, known, generation if generation > 1 else 0)

    def _full(self, base: _Base) -> bool:
        if base.has_come or any(one.name.kind is Kind.FULL for one in base.replaced):
            return True
        return full_is_due(base.before, int(self._clock() * 1000), self._sure_ms(), self._limits)

    def _attempt(self, paths: AccountPaths, base: _Base, *, full: bool) -> Segment | None:
        mark = fingerprint(paths)
        if mark is None:
            raise NoSuchAccount
        keys = paths.keys.read_bytes()
        spool = self._staging / f"{base.stream.stream}.spool"
        try:
            # Before the database: mail that is filed meanwhile is then in at least one of the two.
            mail = _spooled(paths, frozenset() if full else base.known_mail, spool)
            with (
                shared_lock(paths, self._limits.lock_wait_s),
                image_of(paths, None if full else base.stream.position) as image,
            ):
                if is_staged(paths):
                    raise Busy  # its key header and its database may not belong together
                if paths.keys.read_bytes() != keys:
                    raise Disturbed  # with a new master key came a file that the spooled mail needs
                had_one = base.stream.position is not None
                if image is None and had_one and not restored_without_database(paths):
                    # No restore removed it: a full segment without it would outlive those that have it.
                    raise ImageUnreadable("the database is gone")
                stream = replace(
                    base.stream,
                    fingerprint=mark,
                    gone_ms=None,
                    generation=base.generation,
                    position=image.position if image else None,
                    keys_sha256=hashlib.sha256(keys).digest(),
                )
                header = self._header(base, image, mail, keys, full=full)
                segment = None
                if header is not None:
                    wrong: list[str] = []
                    payload = _payload(header, image, mail, keys, wrong.append)
                    segment = write_segment(self._staging, header, payload, self._public_key, self._signer)
                    # Taken all the same: it has the waiting mail, and what is sound of the database.
                    for what in wrong[:1]:
                        tell(header.account, f"snapshot taken, but {what}")
                try:
                    self._state.keep(
                        stream, segment, mail.names - base.known_mail, base.known_mail - mail.names
                    )
                except BaseException:
                    if segment is not None:  # its name is never used again, so nobody would remove it
                        (self._staging / staged_name(segment.name)).unlink(missing_ok=True)
                    raise
                return segment
        finally:
            spool.unlink(missing_ok=True)

    def _header(
        self, base: _Base, image: Image | None, mail: _Mail, keys: bytes, *, full: bool
    ) -> Header | None:
        """The header of the new segment; None when there is nothing new."""
        changed = frozenset() if full else self._changed(base, image)
        new_keys = full or bool(base.replaced) or hashlib.sha256(keys).digest() != base.stream.keys_sha256
        gone = () if full else tuple(sorted(base.known_mail - mail.names))
        if not full and not changed and not new_keys and not mail.spooled and not gone:
            return None
        kind = Kind.FULL if full else Kind.CHANGES
        database = None
        if image is not None:
            database = DatabasePart(image.pages, ((1, image.pages),) if full else runs_of(changed))
        return Header(
            SegmentName(base.stream.stream, base.sequence, self._taken_ms(base, kind), kind),
            base.stream.account,
            base.before[-1].sha256 if base.before else None,
            database,
            (*(((KEYS_FILE, len(keys)),) if new_keys else ()), *mail.spooled),
            gone,
            generation=base.generation,
        )

    def _taken_ms(self, base: _Base, kind: Kind) -> int:
        """Now; but within a stream time goes forward whatever the clock does.

        The exception: when a clock that was ahead is right again, a full segment, which builds on nothing,
        has its true time.
        """
        now_ms = int(self._clock() * 1000)
        earlier = base.replaced
        if kind is not Kind.FULL or not base.is_dated_ahead(now_ms, self._sure_ms()):
            earlier = (*base.before, *base.replaced)
        return max([now_ms, *(one.name.taken_ms + 1 for one in earlier)])

    def _changed(self, base: _Base, image: Image | None) -> frozenset[int]:
        if image is None and base.stream.position is None:
            return frozenset()
        if image is None or image.changed is None:
            raise _NeedsFull
        changed = set(image.changed)
        for one in base.replaced:
            path = self._staging / staged_name(one.name)
            with open_file(path, one.name, one.content_key) as staged:
                if staged.header.database is not None:
                    changed.update(pages_of(staged.header.database.runs))
        return frozenset(page for page in changed if page <= image.pages)


def _payload(
    header: Header, image: Image | None, mail: _Mail, keys: bytes, found_wrong: Callable[[str], None]
) -> Iterator[bytes]:
    """The content in its order; ``found_wrong`` is called once pages and keys have been read."""
    wrong = None
    if image is not None and header.database is not None:
        numbers = iter(pages_of(header.database.runs))
        for data in image.content(header.database.runs):
            first, more = next(numbers), len(data) // PAGE_BYTES - 1
            next(islice(numbers, more, more), None)
            wrong = wrong or wrong_page(first, data)
            yield data
        image.check()
    if header.files and header.files[0][0] == KEYS_FILE:
        wrong = wrong or wrong_keys(keys, header.account)
        yield keys
    if wrong is not None:
        found_wrong(wrong)
    if mail.spooled:
        with mail.spool.open("rb") as file:
            while piece := file.read(_COPY_BYTES):
                yield piece


def _sequence(before: tuple[Segment, ...], replaced: tuple[Segment, ...]) -> int:
    if before:
        return before[-1].name.sequence + 1
    return replaced[0].name.sequence if replaced else 1


def _spooled(paths: AccountPaths, known: frozenset[str], spool: Path) -> _Mail:
    """Copy new waiting mail to the spool file, because it may be filed and unlinked at any time."""
    names: set[str] = set()
    copied: list[tuple[str, int]] = []
    with spool.open("wb") as file:
        for sealed_id in pending(paths.inbox):
            name = f"{INBOX_PREFIX}{sealed_id}{SUFFIX}"
            if name not in known:
                try:
                    copied.append((name, file.write(read_sealed(paths.inbox, sealed_id))))
                except NoSuchMessage:
                    continue  # filed since it was listed: it is in the database
            names.add(name)
    return _Mail(frozenset(names), tuple(copied), spool)
