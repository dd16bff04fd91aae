"""What a server took over from a lost one stays until it has stored a snapshot itself, whatever names say."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from job_world import LIMITS, JobWorld
from store_world import PASSWORD, TINY, World

from backup.catalogue import Head
from backup.limits import DAY_S, BackupLimits
from backup.restore import list_store
from backup.restore_accounts import Sources
from backup.retention import expired
from backup.segment import Kind, SegmentName, StreamId, parse_name
from backup.state import State
from backup.take_over import adopt_forgotten, adopt_streams
from mailstore.account import NewAccount, account_paths, create_account, read_server_key
from mailstore.keys import AccountId

DAY_MS = DAY_S * 1000
STREAM = StreamId("ab" * 16)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[JobWorld]:
    """A server whose only account has one snapshot, 40 days old."""
    made = JobWorld(tmp_path)
    made.append("one")
    made.pass_time(200)
    made.time.now_s += 40 * DAY_S
    yield made
    made.job.stop()
    made.state.close()
    made.mail.close()


def real_objects(world: JobWorld) -> list[SegmentName]:
    """What the account's stream holds."""
    names = [parse_name(one.name) for one in world.store.list()]
    stream = world.state.stream(world.mail.directory.accounts()[0].account_id)
    assert stream is not None
    return [name for name in names if name is not None and name.stream == stream.stream]


def add_forged(world: JobWorld, real: SegmentName) -> list[SegmentName]:
    """Noise with names that make the real one look as if it had been followed long ago."""
    now_ms = int(world.time() * 1000)
    forged = [
        SegmentName(real.stream, real.sequence, now_ms - 30 * DAY_MS, Kind.FULL),
        SegmentName(real.stream, real.sequence + 1, now_ms - 20 * DAY_MS, Kind.FULL),
        SegmentName(real.stream, real.sequence + 2, now_ms + 2 * DAY_MS, Kind.FULL),
    ]
    for name in forged:
        (world.root.parent / "objects" / str(name)).write_bytes(b"noise" * 500)
    return forged


def lose_state(world: JobWorld) -> None:
    """The server knows nothing of what it stored."""
    world.job.stop()
    world.state.close()
    for path in world.places.folder.glob("state.db*"):
        path.unlink()
    world.state = State(world.places.folder, read_server_key(world.root))


def in_store(world: JobWorld) -> set[str]:
    """Names of all objects."""
    return {one.name for one in world.store.list()}


def away(world: JobWorld, account: AccountId) -> Path:
    """Move the account's files out of the data, as if it could not be restored; where they are now."""
    world.mail.close()
    folder = account_paths(world.root, account).folder
    return folder.rename(world.root.parent / "away")


@pytest.mark.parametrize("knows_the_account", [True, False])
def test_an_account_that_is_not_back_keeps_its_snapshots_whatever_the_bucket_holds(
    world: JobWorld, knows_the_account: bool
) -> None:
    """By the private key its stream is known, without it only that it is there; then it comes back."""
    (real,) = real_objects(world)
    forged = add_forged(world, real)
    account = world.mail.directory.accounts()[0].account_id
    lose_state(world)
    elsewhere = away(world, account)
    listing, now_ms = list_store(world.store), int(world.time() * 1000)
    if knows_the_account:
        heads = {str(account): Head(real.stream, real.sequence, b"h" * 32)}
        sources = Sources(world.source(), listing, heads, None)
        adopt_streams(world.state, sources, world.private_key.public, now_ms)
    else:
        adopt_forgotten(world.state, listing, world.private_key.public, now_ms)
    world.mail = World(world.root)
    world.job = world.new_job()
    world.pass_time(60 * DAY_S, 6 * 3600)
    assert str(real) in in_store(world)

    elsewhere.rename(account_paths(world.root, account).folder)
    world.append("two")
    world.pass_time(400)
    stream = world.state.stream(account)
    assert stream is not None
    assert [one.name.kind for one in world.state.segments(stream.stream) if one.sha256] == [Kind.FULL]
    if knows_the_account:
        world.pass_time((LIMITS.retention_days - 1) * DAY_S, 6 * 3600)
        assert str(real) in in_store(world)
    world.pass_time(2 * DAY_S, 6 * 3600)
    assert in_store(world).isdisjoint(map(str, [real, *forged]))
    assert world.stored()


def test_the_first_snapshot_after_a_take_over_builds_on_nothing_that_was_there(world: JobWorld) -> None:
    """Also of an account without a database, to which mail was delivered and nobody has logged in."""
    new = NewAccount("new@example.org", PASSWORD)
    made = create_account(world.root, world.mail.directory, new, params=TINY).account_id
    world.mail.deliver(b"Subject: waits\r\n\r\n", b"new@example.org")
    world.pass_time(200)
    stream = world.state.stream(made)
    assert stream is not None
    (before,) = [one.name for one in world.state.segments(stream.stream)]
    lose_state(world)
    heads = {str(made): Head(stream.stream, before.sequence, b"h" * 32)}
    sources = Sources(world.source(), list_store(world.store), heads, None)
    adopt_streams(world.state, sources, world.private_key.public, int(world.time() * 1000))
    world.job = world.new_job()
    world.pass_time(200)
    kinds = [one.name.kind for one in world.state.segments(stream.stream) if one.sha256]
    assert kinds == [Kind.FULL]


NUMBERS = st.integers(0, 9)
TIMES_MS = st.integers(0, 10**15)
NAMES = st.builds(SegmentName, st.just(STREAM), NUMBERS, TIMES_MS, st.sampled_from(Kind))


@given(st.lists(NAMES, max_size=8, unique=True))
def test_no_name_that_was_taken_over_decides_what_is_deleted(adopted: list[SegmentName]) -> None:
    """They go together, retention_days after the first full one of our own, and touch none of ours."""
    limits, now_ms = BackupLimits(), 10**14
    retention_ms = int(limits.retention_days * DAY_MS)
    assert expired([], now_ms, None, limits, adopted) == []
    changes = SegmentName(STREAM, 10, now_ms - 2 * retention_ms, Kind.CHANGES)
    assert expired([changes], now_ms, None, limits, adopted) == []
    young = SegmentName(STREAM, 10, now_ms - retention_ms + 1, Kind.FULL)
    assert expired([young], now_ms, None, limits, adopted) == []
    old = SegmentName(STREAM, 10, now_ms - retention_ms, Kind.FULL)
    assert expired([old], now_ms, None, limits, adopted) == sorted(adopted)
