"""Rebuild the state of one account from its segments, in a folder of its own.

Every segment is fetched, checked to its last octet and only then applied; what it names as its
predecessor must be what was applied before. It does not know where the account will be installed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from backup.errors import ChainBroken, ChainLinkBroken, ObjectMissing, SegmentDamaged
from backup.reading import OpenSegment, open_file
from backup.segment import INBOX_PREFIX, KEYS_FILE, PAGE_BYTES, Kind, SegmentName
from backup.source import Progress, Source
from mailstore.durable import make_folder, remove_tree, replace_file, storage_errors, sync_folder, write_new

_PROGRESS = "restoring"
_PARTS = ("mail.db", KEYS_FILE, "inbox", _PROGRESS)
"""What a folder may contain when an interrupted rebuild continues in it."""


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What was rebuilt. ``sha256`` is the hash of the newest segment's object."""

    account: str
    newest: SegmentName
    sha256: bytes
    pages: int
    waiting_mail: int = 0
    passed_over: tuple[str, ...] = ()
    """Objects that turned out not to belong to it, each with the reason."""

    generation: int = 0
    """That of the newest segment, see :class:`backup.segment.Header`."""

    damage: str | None = None
    """What was already wrong with the database when the snapshot was taken, as far as can be seen."""


class Rebuilder:
    """Rebuilds accounts below ``scratch``, which has room for an account and its largest segment."""

    def __init__(self, source: Source, scratch: Path, threads: int, progress: Progress | None = None) -> None:
        self._source = source
        self._scratch = scratch
        self._threads = threads
        self._progress = progress

    def rebuild(
        self,
        names: Sequence[SegmentName],
        folder: Path,
        *,
        account: str | None = None,
        expected: Mapping[int, bytes] | None = None,
        check: Callable[[OpenSegment], None] = OpenSegment.check,
    ) -> Rebuilt:
        """The state after the last of ``names``, a full segment and the changes behind it.

        ``account`` is the owner that all segments must have, ``expected`` has hashes known from elsewhere, by
        sequence; ``check`` reads all of a segment. What an interrupted attempt left in the folder is used as
        far as it fits. Sound segments are applied before a damaged one is met.

        Raises:
            SegmentDamaged, ChainBroken: naming the object. ObjectStoreError, StorageFull, StorageFailed.
        """
        rebuilt = self.go_on(names, folder, account=account, expected=expected, check=check)
        forget_progress(folder)
        return rebuilt

    def go_on(
        self,
        names: Sequence[SegmentName],
        folder: Path,
        *,
        account: str | None,
        expected: Mapping[int, bytes] | None,
        check: Callable[[OpenSegment], None] = OpenSegment.check,
    ) -> Rebuilt:
        """As :meth:`rebuild`; but the folder remembers what it has until :func:`forget_progress`, so that
        later segments can be added."""
        if not names or names[0].kind is not Kind.FULL:
            raise ChainBroken(str(names[0]) if names else "nothing", "there is no full segment to begin with")
        with storage_errors():
            make_folder(folder)
        done, rebuilt = _progress_in(folder, names)
        with storage_errors():
            _clear(folder, done)
            make_folder(folder / "inbox")
        with self._source.fetched(names[done:], self._scratch, self._threads, self._progress) as coming:
            try:
                for name, path, digest in coming:
                    previous = rebuilt.sha256 if rebuilt else None
                    try:
                        _check_hash(name, digest, expected)
                        with open_file(path, name, self._source.key(name)) as segment:
                            self._source.check_writer(segment, path)
                            check_origin(segment, account, previous)
                            check(segment)
                            if rebuilt is not None:
                                _note_progress(folder, rebuilt, begun=name)
                            _apply(segment, folder)
                    except (SegmentDamaged, ChainBroken):
                        path.unlink(missing_ok=True)  # it may be sound when it is fetched again
                        raise
                    rebuilt = _described(segment, digest)
                    _note_progress(folder, rebuilt)
            except ObjectMissing as error:
                raise ChainBroken(str(error), "it is missing in the object store") from None
        assert rebuilt is not None, "there is at least one segment"
        with storage_errors():
            return replace(rebuilt, waiting_mail=sum(1 for _ in (folder / INBOX_PREFIX).iterdir()))


