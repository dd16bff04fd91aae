"""When the system gives no inotify instance or watch, the log names the setting to raise."""

from __future__ import annotations

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
    monkeypatch.setattr(changes, "_lasting_inotify", lambda _reactor: instance)
    watcher = changes.Watcher(Clock())
    with pytest.raises(StorageFailed):
        watcher.watch(tmp_path, ("write.lock",), lambda _names: None)
    assert "fs.inotify.max_user_watches" in caplog.text
    watcher.ignore(tmp_path)  # it asks inotify for nothing
