"""Put the state of one account together again from its segments, in a folder of its own.

Every segment is fetched, checked to its last octet and only then applied; what it names as its
predecessor must be what was applied before. Knows nothing of where the account will live.
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from backup.errors import ChainBroken, ObjectMissing, SegmentDamaged
from backup.reading import OpenSegment, open_file
from backup.segment import INBOX_PREFIX, KEYS_FILE, PAGE_BYTES, Kind, SegmentName
from backup.staging import staged_name
from backup.stores import ObjectStore
from mailstore.durable import make_folder, replace_file, storage_errors, sync_folder, write_new
from mailstore.keys import PrivateKey

GET_BYTES = 8 * 1024 * 1024
_PROGRESS = "restoring"

KeyFor = Callable[[SegmentName], "bytes | PrivateKey"]
"""The content key of a segment as the server kept it, or the operator's private key."""


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What was put together. ``sha256`` is of the newest segment's object."""

    account: str
    newest: SegmentName
    sha256: bytes
    pages: int
    waiting_mail: int


def fetch(
    store: ObjectStore, name: SegmentName, target: Path, progress: Callable[[int], None] | None = None
) -> bytes:
    """Copy an object into a local file, going on where an earlier try ended; its SHA-256.

    ``progress`` is told of every so many octets. Raises ObjectMissing, ObjectStoreError, StorageFull.
    """
    digest = hashlib.sha256()
    with storage_errors():
        target.touch()
        with target.open("r+b") as file:
            while piece := file.read(GET_BYTES):
                digest.update(piece)
            while piece := store.get(str(name), file.tell(), GET_BYTES):
                file.write(piece)
                digest.update(piece)
                if progress is not None:
                    progress(len(piece))
    return digest.digest()


@contextmanager
def fetched(
    store: ObjectStore,
    names: Sequence[SegmentName],
    scratch: Path,
    threads: int,
    progress: Callable[[int], None] | None = None,
) -> Iterator[Iterator[tuple[SegmentName, Path, bytes]]]:
    """Fetch objects in order, some ahead of the one being used; the files are removed by and by."""
    with ThreadPoolExecutor(threads) as pool:

        def _generate() -> Iterator[tuple[SegmentName, Path, bytes]]:
            ahead: deque[tuple[SegmentName, Path, Future[bytes]]] = deque()
            rest = iter(names)
            while True:
                while len(ahead) < threads and (name := next(rest, None)) is not None:
                    target = scratch / staged_name(name)
                    ahead.append((name, target, pool.submit(fetch, store, name, target, progress)))
                if not ahead:
                    return
                name, target, coming = ahead.popleft()
                yield name, target, coming.result()
                target.unlink(missing_ok=True)

        try:
            yield _generate()
        finally:
            pool.shutdown(cancel_futures=True)


class Rebuilder:
    """Rebuilds accounts below ``scratch``, which has room for an account and its largest segment."""

    def __init__(
        self,
        store: ObjectStore,
        key_for: KeyFor,
        scratch: Path,
        threads: int,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        self._store = store
        self._key_for = key_for
        self._scratch = scratch
        self._threads = threads
        self._progress = progress

    def rebuild(
        self, names: Sequence[SegmentName], folder: Path, *, expected: dict[int, bytes] | None = None
    ) -> Rebuilt:
        """The state after the last of ``names``, a full segment and the changes behind it.

        ``expected`` gives hashes that are known otherwise, by sequence. A folder that an earlier try of
        the same has left is gone on with. Segments that are good are applied before a bad one is met.

        Raises:
            SegmentDamaged, ChainBroken: naming the object. ObjectStoreError, StorageFull, StorageFailed.
        """
        if not names or names[0].kind is not Kind.FULL:
            raise ChainBroken(str(names[0]) if names else "nothing", "there is no full segment to begin with")
        with storage_errors():
            make_folder(folder)
            make_folder(folder / "inbox")
        done, previous = _progress_in(folder, names)
        rebuilt: Rebuilt | None = None
        with fetched(self._store, names[done:], self._scratch, self._threads, self._progress) as coming:
            try:
                for name, path, digest in coming:
                    try:
                        _check_hash(name, digest, expected)
                        with open_file(path, name, self._key_for(name)) as segment:
                            _check_link(segment, previous)
                            segment.check()
                            _apply(segment, folder)
                    except (SegmentDamaged, ChainBroken):
                        path.unlink(missing_ok=True)  # it may be good again when it is fetched again
                        raise
                    previous = digest
                    with storage_errors():
                        replace_file(folder / _PROGRESS, f"{name} {digest.hex()}\n".encode("ascii"))
                    rebuilt = _described(segment, digest, folder)
            except ObjectMissing as error:
                raise ChainBroken(str(error), "it is missing in the object store") from None
        if rebuilt is None:
            raise ChainBroken(str(names[-1]), "nothing was left to apply")
        with storage_errors():
            (folder / _PROGRESS).unlink()
            sync_folder(folder)
        return rebuilt


def _progress_in(folder: Path, names: Sequence[SegmentName]) -> tuple[int, bytes | None]:
    """How many of ``names`` an earlier try has applied, and the hash of the last; the last is done again."""
    with storage_errors():
        try:
            last, _, digest = (folder / _PROGRESS).read_text("ascii").strip().partition(" ")
        except FileNotFoundError:
            return 0, None
    position = next((index for index, name in enumerate(names) if str(name) == last), None)
    if position is None or position == len(names) - 1:
        return 0, None
    return position + 1, bytes.fromhex(digest)


def _check_hash(name: SegmentName, digest: bytes, expected: dict[int, bytes] | None) -> None:
    known = (expected or {}).get(name.sequence)
    if known is not None and known != digest:
        raise SegmentDamaged(str(name), "it is not the object that was written")


def follows_not(segment: OpenSegment, previous: bytes | None) -> bool:
    """Whether a segment says that it builds on something else than ``previous``, the hash of what is there.

    A full segment need not say anything: the first one after a restore knows no predecessor.
    """
    named = segment.header.previous
    if named is None:
        return previous is not None and segment.name.kind is not Kind.FULL
    return previous is not None and named != previous


def _check_link(segment: OpenSegment, previous: bytes | None) -> None:
    if follows_not(segment, previous):
        raise ChainBroken(str(segment.name), "it does not build on the object before it")


def _apply(segment: OpenSegment, folder: Path) -> None:
    header = segment.header
    with storage_errors():
        if segment.name.kind is Kind.FULL:
            for path in (folder / "mail.db", folder / KEYS_FILE, *(folder / "inbox").iterdir()):
                path.unlink(missing_ok=True)
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


def _described(segment: OpenSegment, digest: bytes, folder: Path) -> Rebuilt:
    header = segment.header
    waiting = sum(1 for path in (folder / INBOX_PREFIX).iterdir())
    pages = header.database.pages if header.database else 0
    return Rebuilt(header.account, segment.name, digest, pages, waiting)
