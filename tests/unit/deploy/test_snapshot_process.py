"""The process that takes snapshots ends when it is told to, and not at its next look."""

from __future__ import annotations

import os
import threading
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from backup.job import Places
from backup.run_request import RunRequest
from deploy import snapshots
from deploy.forking import Inherited
from mailstore.errors import LeaseOver, StorageFailed, StorageFull


def test_a_signal_ends_the_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting for a descriptor is taken up again after a signal, so the signal has to be one."""
    control, other_end = os.pipe()
    monkeypatch.setattr(snapshots, "_LOOK_S", 3600.0)
    config: Any = SimpleNamespace(data=tmp_path, snapshots=SimpleNamespace(scan_interval_s=7200.0))
    job: Any = SimpleNamespace(collect=lambda: None)
    process = snapshots.Process(config, Inherited(control, -1))
    waiting = threading.Thread(target=process._pause, args=(job,), daemon=True)
    waiting.start()
    process._end(15, None)
    waiting.join(60)
    assert not waiting.is_alive()
    for descriptor in (control, other_end):
        os.close(descriptor)


def test_a_failure_between_two_looks_is_a_line_in_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The state's database may be busy or its disk full when an upload ends: the next turn notes it."""
    control, other_end = os.pipe()
    monkeypatch.setattr(snapshots, "_LOOK_S", 0.0)
    config: Any = SimpleNamespace(data=tmp_path, snapshots=SimpleNamespace(scan_interval_s=7200.0))
    calls: list[int] = []

    def fails() -> None:
        calls.append(1)
        raise StorageFull("the disk is full")

    snapshots.Process(config, Inherited(control, -1))._pause(SimpleNamespace(collect=fails))  # type: ignore[arg-type]  # all it uses
    assert len(calls) == 1
    assert "snapshots: StorageFull the disk is full" in caplog.text
    for descriptor in (control, other_end):
        os.close(descriptor)


def test_what_is_asked_for_without_a_lease_is_asked_for_until_there_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody is told that all is stored because nothing was done; an earlier request is not made anew."""
    control, other_end = os.pipe()
    monkeypatch.setattr(snapshots, "_LOOK_S", 0.0)
    config: Any = SimpleNamespace(data=tmp_path)
    request = RunRequest(Places(tmp_path).folder)
    Places(tmp_path).make()
    turns: list[bool] = []

    def turn(*, everything: bool) -> None:
        turns.append(everything)
        if len(turns) < 3:
            raise LeaseOver

    process = snapshots.Process(config, Inherited(control, -1))
    process._turn(SimpleNamespace(turn=turn))  # type: ignore[arg-type]  # all it uses
    assert not request.is_open()
    request.ask()
    for is_open in (True, False):
        process._turn(SimpleNamespace(turn=turn))  # type: ignore[arg-type]
        assert request.is_open() is is_open
    assert turns == [False, True, True]
    for descriptor in (control, other_end):
        os.close(descriptor)


def test_a_failure_at_the_end_is_a_line_in_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever the last notes meet, the process ends with a code, not with a traceback."""
    monkeypatch.setattr(snapshots.signal, "signal", lambda *_: None)

    def fails() -> None:
        raise StorageFailed("the database reported an error")

    def opened(_config: object, stack: ExitStack, *, patience_s: float) -> tuple[object, object]:
        stack.callback(fails)
        return object(), patience_s

    monkeypatch.setattr(snapshots, "open_job", opened)
    monkeypatch.setattr(snapshots.Process, "_serve", lambda *_: None)
    config: Any = SimpleNamespace(data=tmp_path)
    assert snapshots.Process(config, Inherited(-1, -1)).run() == 1
    assert "no snapshots: StorageFailed the database reported an error" in caplog.text
