"""What each side of a move does with its files, step by step; the directory's part is in memory."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from moving_world import MovingWorld, give

from backup import move_source, move_target
from backup.errors import OtherStore, StoreUnavailable
from backup.rebuild import Rebuilder
from backup.stores import ObjectStore
from mailstore.directory import MoveId, Phase, Side, Trouble
from mailstore.errors import LeaseOver, StorageFull
from mailstore.limits import MoveLimits
from mailstore.mail_size import used_bytes
from mailstore.move_mark import mark_at, put_mark
from mailstore.moved_account import put_in_place
from mailstore.placing import placing
from mailstore.pop3_login import may_log_in
from mailstore.set_aside import REPLACED

Made = Callable[..., MovingWorld]


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Made]:
    """Makes worlds with an account that has mail, filed and waiting."""
    worlds: list[MovingWorld] = []

    def make(**limits: float) -> MovingWorld:
        world = MovingWorld(tmp_path, replace(MoveLimits(), **limits))
        worlds.append(world)
        world.a.append("one", "two")
        world.close_account()
        world.a.mail.deliver(b"Subject: three\r\n\r\nwaits\r\n")
        world.moves.begin(world.move)
        return world

    yield make
    for world in worlds:
        world.close()


def contents(folder: Path) -> dict[str, bytes]:
    """All that matters of an account: database, keys and waiting mail."""
    found = [folder / "mail.db", folder / "keys", *(folder / "inbox").glob("*.sealed")]
    return {path.name: path.read_bytes() for path in found}


def test_all_of_an_account_comes_to_its_new_place(made: Made) -> None:
    """Octet for octet, with what snapshots do not have; and the old node has put away what it had."""
    world = made()
    may_log_in(world.here.folder, 60, 1_000_000_000.0)
    before, used = contents(world.here.folder), used_bytes(world.here)
    world.until(None)
    assert world.node() == "b" and not world.traces()
    assert contents(world.there.folder) == before
    assert used_bytes(world.there) == used
    assert (world.there.folder / "pop3-login").stat().st_mtime == 1_000_000_000.0
    assert world.there.made.exists() and not world.there.restored.exists()
    assert not (world.there.folder / "restoring").exists()
    [aside] = (world.a.root / REPLACED).iterdir()
    assert contents(aside) == before
    assert {path.name for path in world.here.folder.iterdir()} == {"node", "lock", "keys.lock"}
    assert world.here.node.read_bytes() == world.there.node.read_bytes() == b"2\n"


def test_a_restore_that_nobody_has_seen_yet_is_not_forgotten(made: Made) -> None:
    """The next unlock has to give every mailbox a new UIDVALIDITY, wherever that is."""
    world = made()
    world.here.restored.write_bytes(b"77\n")
    world.until(None)
    assert world.there.restored.read_bytes() == b"77\n"


def test_the_account_stays_open_until_only_little_is_left_to_copy(made: Made) -> None:
    """The target copies once more, as often as the limit says; then it is closed all the same."""
    world = made(late_max_bytes=0, rounds_max=2)
    world.until(Phase.COPIED)
    for _ in range(3):
        world.a.mail.deliver(b"Subject: late\r\n\r\nx\r\n")
        assert mark_at(world.here.moving) is None
        world.source()
        world.source()
        if world.phase is not Phase.COPYING:
            break
        world.until(Phase.COPIED)
    else:
        pytest.fail("it never closed")
    assert world.moves.move is not None and world.moves.move.ticket is not None
    assert world.moves.move.ticket["rounds"] == 2
    assert mark_at(world.here.moving) == world.move.move_id
    world.until(None)
    assert len(contents(world.there.folder)) == 2 + 1 + 2


def test_little_that_came_meanwhile_is_copied_when_the_account_is_closed(made: Made) -> None:
    """In the last step, which fetches no more than that."""
    world = made()
    world.until(Phase.COPIED)
    world.a.mail.deliver(b"Subject: late\r\n\r\nx\r\n")
    world.until(Phase.LAST)
    world.taker.look(world.moves.all())
    [work] = world.taker._working.values()
    assert work.done is not None
    work.done.result(60)
    last = world.a.job.segments(world.account_id)[-1]
    assert 0 < work.copied_bytes <= 2 * last.size_bytes
    world.until(None)
    assert len(contents(world.there.folder)) == 4


@pytest.mark.parametrize("phase", [Phase.BEGUN, Phase.COPYING, Phase.COPIED, Phase.LAST])
def test_a_move_that_is_cancelled_leaves_no_trace(made: Made, phase: Phase) -> None:
    """Whoever has done what by then."""
    world = made()
    before = contents(world.here.folder)
    world.until(phase)
    assert world.moves.cancel(world.move)
    world.until(None)
    world.source()
    world.target()
    assert world.node() == "a" and not world.traces()
    assert contents(world.here.folder) == before and not world.there.folder.exists()


def test_what_came_too_late_is_thrown_away(made: Made) -> None:
    """The folder is in its place when the source has given up: it is the source's account."""
    world = made()
    world.until(Phase.LAST)
    world.moves.finish = lambda move: world.moves.step(move, Side.TARGET, Phase.COPIED)  # type: ignore[assignment, method-assign]  # comes too late
    world.target()
    assert world.there.folder.exists()
    world.moves.silent_s = 61.0
    world.source()
    assert world.phase is Phase.FAILED
    world.source()
    world.target()
    assert mark_at(world.here.moving) is None and not world.there.folder.exists() and not world.traces()


