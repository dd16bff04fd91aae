"""Fixtures: a running server per module."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from running import Server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A quick start server with fresh data, stopped cleanly afterwards."""
    folder: Path = tmp_path_factory.mktemp("server")
    running = Server(folder / "data", environment={"XDG_STATE_HOME": str(folder / "state")}).start()
    yield running
    if running.process is not None:
        assert running.stop() == 0
