"""Upload staged segments: in threads, each stream in order, pausing while the store is unavailable."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from backup.errors import ForeignObjects, ObjectExists, ObjectStoreError, StoreRefused, StoreUnavailable
from backup.limits import BackupLimits
from backup.sealing import PREFIX_BYTES, TAG_BYTES
from backup.segment import StreamId
from backup.staging import staged_name
from backup.state import Segment
from backup.stores import ObjectStore

log = logging.getLogger("sealbox.backup")


class _Harmed(Exception):
    """The staged file is not what was written."""


_FOREIGN = (
    "other snapshots lie under this prefix: another server writes there, or this one lost its state; see "
    "'sealbox backup run --take-over'"
)
_ELSEWHERE = (
    "{} does not hold what was stored there: mount its disk or correct [backup] store; if those snapshots "
    "are lost, or this is a new place, stop the server and move backup/state.db* away: all is stored anew"
)


@dataclass(frozen=True, slots=True)
class ServerNames:
    """Names of the segments of the server's stream that this server knows."""

    known: frozenset[str]
    newest_stored: str | None
    """The newest one that the object store has taken; None before the first."""


class Uploader:
    """Uploads of one job. All methods are called from the job's own thread."""

    def __init__(
        self,
        store: ObjectStore,
        staging: Path,
        limits: BackupLimits,
        monotonic: Callable[[], float],
        server_stream: StreamId,
        server_names: Callable[[], ServerNames],
    ) -> None:
        """``server_names`` is asked before uploads begin and before anything is deleted."""
        self._server_stream = server_stream
        self._server_names = server_names
        self._owned = False
        """Nobody else's segments were in the server's stream when this process looked."""

        self._place: str | None = None
        """Where the newest segment of the server's stream was seen; None until it is looked for."""

        self._foreign = False
        self._store = store
        self._staging = staging
        self._limits = limits
        self._monotonic = monotonic
        self._pool = ThreadPoolExecutor(limits.upload_threads, thread_name_prefix="upload")
        self._running: dict[StreamId, tuple[Segment, Future[None]]] = {}
        self._not_before_s = 0.0
        self._pause_s = limits.retry_first_s
        self.trouble: str | None = None
        """Why the last upload failed, as text for people; None when it did not."""

        self._harmed: list[Segment] = []
        self._troubles: dict[StreamId, str] = {}
        """The same of the last upload of a stream."""

    @property
    def busy(self) -> frozenset[StreamId]:
        """Streams with an upload in progress, which may reach the store at any moment."""
        return frozenset(self._running)

    @property
    def rested(self) -> bool:
        """Whether a thread is free and no pause has to be kept."""
        free = len(self._running) < self._limits.upload_threads
        return free and not self._foreign and self._monotonic() >= self._not_before_s

    @property
    def has_room(self) -> bool:
        """Whether a thread is free for what comes next, be there a pause or not."""
        return len(self._running) < self._most and not self._foreign

    @property
    def _most(self) -> int:
        # One upload at a time until it is clear that nobody else writes here.
        return self._limits.upload_threads if self._owned else 1

    def trouble_of(self, stream: StreamId) -> str | None:
        """Why this stream cannot be stored now; None as far as nobody knows that it cannot."""
        return self.trouble if self._foreign else self._troubles.get(stream)

    def start(self, waiting: Iterable[Segment]) -> None:
        """Begin with the first waiting segment of every stream, as far as there are threads."""
        if not self.rested:
            return
        most = self._most
        known: ServerNames | None = None
        for segment in waiting:
            stream = segment.name.stream
            if len(self._running) >= most:
                return
            if stream not in self._running:
                if known is None:
                    known = self._server_names()
                self._running[stream] = segment, self._pool.submit(self._put, segment, known)

    def retry_now(self) -> None:
        """Forget earlier failures and do not wait: the operator asks, perhaps having solved the problem."""
        self._not_before_s, self._pause_s = 0.0, self._limits.retry_first_s
        self._place = None
        if self._foreign:
            self._foreign = self._owned = False  # look at everything again
        self.trouble = None
        self._troubles.clear()

    def finished(self) -> list[Segment]:
        """Segments that the store has now; failures are logged and make a pause."""
        done: list[Segment] = []
        for stream, (segment, future) in list(self._running.items()):
            if not future.done():
                continue
            del self._running[stream]
            error = future.exception()
            if error is None:
                done.append(segment)
                self._owned = True
                self._troubles.pop(stream, None)
                self._pause_s, self.trouble = self._limits.retry_first_s, None
            elif isinstance(error, _Harmed):
                log.error(
                    "a waiting snapshot was lost or damaged on this server's disk: a full one replaces it"
                )
                self._harmed.append(segment)
            else:
                self._failed(error)
                self._troubles[stream] = self.trouble or ""
        return done

    def harmed(self) -> list[Segment]:
        """Segments whose staged file was found lost or damaged; each is returned once."""
        found, self._harmed = self._harmed, []
        return found

    def wait(self, timeout_s: float) -> None:
        """Let running uploads go on until one is done, or the time is over."""
        futures = [future for _, future in self._running.values()]
        if futures:
            try:
                futures[0].exception(timeout_s)
            except TimeoutError:
                return

    def stop(self) -> None:
        """Wait for the running uploads; nothing new is begun."""
        self._not_before_s = float("inf")
        self._pool.shutdown(wait=True, cancel_futures=True)

    def require_place(self) -> None:
        """Raises StoreUnavailable when the store is not the one that took the snapshots before."""
        place = self._store.place()
        if place != self._place:
            self._found_there(place, f"{self._server_stream}/", self._server_names())

    def look(self) -> None:
        """Ask the store whether it is the right one although there is nothing to upload; see ``trouble``."""
        try:
            self.require_place()
        except ObjectStoreError as error:
            self._failed(error)

    def _failed(self, error: BaseException) -> None:
        if isinstance(error, ForeignObjects):
            # Do not retry: two servers would write one stream. A restart, or the operator, looks again.
            self._foreign = True
            self.trouble = str(error)
            log.error("no more snapshots are stored: %s", error)
            return
        if isinstance(error, StoreUnavailable | StoreRefused):
            self.trouble = str(error)
            log.error("snapshot not stored: %s; trying again in %.0f s", error, self._pause_s)
        else:
            self.trouble = "internal error, see the log"
            log.error("snapshot not stored: %s; trying again in %.0f s", type(error).__name__, self._pause_s)
        self._not_before_s = self._monotonic() + self._pause_s
        self._pause_s = min(self._pause_s * 2, self._limits.retry_max_s)

    def _put(self, segment: Segment, server_names: ServerNames) -> None:
        path = self._staging / staged_name(segment.name)
        if _hash_of(path) != segment.sha256:
            raise _Harmed
        self._look_for_others(segment, server_names)
        try:
            self._store.put(str(segment.name), path, segment.sha256)
        except ObjectExists:
            # The answer to an earlier try was lost, or somebody else writes here.
            if not self._is_ours(segment, path):
                raise ForeignObjects(_FOREIGN) from None

    def _look_for_others(self, segment: Segment, server_names: ServerNames) -> None:
        """Whether another server with the same backup key writes here: its own stream has the same name.

        All of the stream is listed before the first upload of a process, and when another folder has taken
        the place of the one it saw; later only the number that is to be written.
        """
        place, prefix = self._store.place(), f"{self._server_stream}/"
        if not self._owned or place != self._place:
            found = self._found_there(place, prefix, server_names)
        elif segment.name.stream == self._server_stream:
            found = {one.name for one in self._store.list(f"{prefix}{segment.name.sequence:08d}-")}
        else:
            return
        if found - server_names.known:
            raise ForeignObjects(_FOREIGN)

    def _found_there(self, place: str, prefix: str, server_names: ServerNames) -> set[str]:
        """Names in the server's stream; StoreUnavailable without the newest one, which all others follow.

        An unmounted disk leaves an empty folder: what is written there would build on objects that it does
        not have.
        """
        found = {one.name for one in self._store.list(prefix)}
        if server_names.newest_stored not in found | {None}:
            raise StoreUnavailable(_ELSEWHERE.format(self._store.description))
        self._place = place
        return found

    def _is_ours(self, segment: Segment, path: Path) -> bool:
        """Whether the object is this very segment: compares its random HPKE box and its last tag."""
        name, end = str(segment.name), segment.size_bytes - TAG_BYTES
        with path.open("rb") as file:
            first = file.read(PREFIX_BYTES)
            file.seek(end)
            last = file.read()
        try:
            found = self._store.get(name, 0, PREFIX_BYTES), self._store.get(name, end, 2 * TAG_BYTES)
        except ObjectStoreError as error:
            raise StoreUnavailable("the object store does not allow an object to be read back") from error
        return found == (first, last)


def _hash_of(path: Path) -> bytes | None:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except FileNotFoundError:
        return None
