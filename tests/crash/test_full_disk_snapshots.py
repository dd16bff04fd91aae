"""No room for snapshots: mail is not affected, nothing half is kept, and all is well when there is room."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "unit" / "backup"))

from backup_world import NewMessage, now
from job_world import JobWorld

pytestmark = pytest.mark.crash

BIG = os.urandom(400_000).hex().encode()
"""Does not compress below 400 KB."""


def mount(folder: Path, options: str) -> bool:
    """Mount a tmpfs, or change the one that is there."""
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.fixture
def world(tmp_path: Path) -> Iterator[JobWorld]:
    """A server whose staging folder has room for a fifth of a megabyte."""
    made = JobWorld(tmp_path)
    staging = made.places.staging
    if not mount(staging, "size=200k,mode=700"):
        assert not os.environ.get("CI"), "CI has to be able to mount a tmpfs, or the proof is missing"
        pytest.skip("this machine does not allow mounting a tmpfs")
    yield made
    made.job.stop()
    made.state.close()
    made.mail.close()
    subprocess.run(["umount", str(staging)], check=True)


def test_a_snapshot_that_finds_no_room_is_taken_when_there_is(
    world: JobWorld, caplog: pytest.LogCaptureFixture
) -> None:
    """The error is logged without addresses; other accounts' and the server's snapshots go on."""
    account = world.mail.login()
    now(account.append("INBOX", [NewMessage(b"Subject: big\r\n\r\n" + BIG)]))
    account.release()
    world.pass_time(300)
    assert world.stored() == []
    assert list(world.store.list()), "the server's own stream is small enough"
    assert world.state.waiting() == [] == list(world.places.staging.iterdir())
    assert "StorageFull" in caplog.text and "example.org" not in caplog.text
    account = world.mail.login()
    now(account.append("INBOX", [NewMessage(b"Subject: small\r\n\r\n")]))
    account.release()
    assert mount(world.places.staging, "remount,size=20m")
    world.pass_time(300)
    assert len(world.stored()) == 1
