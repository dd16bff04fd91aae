"""A guard of logins, and somebody who tries."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from mailstore.errors import AuthenticationFailed
from mailstore.model import AccessProtocol
from protocols.limits import LoginLimits
from protocols.sites import site_of
from protocols.throttle import (
    KEY_BYTES,
    Throttle,
    _Area,
    _delay_s,
)
from tests.login_guard import make_guard
from tests.memory_store import AccountSession, MemoryStore

HOME, ELSEWHERE = "192.0.2.1", "198.51.100.7"
KEY = bytes(KEY_BYTES)
START_S = 1_700_000_000.0


class Attempts:
    """A guard, its clock and a store with the account ``joe``, whose secret is ``secret``."""

    def __init__(self, limits: LoginLimits | None = None, throttle: Throttle | None = None) -> None:
        self.clock = Clock()
        self.clock.advance(START_S)
        self.limits = limits or LoginLimits()
        self.store = MemoryStore()
        self.store.add_account()
        self.throttle = throttle or Throttle.in_memory(KEY, self.limits)
        self.guard = make_guard(self.store, self.limits, self.clock, self.throttle)

    def attempt(
        self, secret: bytes = b"wrong", address: str = HOME, name: bytes = b"joe"
    ) -> Deferred[AccountSession]:
        """Begin one login."""
        return Deferred.fromCoroutine(self.guard.login(address, name, secret, AccessProtocol.IMAP))

    def delay_s(self, address: str) -> float:
        """Seconds that attempts of an untrusted address have to be apart now."""
        entry = self.throttle._find(self.throttle._pages, _Area.SITE, site_of(address))[1]
        return _delay_s(entry, self.limits.free_failures, self.limits, self.clock.seconds())

    def fail(self, times: int, address: str = HOME, name: bytes = b"joe") -> None:
        """Fail as often, waiting as long as it takes."""
        for _ in range(times):
            done = self.attempt(b"wrong", address, name)
            while not done.called:
                self.clock.advance(1)
            assert outcome(done) is AuthenticationFailed


def outcome(done: Deferred[AccountSession]) -> type:
    """The class of what a finished attempt has come to; dict when nothing has happened yet."""
    seen: list[type] = []

    def note(result: AccountSession | Failure) -> AccountSession | None:
        failed = isinstance(result, Failure)
        seen.append(type(result.value if failed else result))
        return None if failed else result

    done.addBoth(note)
    return seen[0] if seen else dict
