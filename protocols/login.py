"""Slowing down guessers: limits on login attempts per address and per connection.

Every failure looks the same, whatever its cause. The delay comes before the attempt, so that
parallel connections of one address gain nothing.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from twisted.internet.defer import Deferred

from mailstore.errors import AuthenticationFailed, TooManyLogins
from mailstore.model import ScramExchange, ScramSetup
from protocols.limits import LoginLimits
from protocols.sites import site_of
from protocols.store_api import AccountApi, StoreApi

T = TypeVar("T")


@dataclass(slots=True)
class _Record:
    failures: int = 0
    last_s: float = 0.0
    waiting: int = 0
    trusted: dict[int, None] = field(default_factory=dict)
    """Salted hashes of names that have logged in from here: a colleague's typos do not slow them."""


class LoginGuard:
    """The memory of failed logins, shared by all connections of a process."""

    def __init__(self, store: StoreApi, limits: LoginLimits, clock: Any) -> None:
        self.limits = limits
        self._store = store
        self._clock = clock
        self._records: OrderedDict[str, _Record] = OrderedDict()

    def delay_s(self, address: str) -> float:
        """How long the next attempt from ``address`` has to wait."""
        record = self._records.get(site_of(address))
        if record is None or self._clock.seconds() - record.last_s > self.limits.forget_after_s:
            return 0.0
        beyond = record.failures - self.limits.free_failures
        if beyond <= 0:
            return 0.0
        return float(min(self.limits.delay_max_s, self.limits.first_delay_s * 2.0 ** min(beyond - 1, 30)))

    async def login(self, address: str, name: bytes, secret: bytes, protocol: str) -> AccountApi:
        """Try to log in, after the delay that the address has earned.

        Raises:
            AuthenticationFailed: no; nothing more is said. TooManyLogins: later perhaps.
        """
        possible = 0 < len(secret) <= self.limits.secret_max_bytes
        return await self._attempt(address, name, possible, lambda: self._store.login(name, secret, protocol))

    async def scram_setup(self, name: bytes) -> ScramSetup:
        """What a SCRAM client is told before it proves anything; no name can be told from another by it."""
        return await self._store.scram_setup(name[: self.limits.name_max_bytes])

    async def login_scram(
        self, address: str, name: bytes, exchange: ScramExchange, protocol: str
    ) -> tuple[AccountApi, bytes]:
        """As ``login``, by a SCRAM proof; also gives the ServerSignature (RFC 5802 section 3)."""
        return await self._attempt(
            address, name, True, lambda: self._store.login_scram(name, exchange, protocol)
        )

    async def _attempt(self, address: str, name: bytes, possible: bool, run: Callable[[], Awaitable[T]]) -> T:
        """Run one attempt after its delay; one that is not ``possible`` fails without the store."""
        site = site_of(address)
        record = self._remember(site)
        # bytes hash with a key that only this process has (SipHash, PYTHONHASHSEED).
        who = hash(name)
        delay_s = 0.0 if who in record.trusted else self.delay_s(address)
        if delay_s:
            if record.waiting >= self.limits.waiting_per_address_max:
                raise TooManyLogins("too many logins are waiting")
            record.waiting += 1
            try:
                await self._pause(delay_s)
            finally:
                record.waiting -= 1
        limits = self.limits
        try:
            if not possible or not 0 < len(name) <= limits.name_max_bytes:
                raise AuthenticationFailed("authentication failed")
            result = await run()
        except AuthenticationFailed:
            if self._clock.seconds() - record.last_s > limits.forget_after_s:
                record.failures = 0
            record.failures += 1
            record.last_s = self._clock.seconds()
            record.trusted.pop(who, None)
            raise
        record.trusted[who] = None
        if len(record.trusted) > limits.trusted_per_address_max:
            del record.trusted[next(iter(record.trusted))]
        return result

    def _remember(self, site: str) -> _Record:
        record = self._records.setdefault(site, _Record(last_s=self._clock.seconds()))
        self._records.move_to_end(site)
        while len(self._records) > self.limits.addresses_max:
            self._records.popitem(last=False)
        return record

    async def _pause(self, seconds: float) -> None:
        done: Deferred[None] = Deferred()
        call = self._clock.callLater(seconds, done.callback, None)
        try:
            await done
        finally:
            if call.active():
                call.cancel()
