"""An account that cannot be read, or has mail that cannot, takes the others' snapshots from nobody."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from commands_world import CommandsWorld
from job_world import LIMITS, JobWorld
from store_world import NAME, TINY

from backup.job import FAILED_PAUSE_S, all_is_stored, failing_accounts, is_hindered
from backup.segment import SERVER
from deploy.cli.root import EXIT_STORAGE
from mailstore.account import AccountPaths, NewAccount, account_paths, create_account
from mailstore.sealed import DEFAULT_LIMITS, new_sealed_id

TWO = 2 * LIMITS.longest_wait_s


@pytest.fixture
def world(tmp_path: Path) -> Iterator[JobWorld]:
    """A server with a second account, and its job."""
    made = JobWorld(tmp_path)
    create_account(made.root, made.mail.directory, NewAccount("bob@example.org", b"any"), params=TINY)
    yield made
    made.job.stop()
    made.state.close()
    made.mail.close()


def bad(world: JobWorld) -> AccountPaths:
    """The files of the account that goes bad: the one that is looked at first."""
    return account_paths(world.root, world.mail.directory.accounts()[0].account_id)


def unreadable(paths: AccountPaths) -> None:
    """No file in its folder can be looked at any more."""
    paths.folder.rename(paths.folder.with_name("aside"))
    paths.folder.symlink_to(paths.folder)


def too_large(paths: AccountPaths) -> None:
    """A sealed message waits that is larger than any that is opened."""
    path = paths.inbox / f"{new_sealed_id()}.sealed"
    path.touch()
    os.truncate(path, DEFAULT_LIMITS.blob_bytes + 1)


@pytest.mark.parametrize("spoil", [unreadable, too_large])
def test_one_bad_account_stops_nobody_elses_snapshots(
    world: JobWorld, spoil: Callable[[AccountPaths], None], caplog: pytest.LogCaptureFixture
) -> None:
    """The others are stored, the log names it, and the age that is watched grows until it is mended."""
    paths = bad(world)
    spoil(paths)
    world.pass_time(TWO)
    stored = {one.account for one in world.state.streams() if world.state.segments(one.stream)}
    others = {str(one.account_id) for one in world.mail.directory.accounts()} - {paths.folder.name}
    assert stored == others | {SERVER}
    assert world.job.oldest_change_s() >= TWO - 40
    assert failing_accounts(world.state) == [paths.folder.name]
    assert is_hindered(world.state) and not all_is_stored(world.state)
    named = [one for one in caplog.messages if paths.folder.name in one]
    # Not with every look, which comes every few seconds.
    assert 1 <= len(named) <= 2 + TWO / FAILED_PAUSE_S


def test_an_account_that_can_be_read_again_is_stored(world: JobWorld) -> None:
    """And its age is none any more."""
    paths = bad(world)
    unreadable(paths)
    world.pass_time(TWO)
    paths.folder.unlink()
    paths.folder.with_name("aside").rename(paths.folder)
    world.pass_time(TWO)
    assert paths.folder.name in {one.account for one in world.state.streams()}
    assert world.job.oldest_change_s() == 0 and failing_accounts(world.state) == []
    assert all_is_stored(world.state) and not is_hindered(world.state)


def test_backup_run_and_status_name_the_account_without_a_snapshot(tmp_path: Path) -> None:
    """Everything else is stored; the exit code says that it is not everything."""
    world = CommandsWorld(tmp_path)
    world.objects.mkdir()
    (folder,) = (world.root / "accounts").glob("*/*")
    world.add_account("bob@example.org")
    unreadable(AccountPaths(folder))
    answer = world.answer("backup", "run", codes=(EXIT_STORAGE,))
    assert answer["failing"] == [NAME.decode()] and not answer["stored"] and not answer["waiting_segments"]
    status = world.answer("backup", "status")
    assert status["failing"] == [NAME.decode()] and len(status["accounts"]) == 1
    code, out, _ = world.run("backup", "run")
    assert code == EXIT_STORAGE and f"{NAME.decode()}  its changes have no snapshot" in out


def test_what_the_servers_stream_does_not_name_is_not_stored(world: JobWorld) -> None:
    """Without the server nobody would find it: a run ends only when it is named."""
    world.job.run_once()
    world.append("two")
    world.job.turn(everything=True)
    world.job._uploader.wait(10)
    world.job.collect()
    while world.state.waiting():
        world.job._uploader.wait(10)
        world.job.collect()
    assert world.state.heads(everything=False) and not all_is_stored(world.state)
    assert world.job.run_once() and all_is_stored(world.state)
