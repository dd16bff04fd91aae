"""Exchanges of invitations, each run once for all visitors who show the same secret from the same site.

Who presses a button twice hangs up once: browsers drop the first request and send another, and the server
may learn of either first. So the second one joins the exchange that runs, and the first of them who is still
there gets what it brings; nobody else does. What nobody waited for is kept for a moment, for one more
request; otherwise the link would be used up and nobody would have seen the password.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from mailstore.errors import AuthenticationFailed

T = TypeVar("T")
_Key = tuple[str, str]
"""A token and a site."""


@dataclass(slots=True)
class _Exchange(Generic[T]):
    """One exchange. It goes on whoever waits for it, until its outcome was seen."""

    waiting: list[Deferred[T]] = field(default_factory=list)
    """Visitors, the first one first."""
    outcome: T | Failure | None = field(default=None, repr=False)
    """None as long as it runs."""
    forgetting: Any = None
    """The delayed call that ends its time."""


class Unseen:
    """The exchanges of one process. ``clock`` is the reactor."""

    def __init__(self, clock: Any, kept_s: float) -> None:
        self._clock = clock
        self.kept_s = kept_s
        """How long an outcome waits that nobody has seen."""
        self._exchanges: dict[_Key, _Exchange[Any]] = {}

    async def exchange(self, token: str, site: str, begin: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """What ``begin`` gives, or gave to a visitor from there who has gone. Raises as it does, and
        AuthenticationFailed: somebody else from there has seen it."""
        key = token, site
        one: _Exchange[T] | None = self._exchanges.get(key)
        if one is None:
            one = self._exchanges[key] = _Exchange()
            Deferred.fromCoroutine(begin()).addBoth(self._done, key, one)
        waiter: Deferred[T] = Deferred()
        one.waiting.append(waiter)
        if one.outcome is not None:
            self._hand_over(key, one)
        try:
            return await waiter
        except CancelledError:
            if waiter in one.waiting:
                one.waiting.remove(waiter)
            raise

    def _done(self, outcome: T | Failure, key: _Key, one: _Exchange[T]) -> None:
        one.outcome = outcome
        if one.waiting:
            self._hand_over(key, one)
        elif isinstance(outcome, Failure):
            self._exchanges.pop(key, None)  # the next request begins again
        else:
            one.forgetting = self._clock.callLater(self.kept_s, self._exchanges.pop, key, None)

    def _hand_over(self, key: _Key, one: _Exchange[T]) -> None:
        """The first who is there gets it; a failure is everybody's."""
        self._exchanges.pop(key, None)
        if one.forgetting is not None:
            one.forgetting.cancel()
        waiting, one.waiting = one.waiting, []
        for place, waiter in enumerate(waiting):
            if isinstance(one.outcome, Failure):
                waiter.errback(one.outcome)
            elif place == 0 and one.outcome is not None:
                waiter.callback(one.outcome)
            else:
                waiter.errback(AuthenticationFailed())
