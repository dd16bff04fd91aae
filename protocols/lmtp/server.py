"""The LMTP server as Twisted knows it: a factory for connections on one port or Unix socket."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from protocols.access_log import AccessLog
from protocols.budget import MemoryBudget
from protocols.envelope.authentication import Logins
from protocols.envelope.onward import Onward
from protocols.envelope.recipients import DeliveryStore
from protocols.envelope.session import EnvelopeServices, EnvelopeSession
from protocols.limits import EnvelopeLimits, StreamLimits
from protocols.lmtp.dialect import LMTP, LMTP_OF_NODES
from protocols.transport import Channel, Endable, StreamFactory


class LmtpFactory(StreamFactory):
    """Connections of one listening port or Unix socket.

    ``tls`` is the context STARTTLS begins with (``protocols.tls.TlsContext``), None where it is not
    offered; ``implicit_tls`` tells that TLS is there from the first octet. ``hostname`` is what the
    server calls itself. ``budget`` is shared by all factories of a worker. ``clock`` is the reactor.
    ``onward`` brings mail to the nodes that have its accounts; None where such mail is put off. ``logins``
    makes this the door for nodes, which may ask whether passwords are right and say for which client.
    """

    def __init__(
        self,
        store: DeliveryStore,
        limits: EnvelopeLimits,
        tls: Any,
        access_log: AccessLog,
        clock: Any,
        hostname: str,
        budget: MemoryBudget,
        implicit_tls: bool = False,
        stream_limits: StreamLimits | None = None,
        onward: Onward | None = None,
        logins: Logins | None = None,
    ) -> None:
        super().__init__(clock, stream_limits or StreamLimits())
        self._secure = implicit_tls
        self._services = EnvelopeServices(
            dialect=LMTP if logins is None else LMTP_OF_NODES,
            store=store,
            limits=limits,
            hostname=hostname.encode("ascii"),
            budget=budget,
            access_log=access_log,
            tls=tls,
            now=clock.seconds,
            onward=onward,
            logins=logins,
        )

    def session(self, channel: Channel) -> tuple[Endable, Coroutine[Any, Any, None]]:
        """A session and its coroutine."""
        session = EnvelopeSession(channel, self._services, self._secure)
        if self.connections > self._services.limits.connections_max:
            self.observer.limit("lmtp.connections_max")
            return session, session.refuse()
        return session, session.run()
