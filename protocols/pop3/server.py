"""The POP3 server as Twisted knows it: a factory for connections on one port."""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine
from typing import Any

from protocols.access_log import AccessLog
from protocols.limits import Pop3Limits, StreamLimits
from protocols.login import LoginGuard
from protocols.pop3.context import Pop3Services
from protocols.pop3.session import Pop3Session
from protocols.transport import Channel, Endable, StreamFactory


class Pop3Factory(StreamFactory):
    """Connections of one listening port.

    ``implicit_tls`` tells that the port speaks TLS from the first octet (995, RFC 8314); else nothing
    but STLS is possible first. ``tls`` is the context STLS begins with (``protocols.tls.TlsContext``).
    ``clock`` is the reactor.
    """

    protocol_name = "pop3"

    def __init__(
        self,
        login: LoginGuard,
        limits: Pop3Limits,
        tls: Any,
        access_log: AccessLog,
        clock: Any,
        implicit_tls: bool,
        stream_limits: StreamLimits | None = None,
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        super().__init__(clock, stream_limits or StreamLimits())
        self._secure = implicit_tls
        self._services = Pop3Services(login, access_log, clock, tls, limits, random)

    def session(self, channel: Channel) -> tuple[Endable, Coroutine[Any, Any, None]]:
        """A session and its coroutine."""
        session = Pop3Session(channel, self._services, self._secure)
        if self.connections > self._services.limits.connections_max:
            self.observer.limit("pop3.connections_max")
            return session, session.refuse()
        return session, session.run()
