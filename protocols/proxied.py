"""Connections that a proxy in front of the server passes on: who the client is stands in their first octets.

The proxy has ended TLS, so what is said here is in the clear, passwords included: such a port is for a
network on which nobody listens in, and hears only who comes from one that the configuration names. Everything
behind it, from the bound on a client's connections to the access log, sees the client and not the proxy.
"""
# ruff: noqa: N802 - Twisted's own method names

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Collection
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.protocol import Factory
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.python.failure import Failure

from protocols.limits import ProxyLimits
from protocols.proxy_header import Header, HeaderInvalid, HeaderReader
from protocols.seldom import Seldom
from protocols.transport import StreamConnection, StreamFactory

log = logging.getLogger("sealbox.proxied")

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class ProxiedFactory(Factory):
    """Waits for the header, and gives the connection to the factory of a protocol then."""

    noisy = False

    def __init__(self, inner: StreamFactory, networks: Collection[Network], limits: ProxyLimits) -> None:
        """``networks`` are those that proxies may come from."""
        self.inner = inner
        self.limits = limits
        self._networks = networks
        self._waiting = 0
        self._seldom = Seldom(inner.clock)

    def buildProtocol(self, addr: Any) -> ProxiedConnection | None:
        """A connection that waits for its header; None, which hangs up, on strangers and where there are too
        many."""
        if not self._is_trusted(str(getattr(addr, "host", ""))):
            self.tell("comes from outside of [proxy] networks")
            return None
        if self._waiting >= self.inner.limits.connections_max:
            self.inner.observer.limit("stream.connections_max")
            return None
        self._waiting += 1
        return ProxiedConnection(self)

    def _is_trusted(self, host: str) -> bool:
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return False
        return any(address in network for network in self._networks)

    def tell(self, why: str) -> None:
        """Say in the log that a connection is refused, for each reason once in a while."""
        if self._seldom.may_say(why):
            log.warning("a connection to listen.%s %s: it is refused", self.inner.service, why)

    def arrived(self) -> None:
        """A connection does not wait any more."""
        self._waiting -= 1


class ProxiedConnection(TwistedProtocol):
    """One connection: the header first, then everything as the inner connection has it."""

    def __init__(self, outer: ProxiedFactory) -> None:
        self._outer = outer
        self._header: HeaderReader | None = HeaderReader(outer.limits.header_max_bytes)
        self._inner: StreamConnection | None = None

    @property
    def _transport(self) -> Any:
        return self.transport

    def connectionMade(self) -> None:
        """Wait for the header, for a while."""
        self._patience = self._outer.inner.clock.callLater(
            self._outer.limits.header_timeout_s, self._refuse, "has sent no header of the PROXY protocol"
        )

    def _refuse(self, why: str) -> None:
        self._outer.tell(why)
        self._transport.abortConnection()

    def _arrived(self) -> None:
        if self._header is not None:
            self._header = None
            self._outer.arrived()
            if self._patience.active():
                self._patience.cancel()

    def dataReceived(self, data: bytes) -> None:
        """The header, or what comes behind it."""
        if self._inner is not None:
            self._inner.dataReceived(data)
        elif self._header is not None:
            try:
                header = self._header.feed(data)
            except HeaderInvalid:
                self._refuse("does not begin with a header of the PROXY protocol")
            else:
                if header is not None:
                    self._arrived()
                    self._begin(header)

    def _begin(self, header: Header) -> None:
        peer = self._transport.getPeer()
        address = header.address or str(peer.host)
        kind = IPv6Address if ":" in address else IPv4Address
        self._inner = self._outer.inner.buildProtocol(kind("TCP", address, 0))
        if self._inner is None:
            self._transport.abortConnection()
            return
        self._inner.client_address = address
        self._inner.makeConnection(self._transport)  # type: ignore[no-untyped-call]  # Twisted's
        if header.rest:
            self._inner.dataReceived(header.rest)

    def connectionLost(self, reason: Failure | None = None) -> None:
        """Nobody waits any more, and the inner connection ends."""
        self._arrived()
        if self._inner is not None:
            self._inner.connectionLost(reason)
