"""Hears of changes that any node makes: one connection and one thread per process."""

from __future__ import annotations

import logging
import os
import select
from collections.abc import Callable
from contextlib import AbstractContextManager
from threading import Thread

from mailstore.directory.pg_connection import Listening
from mailstore.errors import StoreError
from mailstore.limits import DirectoryLimits

log = logging.getLogger("sealbox.directory")

Heard = Callable[[str], object]
"""Called with what was told, "" where anything may have changed; gives the version that this leads to."""

_END_S = 1.0
"""Seconds for which the end of the thread is waited for."""

_FIRST_PAUSE = 20
"""The first pause before a new connection is this part of the longest."""


class Listener:
    """Calls ``heard`` in its thread after each change, and after a time when one may have been missed."""

    def __init__(
        self, opened: Callable[[], AbstractContextManager[Listening]], limits: DirectoryLimits, heard: Heard
    ) -> None:
        """``opened`` gives a connection that listens."""
        self._opened = opened
        self._limits = limits
        self._heard = heard
        self._last: object = None
        self._known: Callable[[], object] = lambda: None
        self._woken, self._waker = os.pipe()
        self._thread = Thread(target=self._run, name="sealbox-directory", daemon=True)

    def start(self, known: Callable[[], object]) -> None:
        """Begin. ``known()`` is asked at the first connection which version has been seen before; if it is
        None, nothing has that could be out of date."""
        self._known = known
        self._thread.start()

    def stop(self) -> None:
        """End; a thread that is just connecting ends by itself soon. May be called from any other."""
        os.write(self._waker, b"x")
        self._thread.join(_END_S)
        if not self._thread.is_alive():
            os.close(self._woken)
            os.close(self._waker)

    def _run(self) -> None:
        longest_s = self._limits.retry_max_s
        pause_s = longest_s / _FIRST_PAUSE
        while True:
            try:
                with self._opened() as connection:
                    pause_s = longest_s / _FIRST_PAUSE
                    if self._listen(connection):
                        return
            except StoreError as error:
                log.debug("directory: not listening: %s", type(error).__name__)
            except Exception as error:  # noqa: BLE001 - if this thread ended, nobody would hear of a change
                log.error("directory: listening has failed: %s", type(error).__name__)
            if self._sleep(pause_s):
                return
            pause_s = min(2 * pause_s, longest_s)

    def _listen(self, connection: Listening) -> bool:
        """Tell what is heard until the connection ends, or True when this is to end. Raises StoreError."""
        poll = select.poll()
        poll.register(connection.fileno(), select.POLLIN)
        poll.register(self._woken, select.POLLIN)
        self._catch_up(connection)
        while True:
            ready = [one for one, _ in poll.poll(int(self._limits.heartbeat_s * 1000))]
            if self._woken in ready:
                return True
            for told in connection.news() if ready else ():
                self._last = self._heard(told)
            if not ready:
                # It shows, too, that somebody is still there.
                self._catch_up(connection)

    def _catch_up(self, connection: Listening) -> None:
        now = connection.version()
        if self._last is None:
            before = self._known()
            self._last = now if before is None else before
        if now != self._last:
            self._last = now
            self._heard("")

    def _sleep(self, pause_s: float) -> bool:
        """Whether this is to end."""
        poll = select.poll()  # select(2) takes no descriptor beyond 1023
        poll.register(self._woken, select.POLLIN)
        return bool(poll.poll(int(pause_s * 1000)))
