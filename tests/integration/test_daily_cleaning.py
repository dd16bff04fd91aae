"""What restores have set aside goes by itself, also where snapshots are switched off."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from running import Server, eventually

from backup.limits import DAY_S, BackupLimits

pytestmark = pytest.mark.integration


def test_what_was_replaced_long_ago_is_removed_at_the_start(tmp_path: Path) -> None:
    """A copy older than the retention time is gone soon after the start, a younger one stays."""
    server = Server(tmp_path / "data", environment={"XDG_STATE_HOME": str(tmp_path / "state")}).start()
    assert server.stop() == 0
    old, young = (server.data / "replaced" / f"{'ab' * 16}-{number}" for number in (1, 2))
    for folder in (old, young):
        folder.mkdir(parents=True)
        (folder / "keys").write_bytes(b"keyslots of the past")
        (folder / "seen").write_bytes(b"1")  # else a time so long ago would not be believed at the first look
    past_s = time.time() - (BackupLimits().retention_days + 1) * DAY_S
    os.utime(old, (past_s, past_s))
    # The clock has gone evenly for long enough.
    (server.data / "clock").write_text(f"{time.time():.0f} 0 {time.time():.0f}\n")
    server.start()
    eventually(lambda: not old.exists())
    assert young.exists()
    assert server.stop() == 0
