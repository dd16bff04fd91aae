"""Prove that what lies in the object store is what was written, and enough to restore from.

With the server's state every object is compared with what the server remembers; with the private key
alone, with what the objects say of each other and the server's stream of all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from backup.catalogue import Server
from backup.errors import ChainBroken, ObjectMissing, SegmentDamaged
from backup.reading import open_file
from backup.rebuild import fetch, follows_not
from backup.restore import Listing
from backup.segment import SERVER, SegmentName, StreamId
from backup.staging import staged_name
from backup.state import State
from backup.stores import ObjectStore
from mailstore.keys import PrivateKey


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it should be. ``key`` is the object's name."""

    key: str
    why: str


@dataclass(frozen=True, slots=True)
class Expected:
    """What one stream should look like. Hashes and sizes are by sequence, as far as they are known."""

    account: str
    stream: StreamId
    names: tuple[SegmentName, ...] | None
    """The segments that have to be there, if that is known."""

    newest: int = 0
    """Sequence of the newest segment that has to be there."""

    hashes: Mapping[int, bytes] = field(default_factory=dict, repr=False)
    sizes: Mapping[int, int] = field(default_factory=dict, repr=False)


@dataclass(slots=True)
class Report:
    """What was looked at, and what was found."""

    streams: int = 0
    segments: int = 0
    bytes_read: int = 0
    unopened: int = 0
    """Segments whose key is not known here: a lost server wrote them."""

    findings: list[Finding] = field(default_factory=list)


def expected_by_state(state: State) -> Iterator[Expected]:
    """Every stream as the server remembers it."""
    for stream in state.streams():
        stored = [one for one in state.segments(stream.stream) if one.stored]
        if stored:
            yield Expected(
                stream.account,
                stream.stream,
                tuple(one.name for one in stored),
                stored[-1].name.sequence,
                {one.name.sequence: one.sha256 for one in stored if one.sha256},
                {one.name.sequence: one.size_bytes for one in stored},
            )


def expected_by_server(server: Server, stream_of_server: StreamId) -> Iterator[Expected]:
    """Every stream as the server's own tells it, for those who have only the private key."""
    yield Expected(SERVER, stream_of_server, None)
    for account, head in server.heads.items():
        newest = head.sequence if account in server.accounts else 0
        yield Expected(account, head.stream, None, newest, {head.sequence: head.sha256})


class Verifier:
    """Compares the store with what is expected: by its listing, with ``deep`` by reading every object."""

    def __init__(
        self,
        store: ObjectStore,
        listing: Listing,
        key_for: Callable[[SegmentName], bytes | PrivateKey | None],
        scratch: Path,
        *,
        deep: bool,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        """``key_for`` gives None for a segment whose key is not known."""
        self._store = store
        self._listing = listing
        self._key_for = key_for
        self._scratch = scratch
        self._deep = deep
        self._progress = progress
        self._report = Report()

    def verify(self, streams: Iterable[Expected]) -> Report:
        """Look at all of ``streams``. Raises ObjectStoreError, StorageFull, StorageFailed."""
        for expected in streams:
            self._report.streams += 1
            present = self._listing.streams.get(expected.stream, ())
            self._listed(expected, present)
            if self._deep:
                self._read(expected, present)
            else:
                self._report.segments += len(present)
        return self._report

    def _find(self, key: object, why: str) -> None:
        self._report.findings.append(Finding(str(key), why))

    def _listed(self, expected: Expected, present: tuple[SegmentName, ...]) -> None:
        """Missing, foreign and cut objects, from the listing alone."""
        if expected.names is not None:
            for name in sorted(set(expected.names) - set(present)):
                self._find(name, "it is missing in the object store")
            for name in sorted(set(present) - set(expected.names)):
                left_over = name.sequence <= expected.newest
                self._find(
                    name,
                    "it is left over: 'sealbox backup prune' removes it"
                    if left_over
                    else "the server did not write it",
                )
        else:
            numbers = {name.sequence for name in present}
            newest = max((expected.newest, *numbers), default=0)
            for number in range(min(numbers, default=newest), newest + 1):
                if number and number not in numbers:
                    self._find(f"{expected.stream}/{number:08d}", "it is missing in the object store")
        for name in present:
            if expected.names is not None and name not in expected.names:
                continue
            size = expected.sizes.get(name.sequence)
            if size not in (None, self._listing.sizes[name]):
                self._find(name, "its size is not what was written")

    def _read(self, expected: Expected, present: tuple[SegmentName, ...]) -> None:
        previous: tuple[int, bytes] | None = None
        ordered = sorted(present, key=lambda one: (one.sequence, one.taken_ms))
        # What a later one of the same number replaced is never restored: see ``retention.chains``.
        counting = set({one.sequence: one for one in ordered}.values())
        for name in ordered:
            if name not in (counting if expected.names is None else expected.names):
                continue
            before = previous[1] if previous and previous[0] == name.sequence - 1 else None
            try:
                digest = self._open(expected, name, before)
            except (SegmentDamaged, ChainBroken) as error:
                self._find(error.key, error.why)
                previous = None
            except ObjectMissing:
                self._find(name, "it is missing in the object store")
                previous = None
            else:
                previous = name.sequence, digest

    def _open(self, expected: Expected, name: SegmentName, previous: bytes | None) -> bytes:
        path = self._scratch / staged_name(name)
        try:
            digest = fetch(self._store, name, path, self._progress)
            self._report.segments += 1
            self._report.bytes_read += path.stat().st_size
            if expected.hashes.get(name.sequence, digest) != digest:
                raise SegmentDamaged(str(name), "it is not the object that was written")
            key = self._key_for(name)
            if key is None:
                self._report.unopened += 1
                return digest
            with open_file(path, name, key) as segment:
                if segment.header.account != expected.account:
                    raise SegmentDamaged(str(name), "it belongs to another account")
                if follows_not(segment, previous):
                    raise ChainBroken(str(name), "it does not build on the object before it")
                segment.check()
        finally:
            path.unlink(missing_ok=True)
        return digest
