"""The IMAP server as Twisted knows it: a factory for connections on one port."""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine
from typing import Any

from protocols.access_log import AccessLog
from protocols.budget import MemoryBudget
from protocols.imap.context import ImapServices
from protocols.imap.session import ImapSession
from protocols.limits import AccessLogLimits, ImapLimits, LoadLimits, StreamLimits
from protocols.load import Load, idle
from protocols.login import LoginGuard
from protocols.transport import Channel, Endable, StreamFactory


class ImapFactory(StreamFactory):
    """Connections of one listening port.

    ``implicit_tls`` tells that the port speaks TLS from the first octet (993, RFC 8314); else
    nothing but STARTTLS is possible first. ``tls`` is the context STARTTLS begins with
    (``protocols.tls.TlsContext``). ``literals`` is shared by all factories of a worker. ``clock`` is the
    reactor.
    """

    protocol_name = "imap"

    def __init__(
        self,
        login: LoginGuard,
        limits: ImapLimits,
        tls: Any,
        access_log: AccessLog,
        clock: Any,
        implicit_tls: bool,
        literals: MemoryBudget,
        stream_limits: StreamLimits | None = None,
        log_limits: AccessLogLimits | None = None,
        random: Callable[[int], bytes] = os.urandom,
        load: Callable[[], Load] = idle,
        load_limits: LoadLimits | None = None,
    ) -> None:
        super().__init__(clock, stream_limits or StreamLimits())
        self._secure = implicit_tls
        self._services = ImapServices(
            login,
            access_log,
            clock,
            literals,
            tls,
            limits,
            log_limits or AccessLogLimits(),
            random,
            load,
            load_limits or LoadLimits(),
        )

    def session(self, channel: Channel) -> tuple[Endable, Coroutine[Any, Any, None]]:
        """A session and its coroutine."""
        session = ImapSession(channel, self._services, self._secure)
        return session, session.run()