def forget_progress(folder: Path) -> None:
    """Nothing more is added to what was rebuilt there. Raises StorageFailed."""
    with storage_errors():
        (folder / _PROGRESS).unlink(missing_ok=True)


def _clear(folder: Path, done: int) -> None:
    """Remove what does not belong to the part that an earlier attempt has ``done``, which may be everything.

    Above all a write-ahead log, which would be taken for the restored database's.
    """
    if not done:
        remove_tree(folder / _PROGRESS)  # before the files that it is about
    for path in folder.iterdir():
        if not done or path.name not in _PARTS:
            remove_tree(path)


def _note_progress(folder: Path, rebuilt: Rebuilt, begun: SegmentName | None = None) -> None:
    """Note what ``folder`` contains, and from which segment it may contain a part since then."""
    what = (rebuilt.newest, rebuilt.sha256.hex(), rebuilt.account, rebuilt.pages, rebuilt.generation)
    facts = (*what, begun or "")
    with storage_errors():
        replace_file(folder / _PROGRESS, " ".join(map(str, facts)).encode("ascii") + b"\n")


def _progress_in(folder: Path, names: Sequence[SegmentName]) -> tuple[int, Rebuilt | None]:
    """How many of ``names`` an earlier attempt has applied, and the result.

    None, if it had begun to apply a segment that is not the next one: half of that may be there.
    """
    with storage_errors():
        try:
            facts = (folder / _PROGRESS).read_text("ascii").split()
        except FileNotFoundError:
            return 0, None
    for position, name in enumerate(names):
        following = [str(one) for one in names[position + 1 : position + 2]]
        # What an earlier version has noted, without a generation, is not gone on with.
        if len(facts) >= 5 and str(name) == facts[0] and facts[5:] in ([], following):
            digest, pages, generation = bytes.fromhex(facts[1]), int(facts[3]), facts[4]
            if generation.isdecimal():
                return position + 1, Rebuilt(facts[2], name, digest, pages, generation=int(generation))
    return 0, None


def _check_hash(name: SegmentName, digest: bytes, expected: Mapping[int, bytes] | None) -> None:
    known = (expected or {}).get(name.sequence)
    if known is not None and known != digest:
        raise SegmentDamaged(str(name), "it is not the object that was written")


def breaks_chain(segment: OpenSegment, previous: bytes | None) -> bool:
    """Whether a segment names another predecessor than ``previous``, the hash of the object before it.

    A full segment need not name any: the first one after a restore knows no predecessor.
    """
    named = segment.header.previous
    if named is None:
        return previous is not None and segment.name.kind is not Kind.FULL
    return previous is not None and named != previous


def check_origin(segment: OpenSegment, account: str | None, previous: bytes | None) -> None:
    """Check that a segment is of this account and builds on the object with the hash ``previous``.

    Raises:
        SegmentDamaged: it is another account's. ChainLinkBroken: it builds on something else.
    """
    if account is not None and segment.header.account != account:
        raise SegmentDamaged(str(segment.name), "it belongs to another account")
    if breaks_chain(segment, previous):
        raise ChainLinkBroken(str(segment.name), "it does not build on the object before it")


def _apply(segment: OpenSegment, folder: Path) -> None:
    header = segment.header
    with storage_errors():
        if header.database is not None:
            descriptor = os.open(folder / "mail.db", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                for first, data in segment.pages():
                    os.pwrite(descriptor, data, (first - 1) * PAGE_BYTES)
                os.ftruncate(descriptor, header.database.pages * PAGE_BYTES)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        for name, pieces in segment.files():
            target = folder / name
            target.unlink(missing_ok=True)
            write_new(target, b"".join(pieces))
        for name in header.removed:
            (folder / name).unlink(missing_ok=True)
        sync_folder(folder / "inbox")
        sync_folder(folder)


def _described(segment: OpenSegment, digest: bytes) -> Rebuilt:
    header = segment.header
    pages = header.database.pages if header.database else 0
    return Rebuilt(header.account, segment.name, digest, pages, generation=header.generation)
