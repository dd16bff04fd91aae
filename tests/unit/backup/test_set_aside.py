"""What restores leave behind: it goes with its account, or by itself when its time is over."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands_world import CommandsWorld
from job_world import LIMITS, JobWorld
from store_world import NAME

from backup.limits import DAY_S
from mailstore.account import account_paths
from mailstore.keys import AccountId
from mailstore.locks import locked
from mailstore.set_aside import RESTORE_LOCK, RESTORE_WORK, copies_of, remove_expired


@pytest.fixture
def world(tmp_path: Path) -> CommandsWorld:
    """An account that has been restored in place, and a restore and a drill that were interrupted."""
    made = CommandsWorld(tmp_path)
    made.objects.mkdir()
    assert made.answer("backup", "run")["stored"]
    (restored,) = made.answer("restore", NAME.decode(), "--replace")["restored"]
    assert restored["trouble"] is None
    account = restored["account"]
    header = account_paths(made.root, AccountId(account)).keys.read_bytes()
    for place in (f"restore/{account}", "work-abc/drill-0123"):
        folder = made.root / "backup" / "scratch" / place
        folder.mkdir(parents=True)
        (folder / "keys").write_bytes(header)
        (folder / "mail.db").write_bytes(b"pages")
    return made


def headers(root: Path) -> list[Path]:
    """All keyslots there are."""
    return sorted(root.rglob("keys"))


def test_a_deleted_account_leaves_no_keyslot_anywhere(world: CommandsWorld) -> None:
    """Neither in what a restore replaced nor in what one left unfinished; another account's stays."""
    survivor = account_paths(world.root, AccountId(world.add_account("bob@example.org"))).keys
    before = survivor.read_bytes()
    assert len(headers(world.root)) == 5
    world.answer("account", "delete", NAME.decode(), "--yes")
    assert headers(world.root) == [survivor]
    assert survivor.read_bytes() == before
    assert not list((world.root / "replaced").iterdir())
    assert not list((world.root / "backup" / "scratch").rglob("mail.db"))


def test_the_keys_of_a_copy_are_overwritten(world: CommandsWorld) -> None:
    """An open file shows what has become of their octets."""
    (copy,) = (world.root / "replaced").iterdir()
    with (copy / "keys").open("rb") as file:
        before = file.read()
        world.answer("account", "delete", NAME.decode(), "--yes")
        file.seek(0)
        after = file.read()
    assert len(after) == len(before) and after[:64] != before[:64]


def test_a_copy_that_shares_its_keys_with_the_living_account_does_not_harm_it(world: CommandsWorld) -> None:
    """As after a crash in the middle of a restore in place: the name goes, the octets stay."""
    account = AccountId(next((world.root / "replaced").iterdir()).name.partition("-")[0])
    living = account_paths(world.root, account).keys
    half_done = world.root / "replaced" / f"{account}-00000000000007"
    half_done.mkdir()
    os.link(living, half_done / "keys")
    before = living.read_bytes()
    now_s = time.time() + 1
    remove_expired(world.root, now_s, DAY_S)
    assert remove_expired(world.root, now_s + 2 * DAY_S, DAY_S) >= 2
    assert not half_done.exists() and living.read_bytes() == before
    assert copies_of(world.root, account) == []


def test_the_status_says_what_is_kept_aside_and_until_when(world: CommandsWorld) -> None:
    """With its size, and the account's name."""
    (aside,) = world.answer("backup", "status")["replaced"]
    assert aside["name"] == NAME.decode() and aside["bytes"] > 0
    assert "kept aside by restores: 1 copy of 1 account," in world.run("backup", "status")[1]


@pytest.fixture
def job(tmp_path: Path) -> Iterator[JobWorld]:
    """A server with a job."""
    made = JobWorld(tmp_path / "job")
    yield made
    made.job.stop()
    made.state.close()
    made.mail.close()


def test_what_restores_left_is_removed_after_the_retention_time(job: JobWorld) -> None:
    """By the job itself; not before, and not while the clock is in doubt."""
    folders = [job.root / "replaced" / "x", job.places.scratch / "restore" / "y", job.places.scratch / "z"]
    for folder in folders:
        folder.mkdir(parents=True)
        (folder / "keys").write_bytes(b"slots")
        os.utime(folder, (job.time.now_s, job.time.now_s))
    os.utime(job.places.scratch / "restore", (job.time.now_s, job.time.now_s))
    job.pass_time((LIMITS.retention_days - 1) * DAY_S, 3600)
    assert all(folder.exists() for folder in folders)
    job.pass_time(2 * DAY_S, 3600)
    assert not any(folder.exists() for folder in folders)


def test_an_unfinished_restore_that_is_gone_on_with_keeps_its_work(job: JobWorld) -> None:
    """It may have been interrupted long ago; while one runs, nothing of it is removed under its hands."""
    folder = job.root / RESTORE_WORK / "y"
    folder.mkdir(parents=True)
    os.utime(folder, (0, 0))
    with locked(job.root / RESTORE_LOCK, exclusive=True):
        job.pass_time(3 * DAY_S, 3600)
        assert folder.exists()
    job.pass_time(DAY_S, 3600)
    assert not folder.exists()
