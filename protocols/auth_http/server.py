"""The service for nginx's ``auth_http`` as Twisted knows it: a factory for the connections of one port."""

from __future__ import annotations

from collections.abc import Coroutine
from dataclasses import replace
from typing import Any

from protocols.access_log import AccessLog
from protocols.auth_http.pace import Pace
from protocols.auth_http.session import AuthHttpServices, AuthHttpSession, FindDoor
from protocols.limits import AuthHttpLimits, StreamLimits
from protocols.seldom import Seldom
from protocols.transport import Channel, Endable, StreamFactory


class AuthHttpFactory(StreamFactory):
    """Connections of one port. ``clock`` is the reactor; ``name_max_bytes`` bounds login names."""

    def __init__(
        self,
        find_door: FindDoor,
        limits: AuthHttpLimits,
        name_max_bytes: int,
        access_log: AccessLog,
        clock: Any,
        stream_limits: StreamLimits | None = None,
    ) -> None:
        each = limits.connections_max  # nginx has one address
        super().__init__(
            clock,
            replace(stream_limits or StreamLimits(), connections_max=each, connections_per_address_max=each),
        )
        pace = Pace(limits, clock)
        self._services = AuthHttpServices(
            *(find_door, pace, limits, name_max_bytes, access_log, clock, Seldom(clock))
        )

    def session(self, channel: Channel) -> tuple[Endable, Coroutine[Any, Any, None]]:
        """A session and its coroutine."""
        session = AuthHttpSession(channel, self._services)
        return session, session.run()