def test_what_is_built_when_the_move_is_over_is_not_put_in_its_place(made: Made, monkeypatch) -> None:
    """What lies there may have come from a recovery of the lost source, which ends the move first."""
    world = made()
    world.until(Phase.LAST)
    built = world.taker._rebuilt

    def meanwhile(work: Any) -> Any:
        found = built(work)
        assert world.moves.cancel(world.move)
        world.there.folder.mkdir(parents=True)
        world.there.keys.write_bytes(b"recovered")
        return found

    monkeypatch.setattr(world.taker, "_rebuilt", meanwhile)
    world.target()
    assert world.there.keys.read_bytes() == b"recovered" and mark_at(world.there.arrived) is None


def test_processes_may_end_between_any_two_looks(made: Made) -> None:
    """They remember nothing."""
    world = made()
    before = contents(world.here.folder)
    while world.phase is not None:
        world.giver, old = world.new_giver(), world.taker
        old.stop()
        world.taker = world.new_taker()
        world.source()
        world.source()
        world.target()
    world.giver, world.taker = world.new_giver(), world.new_taker()
    world.source()
    world.target()
    assert contents(world.there.folder) == before and not world.traces()


def full(*_arguments: object, **_more: object) -> None:
    """Stands for a write to a full disk."""
    raise StorageFull


def fails(world: MovingWorld) -> tuple[Side | None, Trouble]:
    """How the move ends, and that the account is as it was."""
    before = contents(world.here.folder)
    world.until(Phase.FAILED)
    world.source()
    world.target()
    assert world.node() == "a" and not world.traces()
    assert contents(world.here.folder) == before and not world.there.folder.exists()
    assert world.moves.move is not None
    return world.moves.move.failed, world.moves.move.trouble


