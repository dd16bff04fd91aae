"""Which fast test runs which line: one run of them all under coverage, kept for later mutation runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[2]
KEPT = PROJECT / ".mutation" / "covering.json"
FAST_TESTS = ("tests/unit", "tests/property", "tests/transcripts/test_transcripts.py", "tests/crash")
"""Those that start servers would run unchanged modules."""
FAST_S = 6.0
"""Tests that take longer under coverage are left out of mutation runs."""
_MODULES = "SEALBOX_MUTATION_MODULES"
_ROOMS = ("mailstore", "protocols", "backup", "deploy")


@dataclass(frozen=True, slots=True)
class Covering:
    """The lines of modules with the tests that run them, and how long each test takes, in seconds."""

    lines: dict[str, dict[int, list[str]]]
    seconds: dict[str, float]

    def tests_of(self, module: str, lines: tuple[int, int]) -> list[str]:
        """The tests that run any of the lines, the most promising first.

        Those are tests that run little else of the project, and are quick.
        """
        of_module = self.lines.get(module, {})
        found = {test for line in range(lines[0], lines[1] + 1) for test in of_module.get(line, ())}
        found = {test for test in found if test.startswith(FAST_TESTS)}
        return sorted(found, key=lambda test: (self.seconds.get(test, 0.0), test))


def covering(anew: bool) -> Covering:
    """The map that is kept, or a new one."""
    if anew or not KEPT.exists():
        _record()
    kept = json.loads(KEPT.read_text())
    lines = {
        module: {int(line): [kept["tests"][test] for test in tests] for line, tests in of.items()}
        for module, of in kept["lines"].items()
    }
    return Covering(lines, kept["seconds"])


def _record() -> None:
    KEPT.parent.mkdir(exist_ok=True)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "tests.mutation.covering",
        "-p",
        "no:cacheprovider",
    ]
    # A test that fails here is no reason to stop: it notices nothing, that is all.
    done = subprocess.run([*command, *FAST_TESTS], cwd=PROJECT, env=os.environ | {_MODULES: "1"}, check=False)
    if done.returncode not in (0, 1):
        raise SystemExit("the tests did not run: nothing is known of what they cover")


class _Recorder:
    """A plugin of pytest: coverage with the running test as its context."""

    def __init__(self) -> None:
        import coverage

        self._coverage = coverage.Coverage(
            data_file=None, source=[str(PROJECT / room) for room in _ROOMS], config_file=False
        )
        self._seconds: dict[str, float] = {}
        self._coverage.start()

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._coverage.switch_context(nodeid)

    def pytest_runtest_logfinish(self) -> None:
        self._coverage.switch_context("")

    def pytest_runtest_logreport(self, report: Any) -> None:
        before = self._seconds.get(report.nodeid, 0.0)
        self._seconds[report.nodeid] = before + report.duration
        if report.outcome != "passed":
            self._seconds[report.nodeid] = FAST_S + 1  # one that fails, or is skipped, tells nothing

    def pytest_sessionfinish(self) -> None:
        self._coverage.stop()
        data = self._coverage.get_data()
        tests = sorted(test for test, taken in self._seconds.items() if taken <= FAST_S)
        numbers = {test: number for number, test in enumerate(tests)}
        lines = {
            str(Path(file).relative_to(PROJECT)): _numbered(data.contexts_by_lineno(file), numbers)
            for file in data.measured_files()
        }
        KEPT.write_text(json.dumps({"tests": tests, "lines": lines, "seconds": self._seconds}))


def _numbered(contexts: dict[int, list[str]], numbers: dict[str, int]) -> dict[int, list[int]]:
    def known(names: Iterable[str]) -> list[int]:
        return [numbers[name] for name in names if name in numbers]

    return {line: known(names) for line, names in contexts.items()}


def pytest_configure(config: Any) -> None:
    """Called by pytest, for which this module is a plugin."""
    if os.environ.get(_MODULES):
        config.pluginmanager.register(_Recorder())
