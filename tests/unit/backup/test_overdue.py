"""Snapshots that should be gone by now are found, on record and in the store."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from backup_world import BackupWorld

from backup.errors import StoreUnavailable
from backup.limits import DAY_S
from backup.overdue import LATE_MS, overdue_by_state, overdue_in_store
from backup.restore import list_store
from backup.segment import Kind
from deploy.privacy import kept
from deploy.privacy.finding import State


@pytest.fixture
def world(tmp_path: Path) -> Iterator[BackupWorld]:
    """An account with one snapshot in the store."""
    world = BackupWorld(tmp_path)
    world.take()
    world.upload()
    yield world
    world.close()


def test_a_deleted_account_is_overdue_when_its_days_are_over(world: BackupWorld) -> None:
    """And a little later than that, as the server deletes by the hour."""
    account = world.mail.directory.accounts()[0].account_id
    gone_ms = int(world.time * 1000)
    world.state.gone(account, gone_ms)
    end_ms = gone_ms + int(world.limits.retention_s * 1000) + LATE_MS
    assert overdue_by_state(world.state, end_ms - 1, world.limits) == []
    assert overdue_by_state(world.state, end_ms, world.limits) == world.names()
    found = kept.on_record(world.state, end_ms, world.limits)
    assert (found.state, found.promises) == (State.BROKEN, (6, 7, 8))


def test_the_only_chain_of_a_living_account_is_never_overdue(world: BackupWorld) -> None:
    """Nothing in it has been deleted."""
    later_ms = int((world.time + 1000 * DAY_S) * 1000)
    assert overdue_by_state(world.state, later_ms, world.limits) == []
    assert overdue_in_store(list_store(world.store), world.state, later_ms, world.limits) == []
    assert kept.on_record(world.state, later_ms, world.limits).state is State.HOLDS
    assert kept.in_store(world.store, world.state, later_ms, world.limits).state is State.HOLDS


def test_old_objects_that_the_server_does_not_know_are_found(world: BackupWorld) -> None:
    """Left by a server before it, or by an answer that was lost."""
    known = world.names()[0]
    taken_ms = int(world.time * 1000)
    stranger = replace(known, sequence=known.sequence + 7, taken_ms=taken_ms, kind=Kind.FULL)
    path = world.place / "object"
    path.write_bytes(b"what nobody can open")
    world.store.put(str(stranger), path, hashlib.sha256(path.read_bytes()).digest())
    end_ms = taken_ms + int(world.limits.retention_s * 1000) + LATE_MS
    assert kept.in_store(world.store, world.state, end_ms, world.limits).state is State.HOLDS
    found = kept.in_store(world.store, world.state, end_ms + 1, world.limits)
    assert found.state is State.BROKEN
    assert str(stranger) in found.said


def test_a_longer_retention_than_was_promised_is_no_retention(world: BackupWorld) -> None:
    """The operator may set it, and then has to promise something else."""
    limits = replace(world.limits, retention_days=11.0)
    assert kept.on_record(world.state, int(world.time * 1000), limits).state is State.BROKEN


def test_a_store_that_does_not_answer_is_not_passed(
    world: BackupWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is said, and the record is judged all the same."""

    def silent(_prefix: str = "") -> None:
        raise StoreUnavailable("the object store did not answer")

    monkeypatch.setattr(world.store, "list", silent)
    found = kept.in_store(world.store, world.state, int(world.time * 1000), world.limits)
    assert found.state is State.UNSEEN
    assert "did not answer" in found.said
