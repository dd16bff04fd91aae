"""What a worker has at the moment is looked at once a second: counting each change would cost more."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from deploy.metrics.meters import Meters
from deploy.sockets import SERVICES
from protocols.load import Load
from protocols.transport import StreamFactory

EVERY_S = 1.0


@dataclass(frozen=True, slots=True)
class Sources:
    """Where to look."""

    factories: Callable[[], Sequence[StreamFactory]]
    load: Callable[[], Load]
    open_accounts: Callable[[], int]
    awake_accounts: Callable[[], int]
    throttled: Callable[[], int]
    """Logins that wait because of earlier failures."""
    argon2_queue: Callable[[], int]
    lease_left_s: Callable[[], float]
    """Seconds for which the node may serve without renewing its lease."""
    filed_messages: Callable[[], int]
    """How many messages have been filed since the process began."""
    input_bytes: Mapping[str, Callable[[], int]]
    """Memory for unfinished input, by what it is of."""


class Sampler:
    """Looks at one worker. ``clock`` is the reactor."""

    def __init__(self, clock: Any, meters: Meters, sources: Sources) -> None:
        self._clock = clock
        self._meters = meters
        self._sources = sources
        self._filed = 0
        self._call: Any = None

    def start(self) -> None:
        """Look now, and from now on."""
        self._call = self._clock.callLater(EVERY_S, self.start)
        self.look()

    def stop(self) -> None:
        """Look no more."""
        call, self._call = self._call, None
        if call is not None:
            call.cancel()

    def look(self) -> None:
        """Set what is now."""
        meters, sources = self._meters, self._sources
        sessions = Counter[str]()
        for factory in sources.factories():
            sessions[factory.service] += factory.connections
        for service in SERVICES:
            meters.sessions.labels(service).set(sessions[service])
        for of, used in sources.input_bytes.items():
            meters.input_bytes.labels(of).set(used())
        load = sources.load()
        meters.workers.set(1)
        meters.lag_s.set(load.lag_s)
        meters.waiting_jobs.set(load.waiting_jobs)
        meters.open_accounts.set(sources.open_accounts())
        meters.awake_accounts.set(sources.awake_accounts())
        meters.waiting_logins.set(sources.throttled())
        meters.argon2_queue.set(sources.argon2_queue())
        meters.lease_left_s.set(sources.lease_left_s())
        filed = sources.filed_messages()
        meters.filed.inc(filed - self._filed)
        self._filed = filed
