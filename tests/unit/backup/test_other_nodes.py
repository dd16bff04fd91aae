"""Snapshots are taken of an account by the node that has it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from commands_world import CommandsWorld
from job_world import JobWorld

from backup import job
from mailstore.account import account_paths, open_directory
from mailstore.directory import MoveId, Node, call_node
from mailstore.errors import LeaseOver
from mailstore.keys import AccountId
from mailstore.move_mark import put_mark


@pytest.fixture
def world(tmp_path: Path) -> Iterator[JobWorld]:
    """A fresh server with a job."""
    made = JobWorld(tmp_path)
    yield made
    made.job.stop()
    made.state.close()
    made.mail.close()


def on_node_a(world: JobWorld) -> AccountId:
    """The world's account, which its server has as node a; there is a node b, too."""
    directory = world.mail.directory
    [record] = directory.accounts()
    for name in "ab":
        directory.put_node(Node(name, "192.0.2.1:24"))
    call_node(world.root, "a")
    directory.set_node(record.account_id, "a", 1)
    return record.account_id


def test_no_snapshot_is_taken_of_an_account_that_went_to_another_node(world: JobWorld) -> None:
    """What its folder here still has is not its newest state."""
    directory, account_id = world.mail.directory, on_node_a(world)
    world.job._directory_version = None
    world.job._list_accounts()
    assert world.job._accounts == [account_id]
    directory.set_node(account_id, "b", 2)
    world.job._list_accounts()
    assert world.job._accounts == []


def test_nothing_is_done_without_a_lease(world: JobWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even in an account of which a snapshot is due; and none counts as gone."""
    world.job.run_once()
    world.append("two")
    before = [(one.account, one.gone_ms, one.fingerprint) for one in world.state.streams()]

    def over(_root: Path) -> None:
        raise LeaseOver

    monkeypatch.setattr(job, "require_lease", over)
    with pytest.raises(LeaseOver):
        world.job.turn(everything=True)
    assert [(one.account, one.gone_ms, one.fingerprint) for one in world.state.streams()] == before
    monkeypatch.undo()
    world.job.run_once()
    assert [(one.account, one.gone_ms, one.fingerprint) for one in world.state.streams()] != before


def test_a_lease_that_ends_in_the_midst_is_not_an_accounts_fault(
    world: JobWorld, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The log is not told once for each, and nobody waits longer when there is a lease again."""
    asked: list[Path] = []

    def over(root: Path) -> None:
        asked.append(root)
        if len(asked) == 2:
            raise LeaseOver

    monkeypatch.setattr(job, "require_lease", over)
    with pytest.raises(LeaseOver):
        world.job.turn(everything=True)
    assert (world.job._schedule.failing(), "no snapshot of account" in caplog.text) == ([], False)
    world.job.turn(everything=True)
    world.job._uploader.wait(10)
    world.job.collect()
    assert world.stored() == ["full"]


def test_an_account_that_came_from_another_node_has_a_full_snapshot_at_once(world: JobWorld) -> None:
    """Also where nothing in it tells that it was away, and only once; any other is waited for."""
    directory, account_id = world.mail.directory, on_node_a(world)
    world.job.turn()
    assert world.stored() == []
    world.job.run_once()
    for step, (node, generation) in enumerate((("b", 2), ("a", 3)), 1):
        directory.set_node(account_id, node, generation)
        world.job.turn()
        world.job._uploader.wait(10)
        world.job.collect()
        assert len(world.stored()) == step
    assert world.stored() == ["full", "full"]
    world.job.run_once()
    assert len(world.stored()) == 2


def test_the_status_misses_no_snapshot_of_an_account_of_another_node(tmp_path: Path) -> None:
    """That one has them."""
    world = CommandsWorld(tmp_path)
    world.objects.mkdir()
    assert world.run("backup", "run")[0] == 0
    world.add_account("bob@example.org")
    assert world.answer("backup", "status")["without_snapshot"] == ["bob@example.org"]
    directory = open_directory(world.root)
    record = directory.login("bob@example.org")
    directory.put_node(Node("b", "192.0.2.1:24"))
    directory.set_node(record.account_id, "b", 1)
    directory.close()
    assert world.answer("backup", "status")["without_snapshot"] == []


@pytest.mark.parametrize("where", ["another node has this account", "it is being moved to another node"])
def test_an_account_of_another_node_is_not_restored_here(tmp_path: Path, where: str) -> None:
    """It would be there twice; or be another one than is about to be given away."""
    world = CommandsWorld(tmp_path)
    world.objects.mkdir()
    world.append("one")
    assert world.run("backup", "run")[0] == 0
    directory = open_directory(world.root)
    [record] = directory.accounts()
    if where.startswith("another"):
        directory.put_node(Node("b", "192.0.2.1:24"))
        directory.set_node(record.account_id, "b", 1)
    else:
        put_mark(account_paths(world.root, record.account_id).moving, MoveId("m"))
    directory.close()
    files = sorted(world.root.glob("accounts/**/*"))
    arguments = ("--replace", "--private-key", world.private_key_file)
    code, out, err = world.run("restore", record.name, *arguments)
    assert code != 0 and where in out + err
    assert sorted(world.root.glob("accounts/**/*")) == files
