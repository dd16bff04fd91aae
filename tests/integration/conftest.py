"""Fixtures: a running server per module, one S3 server for all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from running import Server
from stores_world import local_r2

from tests.r2_server import R2Server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A quick start server with fresh data, stopped cleanly afterwards."""
    folder: Path = tmp_path_factory.mktemp("server")
    running = Server(folder / "data", environment={"XDG_STATE_HOME": str(folder / "state")}).start()
    yield running
    if running.process is not None:
        assert running.stop() == 0


@pytest.fixture(scope="session")
def r2(tmp_path_factory: pytest.TempPathFactory) -> Iterator[R2Server]:
    """A local R2; what uses it is skipped where it is not installed."""
    with local_r2(tmp_path_factory.mktemp("r2")) as running:
        yield running
