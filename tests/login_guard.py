"""A login guard without threads, its table in memory."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import Clock

from protocols.limits import LoginLimits
from protocols.login import LoginGuard
from protocols.store_api import StoreApi
from protocols.throttle import KEY_BYTES, Throttle


def at_once(function: Any, /, *args: Any, **kwargs: Any) -> Deferred[Any]:
    """A thread that is done before it was started."""
    return maybeDeferred(function, *args, **kwargs)


def make_guard(
    store: StoreApi, limits: LoginLimits, clock: Clock, throttle: Throttle | None = None
) -> LoginGuard:
    """A guard; those with the same ``throttle`` are workers of one server."""
    return LoginGuard(store, limits, clock, throttle or Throttle.in_memory(bytes(KEY_BYTES), limits), at_once)
