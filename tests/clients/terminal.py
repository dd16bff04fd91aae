"""A program on a pseudo-terminal: keys go in, its wire log tells how far it is, the screen what it shows."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import termios
import threading
from pathlib import Path

from day import Day
from running import eventually

ROWS, COLUMNS = 50, 132
KEPT_BYTES = 4000
END_S = 20
TRIES, TRY_S = 4, 6.0


class Terminal:
    """A running program with its keyboard and its wire log."""

    def __init__(self, day: Day, command: list[str], log: Path) -> None:
        self._day = day
        self._log = log
        self._seen = 0
        self._keyboard, inside = pty.openpty()
        fcntl.ioctl(inside, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        self._process = subprocess.Popen(
            command,
            stdin=inside,
            stdout=inside,
            stderr=inside,
            env={**os.environ, "HOME": str(day.folder), "TERM": "vt100", "LC_ALL": "C.UTF-8"},
            start_new_session=True,
        )
        os.close(inside)
        self._screen = b""
        self._drain = threading.Thread(target=self._read, daemon=True)
        self._drain.start()

    def _read(self) -> None:
        """A program whose terminal is full stands still, so everything it draws is read."""
        while True:
            try:
                data = os.read(self._keyboard, 65536)
            except OSError:
                return
            if not data:
                return
            self._screen = (self._screen + data)[-KEPT_BYTES:]

    def press(self, keys: str) -> None:
        """Send keys; ``\\r`` is the Enter key."""
        os.write(self._keyboard, keys.encode())

    def said(self) -> str:
        """The wire log since the last thing waited for."""
        return self._log.read_bytes().decode("utf-8", "replace")[self._seen :] if self._log.exists() else ""

    def expect(self, what: str, pattern: str) -> re.Match[str]:
        """Wait until the wire log has the pattern behind the last one."""
        found = self._day.until(what, lambda: re.search(pattern, self.said(), re.DOTALL | re.MULTILINE))
        assert found is not None
        self._seen += found.end()
        return found

    def insist(self, what: str, keys: str, pattern: str) -> None:
        """Press keys, again where nothing comes of it, until the wire log has the pattern."""
        for _ in range(TRIES - 1):
            self.press(keys)
            try:
                eventually(lambda: re.search(pattern, self.said(), re.DOTALL | re.MULTILINE), TRY_S)
            except AssertionError:
                self._day.step(f"not yet: {what}")
            else:
                break
        else:
            self.press(keys)
        self.expect(what, pattern)

    def shows(self, what: str, text: str) -> None:
        """Wait until the screen has the text; it has to come in one piece."""
        self._day.until(what, lambda: text.encode() in self._screen)

    def end(self, keys: str) -> None:
        """The keys that end the program, and its end."""
        self.press(keys)
        code = self._process.wait(END_S)
        self._day.sees("the program ending well", 0, code)
        os.close(self._keyboard)

    def close(self) -> None:
        """Keep the last of the screen beside the log; end the program if it is still there."""
        self._log.with_name("screen").write_bytes(self._screen)
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(END_S)
            os.close(self._keyboard)
