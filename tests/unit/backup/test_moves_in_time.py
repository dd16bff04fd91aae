"""How long accounts that move are closed, whatever the snapshot job does, and how often anybody asks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from moving_world import MovingWorld

from backup import job as job_module
from backup import move_source
from mailstore.directory import Phase, Side, Trouble
from mailstore.errors import StorageFull
from mailstore.limits import MoveLimits
from mailstore.move_mark import mark_at, put_mark
from mailstore.moved_account import throw_away
from mailstore.set_aside import REPLACED


@pytest.fixture
def world(tmp_path: Path) -> Iterator[MovingWorld]:
    """An account with mail, of which a move has begun."""
    made = MovingWorld(tmp_path, replace(MoveLimits(), closed_max_s=30.0))
    made.a.append("one")
    made.close_account()
    made.moves.begin(made.move)
    yield made
    made.close()


def look(world: MovingWorld) -> None:
    """What the thread does that waits for nobody."""
    world.giver.look(world.moves.all())


def is_marked(world: MovingWorld) -> bool:
    """Whether the account is closed."""
    return mark_at(world.here.moving) is not None


def test_an_account_is_open_again_in_time_although_the_job_is_busy(world, monkeypatch) -> None:
    """The job's thread does not come back; sessions had not ended."""
    monkeypatch.setattr(move_source, "is_closed", lambda _paths: False)
    world.until(Phase.COPIED)
    look(world)
    assert world.giver.give()  # and so nothing else is done
    assert is_marked(world)
    world.clock.now_s += 30.1
    look(world)
    look(world)
    assert world.phase is Phase.FAILED and not is_marked(world)
    assert world.moves.move.trouble is Trouble.SESSIONS
    assert not world.giver.give()


def test_the_time_of_the_last_snapshot_counts(world) -> None:
    """The bound is that of the whole time in which it is closed."""
    world.until(Phase.LAST)
    look(world)
    world.clock.now_s += 30.1
    world.moves.silent_s = 1.0
    look(world)
    look(world)
    assert world.phase is Phase.FAILED and not is_marked(world)


def test_an_account_that_is_cancelled_is_open_again_without_the_job(world) -> None:
    """At the next look."""
    world.until(Phase.LAST)
    assert world.moves.cancel(world.move)
    look(world)
    assert not is_marked(world)


def test_the_job_stays_with_a_closed_account_until_it_is_given_away(world, monkeypatch) -> None:
    """Not longer than the account may be closed."""
    monkeypatch.setattr(move_source, "is_closed", lambda _paths: False)
    world.until(Phase.COPIED)
    look(world)
    assert [world.giver.give() for _ in range(3)] == [True] * 3
    world.clock.now_s += 30.1
    assert not world.giver.give()
    world.clock.now_s -= 30.1
    monkeypatch.undo()
    while world.giver.give():
        world.a.job._uploader.wait(10)
    assert world.phase is Phase.LAST


def test_no_account_is_closed_while_its_last_changes_could_not_be_uploaded(world, monkeypatch) -> None:
    """The uploads of others end first, and no other is begun."""
    world.until(Phase.COPIED)
    monkeypatch.setattr(type(world.a.job), "can_upload", False)
    look(world)
    assert not world.giver.give() and not is_marked(world)
    assert world.a.job.alone == {world.account_id}
    monkeypatch.undo()
    world.until(None)
    assert world.node() == "b"


def test_nothing_is_uploaded_beside_what_waits_for_it(world) -> None:
    """Of another account."""
    job = world.a.job
    job._snapshotter.take(world.account_id)
    job.alone = frozenset({"f" * 32})
    job._upload()
    assert not job._uploader.busy
    job.alone = frozenset()
    job._upload()
    assert job._uploader.busy


def test_a_node_whose_snapshots_take_long_is_not_taken_for_silent(world) -> None:
    """It says that it is there, until the account is closed."""
    look(world)
    for _ in range(5):
        world.moves.silent_s = 25.0
        look(world)
        assert world.phase is Phase.BEGUN and world.moves.silent_s == 0.0
    world.until(Phase.COPIED)
    world.moves.silent_s = 25.0
    look(world)
    assert world.moves.silent_s == 0.0


