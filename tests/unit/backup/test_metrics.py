"""The metrics of the snapshots are numbers for the whole server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from job_world import JobWorld

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


def test_metrics_name_nobody(world: JobWorld, tmp_path: Path) -> None:
    """No metric has a label, so none can name an account; nothing else in the file does."""
    write_metrics(tmp_path, world.job, world.state)
    text = (tmp_path / FILE).read_text()
    assert "sealbox_backup_accounts 1.0\n" in text
    assert "{" not in text
    account = world.mail.directory.accounts()[0]
    streams = [one.stream for one in world.state.streams()]
    assert not [one for one in (account.name, account.account_id, "example.org", *streams) if one in text]
