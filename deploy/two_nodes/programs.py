"""Programs that are started beside each other, waited for, and ended."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

START_S = 60.0
STOP_S = 30.0
POLL_S = 0.05
LOG_TAIL_BYTES = 2000

Pause = Callable[[float], object]
"""Waits for so many seconds; may raise to end whatever waits."""


class CannotStart(Exception):
    """It does not start; the text is one sentence, or what the program itself has said."""


class Program:
    """A program in a session of its own, so that Ctrl-C reaches us alone. It writes into ``NAME.log``."""

    def __init__(
        self,
        name: str,
        words: Sequence[str | Path],
        folder: Path,
        *,
        environment: Mapping[str, str] | None = None,
        **as_user: Any,
    ) -> None:
        """Start it in ``folder``. ``as_user`` is what subprocess takes for another user. Raises OSError."""
        self.name = name
        self.log = folder / f"{name}.log"
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                words,
                cwd=folder,
                env=None if environment is None else {**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                **as_user,
            )

    @property
    def pid(self) -> int:
        """Of the program itself, not of what it starts."""
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        """Whether it is gone, for whatever reason."""
        return self._process.poll() is not None

    def wait_until(self, is_ready: Callable[[], bool], pause: Pause, seconds: float = START_S) -> None:
        """Return when it is ready. Raises CannotStart when it ends before, or takes too long."""
        until = time.monotonic() + seconds
        while not is_ready():
            if self.has_ended or time.monotonic() > until:
                said = self.log.read_bytes()[-LOG_TAIL_BYTES:].decode("utf-8", "replace").strip()
                raise CannotStart(f"{self.name} does not start\n{said}")
            pause(POLL_S)

    def wait(self) -> None:
        """Return when it has ended. Raises subprocess.TimeoutExpired after ``STOP_S`` seconds."""
        self._process.wait(STOP_S)

    def stop(self, number: int = signal.SIGTERM, *, with_children: bool = False) -> None:
        """Ask it to end, and end it by force when it does not within ``STOP_S`` seconds.

        ``with_children`` tells its whole session, for a program that forgets what it has started.
        """
        if self.has_ended:
            return
        send = os.killpg if with_children else os.kill
        send(self.pid, number)
        try:
            self.wait()
        except subprocess.TimeoutExpired:
            send(self.pid, signal.SIGKILL)
            self._process.wait()
