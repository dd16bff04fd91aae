"""A wall clock that is wrong for a while: nothing is deleted for it, and nothing kept much longer."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from commands_world import CommandsWorld
from job_world import LIMITS, JobWorld
from store_world import NAME, TINY, World

from backup.limits import DAY_S
from backup.retention import AHEAD_MS, dated_ahead, expired, misdated
from backup.segment import SERVER, Kind, SegmentName, StreamId
from backup.wall_clock import DISTRUST_S, JUMP_S, Clocks, ClockWatch, Look, read_look
from mailstore.account import NewAccount, create_account

AHEAD_S = 30 * DAY_S
HOUR_S = 3600


@pytest.fixture
def world(tmp_path: Path) -> Iterator[JobWorld]:
    """A server with a job that has been at work for some days; it stores a chain, and another begins."""
    made = JobWorld(tmp_path)
    for day in range(6):
        made.append(f"day {day}")
        made.pass_time(DAY_S, 4 * HOUR_S)
    yield made
    made.job.stop()
    made.state.close()
    made.mail.close()


def restart(world: JobWorld, *, jump_s: float = 0.0, off_s: float = 0.0) -> None:
    """The server is off for a while, and starts with a clock that is wrong by so much."""
    world.job.stop()
    world.time.now_s += off_s
    world.jump_s = jump_s
    world.job = world.new_job()


def objects(world: JobWorld) -> set[str]:
    """Names of all that is stored."""
    return {one.name for one in world.store.list()}


def names(world: JobWorld) -> list[SegmentName]:
    """The segments of the account, in order."""
    stream = world.state.stream(world.mail.directory.accounts()[0].account_id)
    assert stream is not None
    return [one.name for one in world.state.segments(stream.stream)]


def put_aside(world: JobWorld) -> Path:
    """What a restore in place has replaced just now."""
    folder = world.root / "replaced" / "x"
    folder.mkdir(parents=True)
    (folder / "keys").write_bytes(b"slots")
    os.utime(folder, (world.time.now_s, world.time.now_s))
    return folder


def test_a_start_with_a_clock_that_is_ahead_deletes_no_snapshot_and_no_replaced_copy(world: JobWorld) -> None:
    """Neither while it is wrong, restarts included, nor when it is right again."""
    before, copy = objects(world), put_aside(world)
    for _ in range(3):
        restart(world, jump_s=AHEAD_S, off_s=60)
        world.pass_time(7 * HOUR_S, 600)
    assert before <= objects(world) and copy.exists()
    restart(world, off_s=60)
    world.pass_time(2 * DAY_S, 3600)
    assert before <= objects(world) and copy.exists()


@pytest.mark.parametrize("wrong_s", [0.0, 1_577_836_800.0])
def test_a_start_with_a_clock_that_is_years_behind_deletes_nothing(world: JobWorld, wrong_s: float) -> None:
    """1970, or the year of its firmware, for days: what was stored before stays, also when it is right."""
    before, copy = objects(world), put_aside(world)
    restart(world, jump_s=wrong_s - world.time.now_s, off_s=60)
    for number in range(3):
        world.append(f"behind {number}")
        world.pass_time(0.5 * DAY_S, 3600)
    restart(world, off_s=60)
    world.append("right again")
    world.pass_time(1.5 * DAY_S, 3600)
    assert before <= objects(world) and copy.exists()
    taken = [name.taken_ms for name in names(world)]
    assert taken == sorted(taken)


def test_after_months_without_power_deletion_waits_a_day_and_then_goes_on(world: JobWorld) -> None:
    """However often the server is restarted within that day."""
    before = objects(world)
    restart(world, off_s=90 * DAY_S)
    for _ in range(3):
        world.pass_time(7 * HOUR_S, 600)
        restart(world, off_s=60)
    assert before <= objects(world)
    world.pass_time(8 * HOUR_S, 600)
    assert not before <= objects(world)
    assert world.stored() == [Kind.FULL]


def test_a_restart_after_an_hour_delays_no_deletion(world: JobWorld) -> None:
    """The clock has gone on as it should."""
    before = objects(world)
    world.pass_time((LIMITS.retention_days - 4) * DAY_S, 4 * HOUR_S)
    for _ in range(10 * 4):
        restart(world, off_s=3 * HOUR_S)
        world.pass_time(3 * HOUR_S, 2 * HOUR_S)
    assert not before & {str(name) for name in names(world)[:-1]}


def test_what_was_dated_ahead_is_deleted_in_time(world: JobWorld) -> None:
    """Deleted mail lies in it as in any other chain: the time counts from when the clock was right again."""
    restart(world, jump_s=AHEAD_S, off_s=60)
    world.append("ahead 1")
    world.pass_time(HOUR_S, 60)
    world.append("ahead 2")
    world.pass_time(HOUR_S, 60)
    ahead = objects(world)
    restart(world, off_s=60)
    world.pass_time((LIMITS.retention_days + 0.2) * DAY_S, 4 * HOUR_S)
    newest = names(world)
    assert newest[0].kind is Kind.FULL and len(newest) == 1
    server = world.state.stream(SERVER)
    assert server is not None
    assert not ahead & {str(name) for name in newest}
    assert not [name for name in ahead & objects(world) if not name.startswith(server.stream)]


def test_a_clock_that_is_right_again_dates_a_full_snapshot_rightly(world: JobWorld) -> None:
    """Of every account, and of the server: a point in time is found by its true time from then on."""
    restart(world, jump_s=AHEAD_S, off_s=60)
    world.append("ahead")
    world.mail.directory.add_domain("ahead.example")
    world.pass_time(HOUR_S, 60)
    now_ms = world.time.now_s * 1000
    assert names(world)[-1].taken_ms > now_ms
    restart(world, off_s=60)
    world.pass_time(600, 60)
    now_ms = world.time.now_s * 1000
    server = world.state.stream(SERVER)
    assert server is not None
    for found in (names(world), [one.name for one in world.state.segments(server.stream)]):
        full = [one for one in found if one.kind is Kind.FULL][-1]
        assert now_ms - 700_000 < full.taken_ms <= found[-1].taken_ms <= now_ms
    world.append("after")
    world.pass_time(600, 60)
    assert names(world)[-1].kind is Kind.CHANGES and names(world)[-1].taken_ms > names(world)[-2].taken_ms


def test_an_account_deleted_under_a_wrong_clock_leaves_in_its_time(world: JobWorld) -> None:
    """Not at once when the clock was behind, and not later than promised when it was ahead."""
    directory = world.mail.directory
    for number, jump_s in enumerate((-400 * DAY_S, AHEAD_S)):
        wanted = NewAccount(f"bob{number}@example.org", b"another secret")
        record = create_account(world.root, directory, wanted, params=TINY)
        world.pass_time(HOUR_S, 60)
        stream = world.state.stream(record.account_id)
        assert stream is not None
        restart(world, jump_s=jump_s, off_s=60)
        directory.remove_account(record.account_id)
        world.pass_time(HOUR_S, 600)
        restart(world, off_s=60)
        world.pass_time((LIMITS.retention_days - 1) * DAY_S, 4 * HOUR_S)
        assert list(world.store.list(stream.stream))
        world.pass_time(1.2 * DAY_S, 4 * HOUR_S)
        assert not list(world.store.list(stream.stream))


def test_how_the_clock_went_is_noted_every_hour_and_at_the_end(world: JobWorld) -> None:
    """So that a job that is killed knows an hour later what it knew."""
    world.pass_time(HOUR_S + 20, 20)
    look = read_look(world.places.clock)
    assert look is not None and 0 < world.time.now_s - look.wall_s <= HOUR_S
    world.job.stop()
    look = read_look(world.places.clock)
    assert look is not None and look.wall_s == world.time.now_s


@pytest.mark.parametrize("between", [(), (Kind.FULL,), (Kind.FULL, Kind.CHANGES)])
def test_a_chain_is_as_old_as_what_follows_says(between: tuple[Kind, ...]) -> None:
    """Whatever was dated ahead in between: it was superseded before the next that has its true time."""
    stream = StreamId("ab" * 16)
    days = [1, *range(31, 31 + len(between)), 2]
    kinds = [Kind.FULL, *between, Kind.FULL]
    found = [
        SegmentName(stream, number, day * DAY_S * 1000, kind)
        for number, (day, kind) in enumerate(zip(days, kinds, strict=True), 1)
    ]
    over_ms = int((2 + LIMITS.retention_days) * DAY_S * 1000)
    assert expired(found, over_ms - 1, None, LIMITS) == []
    assert expired(found, over_ms, None, LIMITS) == found[:-1]


@pytest.mark.parametrize(
    ("gap_s", "passed_s", "doubt_s"),
    [
        *((0, None, 0), (DAY_S, None, 0), (DAY_S + 1, None, DISTRUST_S)),
        *((-JUMP_S, None, 0), (-JUMP_S - 1, None, DISTRUST_S)),
        *((50 * DAY_S, 50 * DAY_S, 0), (100 + JUMP_S, 100, 0), (101 + JUMP_S, 100, DISTRUST_S)),
        *((100 - JUMP_S, 100, 0), (99 - JUMP_S, 100, DISTRUST_S)),
    ],
)
def test_a_clock_is_in_doubt_beyond_an_hours_jump_or_a_days_gap(
    gap_s: float, passed_s: float | None, doubt_s: float
) -> None:
    """Within one run the other clock tells how long it was; between two runs nobody knows."""
    found = Look(1000.0, 0.0, 1000.0).next(1000.0 + gap_s, passed_s)
    assert found == Look(1000.0 + gap_s, doubt_s, 1000.0 if doubt_s else max(1000.0, 1000.0 + gap_s))


def test_only_running_ends_the_doubt() -> None:
    """Being off does not, however often; a second jump begins it anew."""
    look = Look(0.0, 0.0, 0.0).next(90 * DAY_S, None)
    for _ in range(3):
        look = look.next(look.wall_s + 7 * HOUR_S, 7 * HOUR_S).next(look.wall_s + 20 * HOUR_S, None)
        assert look.sure_s == 0
    assert look.doubt_s == DISTRUST_S - 21 * HOUR_S
    assert look.next(look.wall_s - 2 * HOUR_S, HOUR_S).doubt_s == DISTRUST_S
    sure = look.next(look.wall_s + 3 * HOUR_S, 3 * HOUR_S)
    assert sure.doubt_s == 0 and sure.sure_s == sure.wall_s


@pytest.mark.parametrize("content", [b"", b"1 2", b"a b c", b"\xff\n", b"1 2 3 4"])
def test_a_note_of_the_clock_that_cannot_be_read_means_doubt(tmp_path: Path, content: bytes) -> None:
    """And no server that does not start."""
    (tmp_path / "clock").write_bytes(content)
    assert ClockWatch(tmp_path / "clock", lambda: 5000.0, lambda: 0.0).doubt_s == DISTRUST_S


def named(*taken_h: int) -> list[SegmentName]:
    """Segments taken at these hours, in order."""
    stream = StreamId("ab" * 16)
    return [
        SegmentName(stream, number, hour * 3_600_000, Kind.CHANGES) for number, hour in enumerate(taken_h, 1)
    ]


@pytest.mark.parametrize(
    ("taken_h", "now_h", "ahead"),
    [
        *(((1, 2, 3), 3, []), ((1, 2, 4), 3, []), ((1, 5, 6), 3, [2, 3])),
        *(((1, 50, 51, 3, 4), 5, [2, 3]), ((50, 1, 2, 60), 70, [1])),
    ],
)
def test_what_was_dated_ahead_shows(taken_h: tuple[int, ...], now_h: int, ahead: list[int]) -> None:
    """By lying in the future, or before something older."""
    assert [one.sequence for one in misdated(named(*taken_h), now_h * 3_600_000)] == ahead


def test_ahead_begins_behind_the_bound() -> None:
    """A clock may be a little fast, and is right again only when it is not behind what was sure."""
    assert not dated_ahead(1000 + AHEAD_MS, 1000, 0)
    assert dated_ahead(1001 + AHEAD_MS, 1000, 1000)
    assert not dated_ahead(1001 + AHEAD_MS, 1000, 1001)


def test_the_commands_say_what_is_dated_ahead_and_that_nothing_is_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Status, list and prune; and a restore to a point in time names what it could not find by it."""
    world = CommandsWorld(tmp_path)
    world.objects.mkdir()
    assert world.answer("backup", "run")["stored"]
    mail = World(world.root)
    mail.deliver(b"Subject: ahead\r\n\r\n")
    mail.close()
    with monkeypatch.context() as ahead:
        ahead.setattr("backup.job.Clocks", lambda: Clocks(wall=lambda: time.time() + AHEAD_S))
        assert world.answer("backup", "run")["stored"]
    status = world.answer("backup", "status")
    assert status["accounts"][0]["dated_ahead"] == 1 and 0 < status["clock_doubt_s"] <= DISTRUST_S
    code, out, _err = world.run("backup", "status")
    assert code == 0 and "before the clock has run evenly" in out
    assert "1 DATED AHEAD by a wrong clock: no --at reaches them" in out
    points = world.answer("backup", "list", NAME.decode())["points"]
    assert [one["dated_ahead"] for one in points] == [False, True]
    assert world.run("backup", "list", NAME.decode())[1].count("DATED AHEAD by a wrong clock") == 1
    pruned = world.answer("backup", "prune")
    assert pruned["deleted"] == [] and 0 < pruned["clock_doubt_s"] <= DISTRUST_S
    at = datetime.now(UTC).isoformat()
    (restored,) = world.answer("restore", NAME.decode(), "--replace", "--at", at)["restored"]
    assert restored["taken"] == points[0]["time"]
    assert len(restored["passed_over"]) == 1 and "dated ahead by a wrong clock" in restored["passed_over"][0]
    (restored,) = world.answer("restore", NAME.decode(), "--replace")["restored"]
    assert restored["taken"] == points[1]["time"] and restored["passed_over"] == []
