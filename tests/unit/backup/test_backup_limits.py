"""The bounds of the snapshot job, each at its value and one beyond."""

from __future__ import annotations

import hashlib
import random
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from backup_world import BackupWorld
from job_world import JobWorld

from backup.drill import Drill
from backup.errors import StoreUnavailable
from backup.limits import DAY_S, BackupLimits
from backup.retention import Chain, due_for_full, expired
from backup.schedule import Schedule
from backup.segment import Kind, SegmentName, StreamId
from backup.staging import staged_name
from backup.state import Segment, Stream
from backup.store_file import FileStore
from backup.store_s3 import MAX_PARTS, part_size
from backup.upload import ServerNames, Uploader
from mailstore.errors import Busy
from mailstore.locks import LOCK_TIMEOUT_S

DAY_MS = DAY_S * 1000
MEBIBYTE = 1024 * 1024
LIMITS = BackupLimits()


def segment(sequence: int, taken_ms: int, stream: int = 0) -> SegmentName:
    """A name; the first of a stream is a full one."""
    kind = Kind.FULL if sequence == 1 else Kind.CHANGES
    return SegmentName(StreamId(f"{stream:032x}"), sequence, taken_ms, kind)


def is_due(limits: BackupLimits, sizes: list[int], now_ms: int) -> bool:
    """Whether a chain that began at 0 and changed a millisecond later is to be replaced."""
    chain = Chain(tuple(segment(1 + at, at) for at in range(len(sizes))))
    return due_for_full(chain, sizes, now_ms, limits)


@pytest.mark.parametrize(
    ("limits", "kept", "replaced"),
    [
        (BackupLimits(full_after_days=2), ([9, 1], 2 * DAY_MS), ([9, 1], 2 * DAY_MS + 1)),
        (BackupLimits(chain_max_segments=3), ([9, 1], 9), ([9, 1, 1], 9)),
        (BackupLimits(full_ratio=2, full_min_bytes=0), ([9, 10, 8], 9), ([9, 10, 9], 9)),
        (BackupLimits(full_ratio=2, full_min_bytes=30), ([9, 15, 15], 9), ([9, 15, 16], 9)),
        (BackupLimits(lifecycle_days=14), ([9], 7 * DAY_MS - 1), ([9], 7 * DAY_MS)),
    ],
    ids=["full_after_days", "chain_max_segments", "full_ratio", "full_min_bytes", "lifecycle_days"],
)
def test_when_a_chain_is_replaced(
    limits: BackupLimits, kept: tuple[list[int], int], replaced: tuple[list[int], int]
) -> None:
    """Not one octet, segment or millisecond before."""
    assert not is_due(limits, *kept)
    assert is_due(limits, *replaced)


def test_when_a_chain_is_deleted() -> None:
    """``retention_days`` after it was superseded, to the millisecond."""
    old, changed = segment(1, 0), segment(2, 1000)
    new = SegmentName(old.stream, 3, 5000, Kind.FULL)
    limits = BackupLimits(retention_days=3)
    assert expired([old, changed, new], 1000 + 3 * DAY_MS - 1, None, limits) == []
    assert expired([old, changed, new], 1000 + 3 * DAY_MS, None, limits) == [old, changed]


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ({"full_after_days": 10.0}, {"full_after_days": 9.9}),
        ({"lifecycle_days": 5.0}, {"lifecycle_days": 5.1}),
        ({"multipart_part_bytes": 5 * MEBIBYTE - 1}, {"multipart_part_bytes": 5 * MEBIBYTE}),
        ({"multipart_part_bytes": 5 * 1024 * MEBIBYTE + 1}, {"multipart_part_bytes": 5 * 1024 * MEBIBYTE}),
    ],
)
def test_settings_that_exclude_each_other(wrong: dict[str, float], right: dict[str, float]) -> None:
    """What just goes together is allowed."""
    assert replace(LIMITS, **right) != LIMITS
    with pytest.raises(ValueError, match="has to be"):
        replace(LIMITS, **wrong)


