"""Who is told how far long work on an account has come."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Counts octets."""

    def expect(self, size_bytes: int) -> None:
        """There is so much more to do."""

    def advance(self, size_bytes: int) -> None:
        """So much more has been done."""
