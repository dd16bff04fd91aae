"""Exceptions that nobody catches: the log names their kind and place, and never their text."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.soak.site import TRACEBACK

PROJECT = Path(__file__).resolve().parents[2]
SECRET = "what a client sent"

START = """
import sys, threading
from deploy.logs import LogSettings, setup
setup(LogSettings(), "worker-0")
def fail():
    raise ValueError("what a " + "client sent")
"""
NOBODY_CATCHES = {
    "main thread": (START + "fail()\n", 1, "the process ends by an exception"),
    "thread": (START + "t = threading.Thread(target=fail)\nt.start()\nt.join()\n", 0, "a thread ended"),
    "finalizer": (
        START + "class Last:\n    def __del__(self):\n        fail()\nLast()\n",
        0,
        "an exception was ignored",
    ),
}


@pytest.mark.parametrize("where", NOBODY_CATCHES)
def test_an_uncaught_exception_is_logged_without_its_text(where: str) -> None:
    """Python would print the text, which may quote a client."""
    program, code, said = NOBODY_CATCHES[where]
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == code
    assert f"sealbox.uncaught: {said}" in done.stderr
    assert "in fail" in done.stderr
    assert "ValueError" in done.stderr
    assert SECRET not in done.stderr


@pytest.mark.parametrize("where", NOBODY_CATCHES)
def test_the_soak_sees_what_nobody_caught(where: str) -> None:
    """Its check of the log finds our own form of a traceback, and Python's."""
    program = NOBODY_CATCHES[where][0]
    for text in (program, program.replace("setup(", "(lambda *_: None)(")):
        done = subprocess.run(
            [sys.executable, "-c", text], cwd=PROJECT, capture_output=True, text=True, timeout=60, check=False
        )
        (found,) = TRACEBACK.findall(f"one line\n{done.stderr}another line\n")
        assert "in fail" in found
        assert "ValueError" in found
        assert "another line" not in found
