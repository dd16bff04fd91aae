"""Prove that what lies in the object store is what was written, and enough to restore from.

With the server's state every object is compared with what the server remembers; with the private key
alone, with what the objects say of each other and the server's stream of all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby, pairwise
from pathlib import Path

from backup.catalogue import Server
from backup.errors import ChainBroken, ObjectMissing, SegmentDamaged
from backup.reading import open_file
from backup.rebuild import breaks_chain
from backup.restore import Listing
from backup.segment import SERVER, SegmentName, StreamId
from backup.signing import Trust
from backup.source import KeyFor, Source
from backup.staging import staged_name
from backup.state import State
from backup.stores import ObjectStore
from mailstore.durable import storage_errors


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
    spare: frozenset[SegmentName] = field(default=frozenset(), repr=False)
    """Objects that were there when the stream was taken over; they are deleted in due course."""


@dataclass(slots=True)
class Report:
    """What was examined, and what was found wrong."""

    streams: int = 0
    segments: int = 0
    bytes_read: int = 0
    unopened: int = 0
    """Segments whose key is not known here, because a lost server wrote them."""

    findings: list[Finding] = field(default_factory=list)


def stored_names(state: State) -> frozenset[SegmentName]:
    """The segments that the store has by now; to be asked for before its listing."""
    return frozenset(
        one.name for stream in state.streams() for one in state.segments(stream.stream) if one.stored
    )


def expected_by_state(state: State, before: frozenset[SegmentName] | None = None) -> Iterator[Expected]:
    """Every stream as the server remembers it now.

    ``before`` is what it remembered before the store was listed. The server keeps working meanwhile: what was
    stored or deleted since then may or may not be in the listing, and neither is a finding.
    """
    # All of it at once: while objects are read, perhaps for minutes, more is stored.
    known = [
        (stream, [one for one in state.segments(stream.stream) if one.stored]) for stream in state.streams()
    ]
    spare = frozenset(state.spare()) | {one.name for one in state.waiting()}
    if before is not None:
        spare |= before ^ frozenset(one.name for _, stored in known for one in stored)
    for stream, stored in known:
        if stored:
            yield Expected(
                stream.account,
                stream.stream,
                tuple(one.name for one in stored if one.name not in spare),
                stored[-1].name.sequence,
                {one.name.sequence: one.sha256 for one in stored if one.sha256},
                {one.name.sequence: one.size_bytes for one in stored},
                spare,
            )


def expected_by_server(server: Server, stream_of_server: StreamId) -> Iterator[Expected]:
    """Every stream as the server's own describes it, for those who have only the private key."""
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
        key_for: KeyFor,
        scratch: Path,
        *,
        deep: bool,
        progress: Callable[[int], None] | None = None,
        trust: Trust | None = None,
    ) -> None:
        self._trust = trust
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
            for name in sorted(set(present) - set(expected.names) - expected.spare):
                left_over = name.sequence <= expected.newest
                self._find(
                    name,
                    "it is left over: 'sealbox backup prune' removes it"
                    if left_over
                    else "the server did not write it",
                )
        else:
            numbers = sorted({name.sequence for name in present} - {0}) or [max(expected.newest - 1, 0)]
            for one, following in pairwise((*numbers, max(numbers[-1], expected.newest) + 1)):
                self._gap(expected.stream, one + 1, following - 1)
        for name in present:
            if expected.names is not None and name not in expected.names:
                continue
            size = expected.sizes.get(name.sequence)
            if size not in (None, self._listing.sizes[name]):
                self._find(name, "its size is not what was written")

    def _gap(self, stream: StreamId, first: int, last: int) -> None:
        if first <= last:
            more = f" to {last:08d}" if first < last else ""
            self._find(f"{stream}/{first:08d}{more}", "it is missing in the object store")

    def _read(self, expected: Expected, present: tuple[SegmentName, ...]) -> None:
        counting = [name for name in present if expected.names is None or name in expected.names]
        digests: dict[int, set[bytes]] = {}
        for number, of_number in groupby(counting, key=lambda name: name.sequence):
            names, wanted = list(of_number), expected.hashes.get(number)
            for name in names:
                try:
                    # Of several the right one has this hash; another may be there because an answer was lost.
                    digest = self._open(
                        expected, name, digests.get(number - 1, set()), None if names[1:] else wanted
                    )
                except (SegmentDamaged, ChainBroken) as error:
                    self._find(error.key, error.why)
                except ObjectMissing:
                    self._find(name, "it is missing in the object store")
                else:
                    digests.setdefault(number, set()).add(digest)
            if names[1:] and wanted not in (None, *digests.get(number, ())):
                self._find(names[-1], "it is not the object that was written")

    def _open(self, expected: Expected, name: SegmentName, before: set[bytes], wanted: bytes | None) -> bytes:
        """``before`` are the objects of the number before, as far as they are sound."""
        path = self._scratch / staged_name(name)
        size = expected.sizes.get(name.sequence, self._listing.sizes[name])
        source = Source(self._store, self._key_for, {name: size}, self._trust)
        try:
            digest = source.fetch(name, path, self._progress)
            self._report.segments += 1
            with storage_errors():
                self._report.bytes_read += path.stat().st_size
            if wanted not in (None, digest):
                raise SegmentDamaged(str(name), "it is not the object that was written")
            key = self._key_for(name)
            if key is None:
                self._report.unopened += 1
                return digest
            with open_file(path, name, key) as segment:
                if segment.header.account != expected.account:
                    raise SegmentDamaged(str(name), "it belongs to another account")
                if before and all(breaks_chain(segment, one) for one in before):
                    raise ChainBroken(str(name), "it does not build on the object before it")
                source.check_writer(segment, path)
                segment.check()
        finally:
            with storage_errors():
                path.unlink(missing_ok=True)
        return digest
