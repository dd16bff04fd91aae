"""The process that takes snapshots ends when it is told to, and not at its next look."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from deploy import snapshots


def test_a_signal_ends_the_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting for a descriptor is taken up again after a signal, so the signal has to be one."""
    control, other_end = os.pipe()
    monkeypatch.setattr(snapshots, "CONTROL_FD", control)
    monkeypatch.setattr(snapshots, "_LOOK_S", 3600.0)
    config: Any = SimpleNamespace(data=tmp_path, snapshots=SimpleNamespace(scan_interval_s=7200.0))
    job: Any = SimpleNamespace(collect=lambda: None)
    process = snapshots.Process(config)
    waiting = threading.Thread(target=process._pause, args=(job,), daemon=True)
    waiting.start()
    process._end(15, None)
    waiting.join(60)
    assert not waiting.is_alive()
    for descriptor in (control, other_end):
        os.close(descriptor)
