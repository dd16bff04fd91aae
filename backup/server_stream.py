"""Read the server's own stream with the private key: what a lost server was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from backup.candidates import Candidates
from backup.catalogue import Server, stream_of_server
from backup.errors import (
    ChainBroken,
    ChainLinkBroken,
    NothingToRestore,
    ObjectMissing,
    SegmentDamaged,
    SigningKeyReplaced,
    WrongKey,
)
from backup.former_keys import FormerKey, successors_of
from backup.reading import OpenSegment, open_file
from backup.rebuild import check_origin
from backup.restore import Listing
from backup.segment import SERVER, SERVER_FILE, Kind, SegmentName
from backup.signing import Trust
from backup.source import Source
from backup.staging import staged_name
from mailstore.keys import PrivateKey


@dataclass(slots=True)
class ReadServer:
    """The server as its stream describes it, and which objects turned out not to belong to the stream."""

    server: Server
    passed_over: list[str] = field(default_factory=list)


def read_server(
    source: Source,
    listing: Listing,
    private_key: PrivateKey,
    scratch: Path,
    at_ms: int | None = None,
    *,
    newest_sound: bool = False,
) -> ReadServer:
    """The newest state of the server, or the one at a time.

    An object that cannot be opened is skipped if another one has its number, if it is at the end, or if a
    later full segment makes it irrelevant. If sound ones build on it, only ``newest_sound`` accepts the state
    before it.

    Raises:
        WrongKey: there are snapshots, but none of a server with this key. NothingToRestore: there are none.
        SegmentDamaged, ChainBroken, ObjectStoreError.
    """
    stream = stream_of_server(private_key.public)
    if stream not in listing.streams:
        if listing.streams:
            raise WrongKey("the snapshots in this store belong to another key pair")
        raise NothingToRestore("there are no snapshots in this store")
    reading = _Reading(source, scratch, at_ms)
    for of_number in Candidates(listing.streams[stream]).by_number():
        reading.number(of_number)
    if reading.lost is not None and not newest_sound:
        raise reading.lost
    if reading.server is None:
        raise reading.first or NothingToRestore("there is no snapshot of the server that can be read")
    return ReadServer(reading.server, reading.passed_over)


def read_former_keys(
    source: Source, listing: Listing, private_key: PrivateKey, scratch: Path, at_ms: int | None = None
) -> tuple[FormerKey, ...]:
    """What the key that ``source`` trusts says of those before it: in the newest full segment that it signed.

    It has to be known before the stream is read, because it stands at its end. Segments that cannot be read
    say nothing.

    Raises:
        SigningKeyReplaced: a later segment, of ``at_ms`` at most, is signed by a key that the trusted one
        named as its successor. ObjectStoreError, StorageFailed, StorageFull.
    """
    if source.trust is None:
        return ()
    for name in reversed(listing.streams.get(stream_of_server(private_key.public), ())):
        if name.kind is not Kind.FULL:
            continue
        try:
            found = _former_keys_in(source, scratch, name)
        except (SegmentDamaged, ChainBroken):
            continue
        if isinstance(found, tuple):
            return found
        if found is not None and (at_ms is None or name.taken_ms <= at_ms):
            raise SigningKeyReplaced(
                "the given signing key was replaced, and what was stored since is signed with another one: if"
                f" 'sealbox server-key rotate' showed this one, give --signed-by {found.hex()}"
                " (a thief of the given key could have named one, too)"
            )
    return ()


def _former_keys_in(source: Source, scratch: Path, name: SegmentName) -> tuple[FormerKey, ...] | bytes | None:
    """The list in a segment that the trusted key signed; of another its key, if the trusted one leads there.

    None where it does not. Raises SegmentDamaged, ChainBroken.
    """
    assert source.trust is not None, "the caller has asked"
    with _fetched(source, scratch, name) as (segment, path, _):
        segment.check()
        server = Server()
        server.apply(name, segment.file(SERVER_FILE) or b"")
        keys = server.former_keys()
        if not segment.signed:
            return None
        try:
            source.check_writer(segment, path)
        except SegmentDamaged:
            followers = successors_of(source.trust.public, keys)
            if not followers:
                return None
            Trust(followers[-1]).check(name, signed=True, path=path)
            return followers[-1]
        return keys


@contextmanager
def _fetched(source: Source, scratch: Path, name: SegmentName) -> Iterator[tuple[OpenSegment, Path, bytes]]:
    """A segment, the file that it is in meanwhile, and its hash. Raises SegmentDamaged, ChainBroken."""
    path = scratch / staged_name(name)
    try:
        digest = source.fetch(name, path)
        with open_file(path, name, source.key(name)) as segment:
            yield segment, path, digest
    except ObjectMissing:
        raise ChainBroken(str(name), "it is missing in the object store") from None
    finally:
        path.unlink(missing_ok=True)


class _Reading:
    """One pass through the numbers of the stream."""

    def __init__(self, source: Source, scratch: Path, at_ms: int | None) -> None:
        self._source = source
        self._scratch = scratch
        self._at_ms = at_ms
        self.server: Server | None = None
        self.passed_over: list[str] = []
        self.first: SegmentDamaged | ChainBroken | None = None
        """The first error."""

        self.lost: SegmentDamaged | ChainBroken | None = None
        """Why a sound segment could not be applied, until a full one comes after it."""

        self._gap: SegmentDamaged | ChainBroken | None = None
        self._at = 0
        self._signed = False
        self._previous: bytes | None = None

    def number(self, candidates: list[SegmentName]) -> None:
        """Apply the first of the objects with one number that is sound."""
        trouble: SegmentDamaged | ChainBroken | None = None
        broken: ChainLinkBroken | None = None
        for name in candidates:
            try:
                self._read(name)
            except ChainLinkBroken as error:
                broken = broken or error
            except (SegmentDamaged, ChainBroken) as error:
                trouble = trouble or error
                self.first = self.first or error
                self.passed_over.append(str(error))
            else:
                return
        if broken is not None:
            self.lost = self._gap = self.lost or broken
        self._gap = self._gap or trouble

    def _read(self, name: SegmentName) -> None:
        with _fetched(self._source, self._scratch, name) as (segment, path, digest):
            self._check_writer(segment, path)
            segment.check()
            content = segment.file(SERVER_FILE)
            if content is None:
                raise SegmentDamaged(str(name), "it does not belong to the server's stream")
            full = name.kind is Kind.FULL
            follows = self._gap is None and name.sequence == self._at + 1
            check_origin(segment, SERVER, self._previous if follows and not full else None)
        # The first full segment is used whatever time was asked for: without it there is nothing.
        if self._at_ms is not None and name.taken_ms > self._at_ms and self.server is not None:
            self._note_later(self.server, name, content)
            return
        if not full and (self.server is None or not follows):
            missing = ChainBroken(f"{name.stream}/{self._at + 1:08d}", "it is missing in the object store")
            self.lost = self.lost or self._gap or missing
            self._gap = self.lost
            return
        self._apply(name, content, digest, full=full)

    def _note_later(self, server: Server, name: SegmentName, content: bytes) -> None:
        """After the requested time only the owners of streams count: those are announced late.

        And, if its writer is known, the server's key: no restore brings back one that was replaced.
        """
        later = Server()
        later.apply(name, content)
        server.heads = later.heads | server.heads
        if self._source.trust is not None:
            server.server_key = later.server_key or server.server_key
            server.notes |= later.notes
        server.later_keys = later.former_keys() or server.later_keys

    def _check_writer(self, segment: OpenSegment, path: Path) -> None:
        """In this stream only the order tells from which segment on everything is signed."""
        if self._signed and not segment.signed:
            raise SegmentDamaged(
                str(segment.name), "it is not signed, though this server signs its snapshots"
            )
        self._source.check_writer(segment, path)
        # Without a trusted key, anybody may have signed it.
        self._signed = self._signed or (segment.signed and self._source.trust is not None)

    def _apply(self, name: SegmentName, content: bytes, digest: bytes, *, full: bool) -> None:
        before = self.server
        if full or before is None:
            fresh = Server()
            if before is not None:
                # Only the newest full segment describes the present; earlier ones know accounts that are
                # gone.
                fresh.heads, fresh.gone = dict(before.heads), before.gone | before.accounts
                fresh.former = before.former
            fresh.apply(name, content)
            self.server, self.lost = fresh, None
        else:
            before.apply(name, content)
        self._gap, self._at, self._previous = None, name.sequence, digest