@pytest.mark.parametrize("wanted", [5 * MEBIBYTE, 16 * MEBIBYTE])
def test_parts_of_large_objects(wanted: int) -> None:
    """As large as wanted up to as many as there may be, larger behind that; never one too many."""
    most = MAX_PARTS * wanted
    assert part_size(most, wanted) == wanted
    assert part_size(most + 1, wanted) == wanted + MEBIBYTE
    for size in (1, most, most + 1, 7 * most + 3, 200_000 * MEBIBYTE, 5_000_000 * MEBIBYTE):
        assert part_size(size, wanted) >= wanted
        assert -(-size // part_size(size, wanted)) <= MAX_PARTS


def test_when_an_account_is_due() -> None:
    """To the second: after it has been quiet for ``settle_s``, or has waited for ``longest_wait_s``."""
    schedule = Schedule(BackupLimits(settle_s=10, longest_wait_s=25))
    schedule.seen("quiet", "1", "", 0)
    assert (schedule.due(9), schedule.due(10)) == ([], ["quiet"])
    schedule.done("quiet")
    for second in range(24):
        schedule.seen("busy", str(second), "", second)
    assert (schedule.due(24), schedule.due(25)) == ([], ["busy"])


@pytest.fixture
def world(tmp_path: Path) -> Iterator[JobWorld]:
    """A server with a job."""
    made = JobWorld(tmp_path)
    yield made
    made.job.stop()
    made.state.close()
    made.mail.close()


class Slow(FileStore):
    """A folder that takes nothing until it is told to."""

    away = False

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.began = threading.Semaphore(0)
        self.go_on = threading.Event()

    def put(self, name: str, path: Path, sha256: bytes) -> None:
        """See ``ObjectStore``."""
        if self.away:
            raise StoreUnavailable("away")
        self.began.release()
        assert self.go_on.wait(60)
        super().put(name, path, sha256)


def uploader(tmp_path: Path, limits: BackupLimits, time: list[float]) -> tuple[Uploader, Slow, list[Segment]]:
    """One that nobody else disturbs, its store, and a segment of each of five streams."""
    staging = tmp_path / "staging"
    staging.mkdir()
    (tmp_path / "objects").mkdir()
    store = Slow(tmp_path / "objects")
    nothing = ServerNames(frozenset(), None)
    made = Uploader(store, staging, limits, lambda: time[0], StreamId("f" * 32), lambda: nothing)
    waiting = [
        Segment(segment(1, 0, stream), 1, hashlib.sha256(b"x").digest(), b"", stored=False)
        for stream in range(5)
    ]
    for one in waiting:
        (staging / staged_name(one.name)).write_bytes(b"x")
    return made, store, waiting


def finish(made: Uploader) -> list[Segment]:
    """Wait until what is under way has ended."""
    for _, future in made._running.values():
        future.exception(timeout=60)
    return made.finished()


def test_so_many_uploads_at_a_time(tmp_path: Path) -> None:
    """One until it is clear that nobody else writes there, then as many as there may be."""
    made, store, waiting = uploader(tmp_path, BackupLimits(upload_threads=3), [0.0])
    store.go_on.set()
    made.start(waiting)
    assert len(made.busy) == 1 and made.rested
    assert finish(made) == waiting[:1]
    store.go_on.clear()
    made.start(waiting[1:])
    for _ in range(1 + 3):
        assert store.began.acquire(timeout=60)
    assert len(made.busy) == 3 and not made.rested
    store.go_on.set()
    assert finish(made) == waiting[1:4]
    made.stop()


def test_pauses_after_failures(tmp_path: Path) -> None:
    """Each twice as long as the one before, up to the longest; kept to the second."""
    time = [0.0]
    made, store, waiting = uploader(tmp_path, BackupLimits(retry_first_s=10, retry_max_s=35), time)
    store.away = True
    for pause_s in (10, 20, 35, 35):
        made.start(waiting[:1])
        assert finish(made) == []
        time[0] += pause_s - 0.5
        assert not made.rested
        time[0] += 0.5
        assert made.rested
    made.stop()


def test_how_much_may_wait_for_the_store(world: JobWorld) -> None:
    """With one octet less of room the account's waiting snapshots become one."""
    world.store.away = True
    for subject in ("one", "two"):
        world.append(subject)
        world.pass_time(400)
    assert len(waiting_of(world)) == 2
    for beyond, merged in ((0, False), (1, True)):
        waiting_bytes = sum(one.size_bytes for one in world.state.waiting())
        world.job._limits = replace(world.job._limits, staging_max_bytes=waiting_bytes - beyond)
        before = len(waiting_of(world))
        world.append("more")
        world.pass_time(400)
        assert len(waiting_of(world)) == (1 if merged else before + 1)


def waiting_of(world: JobWorld) -> list[Segment]:
    """The account's snapshots that wait."""
    (account_id,) = [record.account_id for record in world.mail.directory.accounts()]
    stream = world.state.stream(account_id)
    assert stream is not None
    return [one for one in world.state.waiting() if one.name.stream == stream.stream]


def test_how_long_a_snapshot_waits_for_the_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No longer than it may; its account's turn comes again."""
    made = BackupWorld(tmp_path, BackupLimits(lock_wait_s=0.25))
    waited: list[float] = []

    def held(_paths: object, timeout_s: float = LOCK_TIMEOUT_S) -> None:
        waited.append(timeout_s)
        raise Busy

    with monkeypatch.context() as patch:
        patch.setattr("backup.snapshot.shared_lock", held)
        with pytest.raises(Busy):
            made.take()
    assert waited == [0.25]
    assert made.take() is not None
    made.close()


def test_a_drill_restores_so_many(tmp_path: Path) -> None:
    """Those that have waited longest for it, never more than there are."""
    made = BackupWorld(tmp_path)
    for number in range(4):
        stream = Stream(StreamId(f"{number:032x}"), f"{number:032x}", proven_ms=number)
        name = SegmentName(stream.stream, 1, 1, Kind.FULL)
        made.state.keep(
            stream, Segment(name, 1, b"x" * 32, b"k" * 32, stored=False), frozenset(), frozenset()
        )
        made.state.stored(name)
        made.state.proven(stream.stream, number)
    drill = Drill(tmp_path, made.state, made.store, tmp_path, LIMITS)
    for count, found in ((LIMITS.drill_accounts, 3), (1, 1), (4, 4), (5, 4)):
        chosen = drill.choose(count, random.Random(1))
        assert [one.proven_ms for one in chosen] == list(range(found))
    made.close()
