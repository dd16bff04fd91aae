"""A request to the running job: a snapshot of everything, now. Two files in the backup folder carry it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mailstore.durable import storage_errors


class RunRequest:
    """The request of one data root; commands ask, the job serves."""

    def __init__(self, folder: Path) -> None:
        """``folder`` is the backup folder, which the job has made."""
        self._asked = folder / "run-now"
        self._serving = folder / "running-now"

    def ask(self) -> None:
        """Ask for it. Raises StorageFailed, StorageFull."""
        with storage_errors():
            self._asked.touch()

    def is_waiting(self) -> bool:
        """Whether somebody has asked and the job has not begun."""
        return self._asked.exists()

    def is_open(self) -> bool:
        """Whether somebody has asked and the job has not finished."""
        return self._asked.exists() or self._serving.exists()

    @contextmanager
    def served(self) -> Iterator[bool]:
        """Whether there is a request, for the block to serve; one made meanwhile is for the next time.

        Raises StorageFailed, StorageFull.
        """
        is_asked = self.is_waiting()
        try:
            if is_asked:
                with storage_errors():
                    self._asked.rename(self._serving)
            yield is_asked
        finally:
            self._serving.unlink(missing_ok=True)