def test_a_full_disk_at_the_target_is_told(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """While it copies, and when it has nearly done."""
    monkeypatch.setattr(Rebuilder, "go_on", full)
    assert fails(made()) == (Side.TARGET, Trouble.DISK_FULL)


def test_a_full_disk_in_the_last_step_is_told(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """The account is open again where it was."""
    monkeypatch.setattr(move_target, "put_in_place", full)
    assert fails(made()) == (Side.TARGET, Trouble.DISK_FULL)


@pytest.mark.parametrize(
    ("error", "trouble"), [(StoreUnavailable, Trouble.STORE), (OtherStore, Trouble.OTHER_STORE)]
)
def test_a_store_that_the_target_cannot_read_is_told(made: Made, error, trouble: Trouble) -> None:
    """At once."""
    world = made()

    def refuse(_url: str) -> ObjectStore:
        raise error

    world.taker._open_store = refuse
    assert fails(world) == (Side.TARGET, trouble)


def test_a_store_that_the_source_cannot_write_is_told(made: Made) -> None:
    """Before anybody is closed."""
    world = made()
    world.a.store.away = True
    assert fails(world) == (Side.SOURCE, Trouble.STORE)


def test_an_object_that_was_changed_is_not_taken(made: Made) -> None:
    """Its hash is in the ticket."""
    world = made()
    world.until(Phase.COPYING)
    [path] = [one for one in world.a.store._folder.glob("*/*-full") if one.parent.name in _ticket(world)]
    os.chmod(path, 0o600)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert fails(world) == (Side.TARGET, Trouble.DAMAGED)


def _ticket(world: MovingWorld) -> str:
    assert world.moves.move is not None
    return str(world.moves.move.ticket)


@pytest.mark.parametrize("phase", [Phase.COPYING, Phase.LAST])
def test_a_target_that_is_silent_is_given_up(made: Made, phase: Phase) -> None:
    """And the account is open again."""
    world = made()
    world.until(phase)
    world.moves.silent_s = 61.0
    world.source()
    assert world.phase is Phase.FAILED
    assert world.moves.move is not None and world.moves.move.trouble is Trouble.SILENCE
    world.source()
    assert mark_at(world.here.moving) is None


def test_an_account_that_somebody_keeps_open_is_not_moved(made: Made, monkeypatch) -> None:
    """Nothing is copied while it may change; then it is open again."""
    world = made()
    world.until(Phase.COPIED)
    monkeypatch.setattr("backup.move_source.is_closed", lambda _paths: False)
    for _ in range(5):
        world.source()
    assert world.phase is Phase.COPIED and mark_at(world.here.moving) is not None
    world.moves.silent_s = 61.0
    assert fails(world) == (Side.SOURCE, Trouble.SESSIONS)


def test_an_account_comes_back_over_what_it_has_left(made: Made, tmp_path: Path) -> None:
    """And what was there of an earlier time, and may have mail, is put away."""
    world = made()
    world.there.folder.mkdir(parents=True)
    (world.there.folder / "node").write_bytes(b"1\n")
    (world.there.folder / "mail.db").write_bytes(b"old")
    before = contents(world.here.folder)
    world.until(None)
    [aside] = (world.b / REPLACED).iterdir()
    assert (aside / "mail.db").read_bytes() == b"old"
    assert contents(world.there.folder) == before


def test_an_account_that_was_here_for_a_time_is_put_away_and_not_removed(made: Made) -> None:
    """It had come, and was given to another node before this one looked again: it may have newer mail."""
    world = made()
    world.until(Phase.LAST)
    world.target()
    assert world.node() == "b"
    put_mark(world.there.arrived, world.move.move_id)
    before = contents(world.there.folder)
    give(world, "c", 3)
    world.taker = world.new_taker()
    world.target()
    [aside] = (world.b / REPLACED).iterdir()
    assert contents(aside) == before and not world.there.folder.exists()


def test_a_node_without_a_lease_takes_no_account(made: Made, monkeypatch) -> None:
    """It could not open it."""
    world = made()

    def over(_root: Path) -> None:
        raise LeaseOver

    monkeypatch.setattr(move_target, "require_lease", over)
    world.until(Phase.COPYING)
    world.target()
    assert world.phase is Phase.COPYING and not world.traces()
    monkeypatch.undo()
    world.until(None)
    assert world.node() == "b"


def comes_back(world: MovingWorld) -> dict[str, bytes]:
    """As when another thread puts the account, on its way from b to a, in its place; with what it has."""
    built = world.a.root / "built" / world.account_id
    shutil.copytree(world.there.folder, built)
    with placing(world.a.root):
        put_in_place(world.a.root, built, world.here, MoveId("f" * 32), 3)
    give(world, "a", 3)
    return contents(world.here.folder)


def test_what_has_come_back_is_not_put_away(made: Made, monkeypatch) -> None:
    """The source had seen that the account is elsewhere; when it acts, it is there no more."""
    world = made()
    world.until(Phase.LAST)
    world.target()
    arrived: dict[str, bytes] = {}

    def meanwhile(path: Path) -> MoveId | None:
        found = mark_at(path)
        if not arrived:
            arrived.update(comes_back(world))
        return found

    monkeypatch.setattr(move_source, "mark_at", meanwhile)
    world.source()
    world.source()
    assert len(arrived) == 3 and contents(world.here.folder) == arrived
    assert mark_at(world.here.moving) is None


def test_nothing_is_put_away_while_something_is_put_in_its_place(made: Made, monkeypatch) -> None:
    """Both would go through one folder."""
    world = made()
    monkeypatch.setattr(move_source, "_LOCK_WAIT_S", 0.0)
    world.until(Phase.LAST)
    world.target()
    before = contents(world.here.folder)
    with placing(world.a.root):
        world.source()
        assert contents(world.here.folder) == before
    world.source()
    world.target()
    assert not world.here.keys.exists() and not world.traces()


def test_a_database_that_cannot_be_read_is_told_once(made: Made, caplog: pytest.LogCaptureFixture) -> None:
    """Not at every look; and the account stays."""
    world = made()
    (world.here.folder / "mail.db").write_bytes(b"x" * 100)
    world.until(Phase.FAILED)
    assert world.moves.move is not None
    assert (world.moves.move.failed, world.moves.move.trouble) == (Side.SOURCE, Trouble.DAMAGED)
    assert sum("does not move" in one.getMessage() for one in caplog.records) == 1


def test_whatever_goes_wrong_while_it_is_copied_ends_the_move(made: Made, monkeypatch) -> None:
    """Nobody waits for a try that would end the same way."""

    def broken(*_arguments: object, **_more: object) -> None:
        raise RuntimeError

    monkeypatch.setattr(Rebuilder, "go_on", broken)
    assert fails(made()) == (Side.TARGET, Trouble.OTHER)
