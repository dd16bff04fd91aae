"""The metrics of the snapshots are numbers for the whole server."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from job_world import JobWorld

from backup.segment import SERVER
from deploy.snapshot_metrics import FILE, write_metrics


@pytest.fixture
def world(tmp_path: Path) -> Iterator[JobWorld]:
    """An account with snapshots."""
    world = JobWorld(tmp_path)
    world.append("one")
    world.pass_time(200)
    yield world
    world.job.stop()
    world.state.close()
    world.mail.close()


def told(world: JobWorld, folder: Path, name: str) -> float:
    """What the metrics say."""
    write_metrics(folder, world.job, world.state)
    (found,) = re.findall(rf"^sealbox_backup_{name} (.*)$", (folder / FILE).read_text(), re.MULTILINE)
    return float(found)


def test_the_first_snapshot_is_remembered_when_it_is_gone(world: JobWorld, tmp_path: Path) -> None:
    """Days without a proof count from there; and an account's it has to be, the server's cannot be proven."""
    first = told(world, tmp_path, "first_stored_timestamp_seconds")
    taken = [
        segment.name.taken_ms / 1000
        for stream in world.state.streams()
        if stream.account != SERVER
        for segment in world.state.segments(stream.stream)
    ]
    assert first == min(taken)
    world.append("two")
    world.pass_time(100_000)
    for stream in world.state.streams():
        world.state.pruned([one.name for one in world.state.segments(stream.stream)])
    assert told(world, tmp_path, "newest_stored_timestamp_seconds") == 0
    assert told(world, tmp_path, "first_stored_timestamp_seconds") == first


def test_metrics_name_nobody(world: JobWorld, tmp_path: Path) -> None:
    """No metric has a label, so none can name an account; nothing else in the file does."""
    write_metrics(tmp_path, world.job, world.state)
    text = (tmp_path / FILE).read_text()
    assert "sealbox_backup_accounts 1.0\n" in text
    assert "{" not in text
    account = world.mail.directory.accounts()[0]
    streams = [one.stream for one in world.state.streams()]
    assert not [one for one in (account.name, account.account_id, "example.org", *streams) if one in text]
