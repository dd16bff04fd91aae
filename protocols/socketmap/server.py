"""The recipient maps as Twisted knows them: a factory for connections on one Unix socket."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from protocols.access_log import AccessLog
from protocols.envelope.recipients import DeliveryStore
from protocols.limits import SocketmapLimits, StreamLimits
from protocols.socketmap.session import SocketmapServices, SocketmapSession
from protocols.transport import Channel, Endable, StreamFactory


class SocketmapFactory(StreamFactory):
    """Connections of one Unix socket. ``clock`` is the reactor."""

    def __init__(
        self,
        store: DeliveryStore,
        limits: SocketmapLimits,
        access_log: AccessLog,
        clock: Any,
        stream_limits: StreamLimits | None = None,
    ) -> None:
        super().__init__(clock, stream_limits or StreamLimits())
        self._services = SocketmapServices(store, limits, access_log)

    def session(self, channel: Channel) -> tuple[Endable, Coroutine[Any, Any, None]]:
        """A session and its coroutine."""
        session = SocketmapSession(channel, self._services)
        if self.connections > self._services.limits.connections_max:
            self.observer.limit("recipients.connections_max")
            return session, session.refuse()
        return session, session.run()
