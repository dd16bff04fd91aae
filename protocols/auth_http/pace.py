"""How often one client may have a proxy ask: so many logins at once, then one after the other."""

from __future__ import annotations

import os
from typing import Any

from protocols.limits import AuthHttpLimits, LoginLimits
from protocols.sites import site_of
from protocols.throttle import KEY_BYTES, Throttle


class Pace:
    """Counts the questions of each site in memory, by the throttle that slows guessers at the nodes.

    What is counted here costs no guess: whether the secret was right, the node finds out, and it has a
    throttle of its own. ``clock`` is the reactor.
    """

    def __init__(self, limits: AuthHttpLimits, clock: Any) -> None:
        self._clock = clock
        self._limits = LoginLimits(
            free_failures=limits.burst_per_address,
            account_free_failures=limits.burst_per_address,
            first_delay_s=limits.interval_s,
            delay_max_s=limits.interval_s,
            forget_after_s=limits.forget_after_s,
            addresses_max=limits.addresses_max,
        )
        self._throttle = Throttle.in_memory(os.urandom(KEY_BYTES), self._limits)

    def may_ask(self, address: str) -> bool:
        """Whether the client at this address may have one more question asked now; it is counted if so."""
        site = site_of(address)
        return self._throttle.start(site, site, self._limits, self._clock.seconds()).wait_s <= 0
