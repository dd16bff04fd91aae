"""The HTTPS door as Twisted knows it: a factory for the connections of one port."""

from __future__ import annotations

from collections.abc import Coroutine
from dataclasses import replace
from typing import Any

from protocols.https.session import HttpsServices, HttpsSession
from protocols.limits import StreamLimits
from protocols.transport import Channel, Endable, StreamFactory


class HttpsFactory(StreamFactory):
    """Connections of one port, over TLS, or in the clear from a proxy on this machine."""

    def __init__(self, services: HttpsServices, stream_limits: StreamLimits) -> None:
        limits = services.limits
        each = limits.connections_max if services.behind_proxy else limits.connections_per_address_max
        super().__init__(
            services.clock,
            replace(stream_limits, connections_max=limits.connections_max, connections_per_address_max=each),
        )
        self._services = services

    def session(self, channel: Channel) -> tuple[Endable, Coroutine[Any, Any, None]]:
        """A session and its coroutine."""
        session = HttpsSession(channel, self._services)
        return session, session.run()
