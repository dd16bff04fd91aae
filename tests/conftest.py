"""What all tests share: nothing real is touched outside a temporary folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from time_by_folder import table

from tests import postgresql as postgresql_server

# How long an example takes is the machine's affair.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")

UMASK = os.umask(0o022)
os.umask(UMASK)


@pytest.fixture(autouse=True)
def private_state(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The quick start keeps its note in the user's state folder; tests have one of their own."""
    folder = tmp_path_factory.getbasetemp() / "state"
    monkeypatch.setenv("XDG_STATE_HOME", os.fspath(folder))
    return folder


@pytest.fixture(autouse=True)
def same_umask() -> Iterator[None]:
    """Commands run in the tests' own process set theirs; other programs that tests start would inherit it."""
    os.umask(UMASK)  # a fixture of the module may have run one
    yield
    os.umask(UMASK)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[postgresql_server.PostgreSql]:
    """A running PostgreSQL for all tests of this process, each of which has a database of its own there."""
    postgresql_server.require()
    server = postgresql_server.PostgreSql()
    try:
        yield server.start()
    finally:
        server.stop()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say where the time went, when more than one folder was run."""
    reports = [
        one for told in terminalreporter.stats.values() for one in told if isinstance(one, pytest.TestReport)
    ]
    lines = table(reports)
    if lines:
        terminalreporter.section("time by folder")
    for line in lines:
        terminalreporter.write_line(line)
