"""Write the server's own stream: what makes a new machine this server, and which segments are whose.

``backup.server_stream`` reads it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from backup.catalogue import (
    Head,
    ServerFacts,
    changed_records,
    digest_of,
    encode,
    records_of,
    stream_of_server,
)
from backup.limits import BackupLimits
from backup.retention import dated_ahead, full_is_due
from backup.segment import SERVER, SERVER_FILE, Header, Kind, SegmentName
from backup.signing import Signer
from backup.staging import write_segment
from backup.state import Segment, State, Stream
from backup.upload import ServerNames
from backup.wall_clock import Clocks
from mailstore.durable import storage_errors
from mailstore.keys import PublicKey


class ServerWriter:
    """Adds segments to the server's stream, one at a time: the next when the last is in the store."""

    def __init__(
        self,
        state: State,
        staging: Path,
        public_key: PublicKey,
        signer: Signer,
        facts: Callable[[], ServerFacts],
        limits: BackupLimits,
        clocks: Clocks,
        sure_ms: Callable[[], int],
    ) -> None:
        """``sure_ms`` is the latest time at which the wall clock was believed, in ms since the epoch."""
        self._state = state
        self._staging = staging
        self._public_key = public_key
        self._signer = signer
        self._facts = facts
        self._limits = limits
        self._clocks = clocks
        self._sure_ms = sure_ms
        self._facts_are_new = True
        self._taken_s = clocks.monotonic()

    def facts_changed(self) -> None:
        """What the stream tells of the server may have changed, or may not have reached the store."""
        self._facts_are_new = True

    def names(self) -> ServerNames:
        """The segments of the stream that this server knows."""
        stream = stream_of_server(self._public_key)
        segments = self._state.segments(stream)
        names = [*(one.name for one in segments), *self._state.spare()]
        stored = [str(one.name) for one in segments if one.stored]
        known = frozenset(str(name) for name in names if name.stream == stream)
        return ServerNames(known, stored[-1] if stored else None)

    def take(self, *, settled: bool) -> None:
        """Add what is new. Where it is not ``settled``, more will follow soon: that is waited for, a while.

        Raises StorageFailed, StorageFull.
        """
        now_s = self._clocks.monotonic()
        if not settled and now_s - self._taken_s < self._limits.longest_wait_s:
            return
        stream = self._state.stream(SERVER) or Stream(stream_of_server(self._public_key), SERVER)
        segments = self._state.segments(stream.stream)
        if segments and not segments[-1].stored:
            return
        now_ms = int(self._clocks.wall() * 1000)
        # The first signed one is a full one: whatever was not signed is not needed any more.
        full = stream.signed_from is None or full_is_due(segments, now_ms, self._sure_ms(), self._limits)
        heads = self._heads(everything=full)
        if not full and not heads and not self._facts_are_new:
            return
        records = changed_records(records_of(self._facts()), self._state.records(), full=full)
        self._facts_are_new = False
        if not full and not heads and not records:
            return
        self._taken_s = now_s
        segment = self._written(stream, segments, encode(records, heads), now_ms, full=full)
        named = [(head.stream, head.sequence) for head in heads.values() if head is not None]
        digests = {one: None if value is None else digest_of(value) for one, value in records.items()}
        self._state.keep_server(stream, segment, named, digests)

    def _heads(self, *, everything: bool) -> dict[str, Head | None]:
        return {
            one.account: Head(one.stream, one.sequence, one.sha256, one.signed_from)
            for one in self._state.heads(everything=everything)
        }

    def _written(
        self, stream: Stream, segments: list[Segment], content: bytes, now_ms: int, *, full: bool
    ) -> Segment:
        """A segment behind the others; in the staging folder, and not yet recorded."""
        taken_ms = now_ms
        # Time goes forward in a stream, unless a clock that was ahead is right again.
        if segments and not (full and dated_ahead(segments[-1].name.taken_ms, now_ms, self._sure_ms())):
            taken_ms = max(now_ms, segments[-1].name.taken_ms + 1)
        sequence = segments[-1].name.sequence + 1 if segments else 1
        name = SegmentName(stream.stream, sequence, taken_ms, Kind.FULL if full else Kind.CHANGES)
        header = Header(
            name, SERVER, segments[-1].sha256 if segments else None, None, ((SERVER_FILE, len(content)),)
        )
        with storage_errors():
            return write_segment(self._staging, header, (content,), self._public_key, self._signer)
