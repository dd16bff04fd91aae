"""Run the tests against one mutant, in a forked child that has read all libraries already."""

from __future__ import annotations

import ast
import enum
import importlib.abc
import importlib.machinery
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

PROJECT = Path(__file__).resolve().parents[2]
MEMORY_BYTES = 6 << 30
POLL_S = 0.02
_LIBRARIES = (
    "boto3",
    "botocore.client",
    "cryptography.hazmat.primitives.hpke",
    "cryptography.x509",
    "hypothesis",
    "imapclient",
    "prometheus_client",
    "pydantic",
    "click",
    "sqlcipher3",
    "twisted.internet.defer",
    "twisted.internet.task",
    "twisted.internet.protocol",
    "twisted.python.threadpool",
    "zstandard",
)
_ALL_PASSED = 0


class Verdict(enum.Enum):
    """What the tests make of a mutant."""

    NOTICED = "noticed"
    SURVIVED = "survived"
    TOO_SLOW = "too slow"
    """The tests did not end in time: the change makes them wait, or the machine is busy."""
    UNTESTED = "untested"
    """No fast test runs the line."""


def prepare() -> None:
    """Import what every child needs and no mutant touches; no reactor, whose descriptors would be shared."""
    for library in _LIBRARIES:
        __import__(library)
    if "twisted.internet.reactor" in sys.modules:
        raise RuntimeError("a library has installed the reactor")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the tests make of a mutant; ``by`` is the one that failed, None or empty where none said so."""

    verdict: Verdict
    by: str | None = None


def try_out(module: str, tree: ast.Module, tests: Sequence[str], seconds: float) -> Outcome:
    """Run ``tests`` in order, with ``tree`` in the place of the module, until one fails.

    A loop without end meets the limit on CPU time, and so counts as noticed.
    """
    if not tests:
        return Outcome(Verdict.UNTESTED)
    scratch = Path(tempfile.mkdtemp(prefix="sealbox-mutant-"))
    pid = os.fork()
    if not pid:
        _child(module, tree, tests, scratch, int(seconds))
    try:
        status = _wait(pid, time.monotonic() + seconds)
        failed = scratch / "failed"
        by = failed.read_text("utf-8") if failed.exists() else None
    finally:
        _end_group(pid)
        shutil.rmtree(scratch, ignore_errors=True)
    if status is None:
        return Outcome(Verdict.TOO_SLOW)
    return Outcome(Verdict.SURVIVED) if status == _ALL_PASSED else Outcome(Verdict.NOTICED, by)


class _Failed:
    """A plugin of pytest: writes down which test failed, or which file of tests could not be read."""

    def __init__(self, place: Path) -> None:
        self._place = place

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed:
            self._place.write_text(report.nodeid, "utf-8")

    pytest_collectreport = pytest_runtest_logreport


def _wait(pid: int, deadline: float) -> int | None:
    while time.monotonic() < deadline:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return status
        time.sleep(POLL_S)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return None


def _end_group(pid: int) -> None:
    """What the child has left running, if it had come to make a group of its own."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def _child(module: str, tree: ast.Module, tests: Sequence[str], scratch: Path, seconds: int) -> None:
    code = 1
    try:
        os.setsid()
        os.nice(5)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
        resource.setrlimit(resource.RLIMIT_CPU, (seconds // 2, seconds // 2 + 1))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        output = os.open(scratch / "output", os.O_WRONLY | os.O_CREAT, 0o600)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.environ["TMPDIR"] = str(scratch)
        tempfile.tempdir = str(scratch)
        os.chdir(PROJECT)
        sys.meta_path.insert(0, _Given(module, tree))
        import pytest

        options = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:warnings", "-W", "ignore"]
        options += [f"--basetemp={scratch / 'tests'}", "--hypothesis-seed=0"]
        code = int(pytest.main([*options, *tests], plugins=[_Failed(scratch / "failed")]))
    finally:
        os._exit(code)


class _Given(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Gives the changed module to whoever imports it."""

    def __init__(self, module: str, tree: ast.Module) -> None:
        self._path = PROJECT / module
        self._name = module.removesuffix(".py").replace("/", ".").removesuffix(".__init__")
        self._code: CodeType = compile(tree, str(self._path), "exec")

    def find_spec(
        self, fullname: str, _path: object = None, _target: object = None
    ) -> importlib.machinery.ModuleSpec | None:
        """See ``importlib.abc.MetaPathFinder``."""
        if fullname != self._name:
            return None
        spec = importlib.machinery.ModuleSpec(fullname, self, origin=str(self._path))
        spec.has_location = True
        return spec

    def exec_module(self, module: ModuleType) -> None:
        """See ``importlib.abc.Loader``."""
        exec(self._code, module.__dict__)
