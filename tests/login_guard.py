"""A login guard without threads, its table in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import Clock

from mailstore.address import read_login_name
from protocols.limits import LoginLimits
from protocols.login import LoginGuard
from protocols.observer import Observer
from protocols.store_api import StoreApi
from protocols.throttle import KEY_BYTES, Throttle


def at_once(function: Any, /, *args: Any, **kwargs: Any) -> Deferred[Any]:
    """A thread that is done before it was started."""
    return maybeDeferred(function, *args, **kwargs)


def login_name(name: bytes) -> str | None:
    """What the directory says of a name while example.org is the default domain."""
    return read_login_name(name, "example.org")


def make_guard(
    store: StoreApi,
    limits: LoginLimits,
    clock: Clock,
    throttle: Throttle | None = None,
    login_name: Callable[[bytes], str | None] = login_name,
    observer: Observer | None = None,
) -> LoginGuard:
    """A guard; those with the same ``throttle`` are workers of one server."""
    throttle = throttle or Throttle.in_memory(bytes(KEY_BYTES), limits)
    return LoginGuard(store, limits, clock, throttle, at_once, login_name, observer)
