"""Where segments come from when something is restored or checked; fetches no more than needed."""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from backup.errors import SegmentDamaged
from backup.reading import OpenSegment, content_key
from backup.segment import SegmentName
from backup.signing import Trust
from backup.staging import staged_name
from backup.state import State
from backup.stores import ObjectStore
from mailstore.durable import storage_errors
from mailstore.keys import PrivateKey

GET_BYTES = 8 * 1024 * 1024
_LOOK_BYTES = 256 * 1024

KeyFor = Callable[[SegmentName], "bytes | PrivateKey | None"]
"""The content key of a segment as the server kept it, or the operator's private key; None: not known."""

Progress = Callable[[int], None]
"""``progress(n)`` is called for each piece of n octets."""


def keys_of(state: State) -> KeyFor:
    """The keys of everything that this server has written and remembers."""
    keys = {one.name: one.content_key for stream in state.streams() for one in state.segments(stream.stream)}
    return lambda name: keys.get(name) or None  # segments that were taken over from a lost server have none


@dataclass(frozen=True, slots=True)
class Source:
    """An object store, what opens its segments, and how long each may be.

    ``sizes`` are the server's own where it remembers them, else what the store's listing says.
    """

    store: ObjectStore
    key_for: KeyFor
    sizes: Mapping[SegmentName, int] = field(repr=False)
    trust: Trust | None = None
    """Whose signature is required; None if the server's key is not known."""

    def check_writer(self, segment: OpenSegment, path: Path) -> None:
        """Check that the server wrote the segment in ``path``, if its key is known. Raises SegmentDamaged."""
        if self.trust is not None:
            self.trust.check(segment.name, signed=segment.signed, path=path)

    def key(self, name: SegmentName) -> bytes | PrivateKey:
        """What opens a segment. Raises SegmentDamaged when that is not known."""
        key = self.key_for(name)
        if key is None:
            raise SegmentDamaged(str(name), "this server does not have its key: use --private-key")
        return key

    def fetch(self, name: SegmentName, target: Path, progress: Progress | None = None) -> bytes:
        """Copy an object into a local file, continuing an interrupted attempt; returns its SHA-256.

        Every piece is on the disk before the next is written, so of what an earlier attempt has left only the
        last piece may be torn by a power cut: it is fetched again. At most one octet beyond the expected size
        is requested.

        Raises:
            SegmentDamaged: it is longer than it should be. ObjectMissing, ObjectStoreError, StorageFull,
            StorageFailed.
        """
        size = self.sizes[name]
        self._check_length(name, size)
        digest = hashlib.sha256()
        with storage_errors():
            if target.exists() and target.stat().st_size > size:
                target.unlink()
            target.touch()
            with target.open("r+b") as file:
                file.truncate(max(0, target.stat().st_size - GET_BYTES))
                while piece := file.read(GET_BYTES):
                    digest.update(piece)
                kept = file.tell()
                while piece := self.store.get(str(name), file.tell(), min(GET_BYTES, size + 1 - file.tell())):
                    if file.tell() + len(piece) > size:
                        raise SegmentDamaged(str(name), "it is longer than it should be")
                    if file.tell() > kept:
                        file.flush()
                        os.fsync(file.fileno())
                    file.write(piece)
                    digest.update(piece)
                    if progress is not None:
                        progress(len(piece))
        return digest.digest()

    def _check_length(self, name: SegmentName, size: int) -> None:
        """Check that a large object is as long as its header says, before the rest of it is fetched."""
        if size > GET_BYTES and self.key_for(name) is not None:
            self.opened(name)

    def opened(self, name: SegmentName) -> OpenSegment:
        """A segment in the store; only what is read of it is fetched. Raises as ``fetch`` does."""
        at, block = 0, b""

        def read(offset: int, wanted: int) -> bytes:
            nonlocal at, block
            if not at <= offset <= offset + wanted <= at + len(block):
                at, block = offset, self.store.get(str(name), offset, max(wanted, _LOOK_BYTES))
            return block[offset - at : offset - at + wanted]

        key = self.key(name)
        content = key if isinstance(key, bytes) else content_key(name, read, key)
        return OpenSegment(name, read, self.sizes[name], content)

    @contextmanager
    def fetched(
        self, names: Sequence[SegmentName], scratch: Path, threads: int, progress: Progress | None = None
    ) -> Iterator[Iterator[tuple[SegmentName, Path, bytes]]]:
        """Fetch objects in order, some ahead of the one in use; each file is removed after use."""
        with ThreadPoolExecutor(threads) as pool:

            def _generate() -> Iterator[tuple[SegmentName, Path, bytes]]:
                ahead: deque[tuple[SegmentName, Path, Future[bytes]]] = deque()
                rest = iter(names)
                while True:
                    while len(ahead) < threads and (name := next(rest, None)) is not None:
                        target = scratch / staged_name(name)
                        ahead.append((name, target, pool.submit(self.fetch, name, target, progress)))
                    if not ahead:
                        return
                    name, target, coming = ahead.popleft()
                    yield name, target, coming.result()
                    with storage_errors():
                        target.unlink(missing_ok=True)

            try:
                yield _generate()
            finally:
                pool.shutdown(cancel_futures=True)
