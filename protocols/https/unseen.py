"""Exchanges of invitations whose visitor was gone before they were done.

Who presses a button twice hangs up once: browsers drop the first request and send another. What the first has
brought waits here for a moment, for one more request with the same secret from the same site, and for nobody
else; otherwise the link would be used up and nobody would have seen the password.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

T = TypeVar("T")


@dataclass(slots=True)
class _Running(Generic[T]):
    """An exchange that goes on whoever waits for it."""

    done: Deferred[Any]
    forget: Any = field(default=None)
    """The delayed call that ends its time."""


class Unseen:
    """What waits in one process. ``clock`` is the reactor."""

    def __init__(self, clock: Any, kept_s: float) -> None:
        self._clock = clock
        self._kept_s = kept_s
        self._kept: dict[tuple[str, str], _Running[Any]] = {}

    async def exchange(self, token: str, site: str, begin: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """What ``begin`` gives, or what it gave to a visitor from there who has gone. Raises as it does."""
        running: _Running[T] | None = self._kept.pop((token, site), None)
        if running is None:
            running = _Running(Deferred.fromCoroutine(begin()))
        elif running.forget.active():
            running.forget.cancel()
        waiter: Deferred[T] = Deferred()
        running.done.addBoth(_tell, waiter)
        try:
            return await waiter
        except CancelledError:
            self._keep(token, site, running)
            raise

    def _keep(self, token: str, site: str, running: _Running[T]) -> None:
        self._kept[token, site] = running
        running.forget = self._clock.callLater(self._kept_s, self._forget, token, site)

    def _forget(self, token: str, site: str) -> None:
        self._kept.pop((token, site)).done.addBoth(lambda _outcome: None)


def _tell(outcome: T | Failure, waiter: Deferred[T]) -> T | Failure | None:
    """Hand the outcome to who waits; it stays where nobody does any more."""
    if waiter.called:
        return outcome
    if isinstance(outcome, Failure):
        waiter.errback(outcome)
    else:
        waiter.callback(outcome)
    return None
