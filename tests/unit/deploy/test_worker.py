"""A worker that cannot open what it serves says so in a line and ends."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from deploy import worker
from deploy.forking import Inherited
from mailstore.errors import StorageFailed


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (StorageFailed("the database reported an error"), "StorageFailed"),
        (PermissionError(13, "Permission denied"), "PermissionError (errno 13)"),
    ],
)
def test_what_cannot_be_opened_is_a_line_in_the_log(
    error: Exception,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The supervisor starts another one after a pause; a traceback would help nobody."""

    def fails(*_arguments: object) -> None:
        raise error

    no_metrics = SimpleNamespace(listen=())
    config: Any = SimpleNamespace(log_settings=None, data=tmp_path, metrics=no_metrics)
    monkeypatch.setattr(worker, "setup", lambda *_, **__: None)
    monkeypatch.setattr(worker, "process_hardening", lambda: None)
    monkeypatch.setattr(worker, "Worker", fails)
    with caplog.at_level(logging.ERROR):
        assert worker.run(config, 0, False, [], Inherited(-1, -1)) == 1
    assert f"cannot serve {tmp_path}: {said}" in caplog.text
