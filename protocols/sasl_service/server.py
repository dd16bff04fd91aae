"""The authentication service as Twisted knows it: a factory for connections on one Unix socket."""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine
from itertools import count
from typing import Any

from protocols.access_log import AccessLog
from protocols.limits import SaslServiceLimits, StreamLimits
from protocols.login import LoginGuard, OtherNodes
from protocols.sasl_service.session import SaslServices, SaslSession
from protocols.transport import Channel, Endable, StreamFactory


class SaslFactory(StreamFactory):
    """Connections of one Unix socket. ``clock`` is the reactor."""

    def __init__(
        self,
        login: LoginGuard,
        limits: SaslServiceLimits,
        access_log: AccessLog,
        clock: Any,
        stream_limits: StreamLimits | None = None,
        random: Callable[[int], bytes] = os.urandom,
        behind_proxy: bool = False,
        nodes: OtherNodes | None = None,
    ) -> None:
        """``nodes`` are asked about accounts of theirs."""
        super().__init__(clock, stream_limits or StreamLimits())
        self._services = SaslServices(login, limits, access_log, clock, random, behind_proxy, nodes)
        self._numbers = count(1)

    def session(self, channel: Channel) -> tuple[Endable, Coroutine[Any, Any, None]]:
        """A session and its coroutine."""
        session = SaslSession(channel, self._services, next(self._numbers))
        if self.connections > self._services.limits.connections_max:
            self.observer.limit("auth.connections_max")
            return session, session.refuse()
        return session, session.run()