def test_the_failed_upload_of_another_account_does_not_end_a_move(world) -> None:
    """Its own would."""
    taken = world.a.job.snapshot

    def snapshot(account: Any) -> None:
        taken(account)
        world.a.job._uploader.trouble = "that of another one"

    world.a.job.snapshot = snapshot
    look(world)
    world.giver.give()
    assert world.phase is not Phase.FAILED
    world.until(None)
    assert world.node() == "b"


def test_what_is_left_on_a_full_disk_is_told_with_the_next_step(world, monkeypatch, caplog) -> None:
    """Once a minute, and the move has succeeded."""

    def full(*_arguments: object) -> None:
        raise StorageFull

    monkeypatch.setattr(move_source, "set_aside_moved", full)
    world.until(Phase.LAST)
    world.target()
    caplog.clear()
    for _ in range(20):
        look(world)
    [told] = [one.getMessage() for one in caplog.records if one.name == "sealbox.moves"]
    assert "it has moved" in told and "make room" in told
    monkeypatch.undo()
    look(world)
    assert world.here.keys.exists()
    world.clock.now_s += move_source.AGAIN_S
    look(world)
    assert not world.here.keys.exists()


def counted(world: MovingWorld, monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Grows with every question of an account."""
    asked: list[object] = []
    view = world.moves.view

    def count(account_id: Any) -> Any:
        asked.append(account_id)
        return view(account_id)

    monkeypatch.setattr(world.moves, "view", count)
    return asked


def test_nobody_is_asked_while_the_other_node_copies(world, monkeypatch) -> None:
    """Nor a target while the source takes its time."""
    world.until(Phase.COPYING)
    asked = counted(world, monkeypatch)
    for _ in range(20):
        look(world)
        world.giver.give()
    assert not asked
    world.until(Phase.COPIED)
    asked.clear()
    for _ in range(20):
        world.taker.look(world.moves.all())
    assert not asked


def test_a_deleted_account_that_has_left_a_mark_is_not_asked_for_all_the_time(world, monkeypatch) -> None:
    """It stays closed: the directory may be an old one."""
    put_mark(world.here.moving, world.move.move_id)
    world.moves.move = world.moves.record = None
    world.giver = world.new_giver()
    asked = counted(world, monkeypatch)
    for _ in range(20):
        look(world)
        assert not world.giver.has_work and not world.giver.give()
    assert len(asked) == 1 and is_marked(world)


def test_a_move_that_has_failed_keeps_no_ticket(world) -> None:
    """Its keys open snapshots."""
    world.until(Phase.COPIED)
    assert world.moves.move.ticket
    failed = world.moves.step(world.move, Side.TARGET, Phase.FAILED, trouble=Trouble.OTHER)
    assert failed.ticket is None and world.moves.move.ticket is None


def test_a_folder_that_cannot_tell_its_generation_is_kept(world) -> None:
    """It may have been open here."""
    folder = world.there.folder
    folder.mkdir(parents=True)
    (folder / "keys").write_bytes(b"k")
    put_mark(world.there.arrived, world.move.move_id)
    world.there.node.write_bytes(b"?")
    throw_away(world.b, world.there, 1)
    [aside] = (world.b / REPLACED).iterdir()
    assert (aside / "keys").read_bytes() == b"k"


def test_others_have_their_turn_when_one_look_fails(world, monkeypatch, caplog) -> None:
    """On both sides."""
    world.until(Phase.COPYING)
    world.taker._known.add("0" * 32)
    after = world.taker._look_after

    def wrong(account_id: Any) -> None:
        if account_id != world.account_id:
            raise ValueError
        after(account_id)

    monkeypatch.setattr(world.taker, "_look_after", wrong)
    world.target()
    assert world.phase is Phase.COPIED and "ValueError" in caplog.text


def test_moves_come_between_any_two_pieces_of_upkeep(world, monkeypatch) -> None:
    """Deleting is one question after the other."""
    deleted: list[int] = []
    asked: list[int] = []
    job = world.a.job
    monkeypatch.setattr(job._uploader, "require_place", lambda: None)
    monkeypatch.setattr(world.a.store, "delete", lambda names: deleted.append(len(names)), raising=False)
    job.between = lambda: asked.append(sum(deleted))
    most = job_module._DELETED_AT_ONCE
    assert job._deleted(["x"] * (2 * most + 1))
    assert asked == [most, 2 * most, 2 * most + 1]
    asked.clear()
    job._housekeep()
    assert len(asked) >= 2
