"""When the system gives no inotify instance or watch, the log names the setting to raise."""

from __future__ import annotations

import struct
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from twisted.internet import inotify
from twisted.internet.task import Clock

from mailstore import changes
from mailstore.errors import StorageFailed


def _refuses(*_arguments: object, **_named: object) -> Any:
    raise inotify.INotifyError("no")


def test_without_an_instance_the_setting_is_named(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Another program of this user may have taken all 128 of them."""
    monkeypatch.setattr(changes, "_lasting_inotify", _refuses)
    with pytest.raises(StorageFailed):
        changes.Watcher(Clock())
    assert "fs.inotify.max_user_instances" in caplog.text


def test_without_a_watch_the_setting_is_named_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The login that needed it fails; it may be tried again later."""
    instance = SimpleNamespace(startReading=lambda: None, watch=_refuses, ignore=_refuses)
    monkeypatch.setattr(changes, "_lasting_inotify", lambda *_: instance)
    watcher = changes.Watcher(Clock())
    with pytest.raises(StorageFailed):
        watcher.watch(tmp_path, ("write.lock",), lambda _names: None)
    assert "fs.inotify.max_user_watches" in caplog.text
    watcher.ignore(tmp_path)  # it asks inotify for nothing


class Reactor(Clock):
    """A clock that reads no descriptor."""

    def addReader(self, _reader: object) -> None:
        """Nothing is read but what the test gives."""

    removeReader = removeWriter = addReader


def test_lost_events_are_taken_for_every_one(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A queue that overflowed may have held the news that a password was revoked."""
    clock = Reactor()
    watcher = changes.Watcher(clock)
    heard: list[frozenset[str]] = []
    (tmp_path / "inbox").mkdir()
    watcher.watch(tmp_path, ("keys", "leave"), heard.append)
    watcher.watch_arrivals(tmp_path / "inbox", heard.append, lambda _name: None)
    overflow = struct.pack("=iIII", -1, inotify.IN_Q_OVERFLOW, 0, 0)
    watcher._inotify._doRead(overflow + overflow)
    clock.advance(0)
    assert heard == [frozenset({"keys", "leave"}), frozenset({""})]
    assert "fs.inotify.max_queued_events" in caplog.text
    watcher.ignore(tmp_path)
    watcher.ignore(tmp_path / "inbox")
    watcher._inotify._doRead(overflow)
    clock.advance(1)
    assert len(heard) == 2
    watcher.stop()
