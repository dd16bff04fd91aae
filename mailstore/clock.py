"""Time as an argument: the reactor's clock, typed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class DelayedCall(Protocol):
    """A scheduled call."""

    def cancel(self) -> None:
        """Cancel the call."""

    def active(self) -> bool:
        """Whether the call is still waiting."""


class Clock(Protocol):
    """The reactor, or ``twisted.internet.task.Clock`` in tests."""

    def callLater(  # noqa: N802  # Twisted's own name
        self, delay: float, callable: Callable[..., object], *args: object
    ) -> DelayedCall:
        """Call back after ``delay`` seconds."""

    def seconds(self) -> float:
        """Seconds since an arbitrary moment."""
