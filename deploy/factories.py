"""How each service's connections are made: protocol, limits and TLS put together."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any, assert_never

from deploy.config import Config
from deploy.sockets import ServiceName
from mailstore.model import AccessProtocol
from mailstore.store import MailStore
from protocols.access_log import AccessLog
from protocols.budget import MemoryBudget
from protocols.envelope.authentication import Logins
from protocols.envelope.message import RECEIVED_FIELD_MAX_BYTES
from protocols.envelope.recipients import DeliveryStore
from protocols.imap.server import ImapFactory
from protocols.limits import EnvelopeLimits
from protocols.lmtp.client import NodeMail
from protocols.lmtp.nodes import Nodes
from protocols.lmtp.passwords import NodePasswords
from protocols.lmtp.server import LmtpFactory
from protocols.load import Load
from protocols.login import LoginGuard
from protocols.node_tls import NodeTlsClient, NodeTlsContext
from protocols.observer import Observer, Unobserved
from protocols.pop3.server import Pop3Factory
from protocols.proxied import ProxiedFactory
from protocols.sasl_service.server import SaslFactory
from protocols.socketmap.server import SocketmapFactory
from protocols.tls import TlsContext, TlsFactory
from protocols.transport import StreamFactory


@dataclass(frozen=True, slots=True)
class Shared:
    """What all connections of a worker share, whichever configuration they began with."""

    reactor: Any
    store: MailStore
    guard: LoginGuard
    literals: MemoryBudget
    """For what IMAP clients are sending."""
    deliveries: MemoryBudget
    """For what LMTP clients are sending."""
    load: Callable[[], Load]
    mail_store: DeliveryStore
    """The store, or whoever counts its deliveries, for what brings mail."""
    find_door: Callable[[bytes, str], Awaitable[str | None]]
    """See ``protocols.auth_http.session.FindDoor``."""
    observer: Observer = field(default_factory=Unobserved)


@dataclass(frozen=True, slots=True)
class Made:
    """A factory: ``inner`` knows its connections, ``listening`` is what a port gets (with TLS or not)."""

    inner: StreamFactory
    listening: Any


class Factories:
    """Makes factories from one configuration and the certificate as it was when this object was made."""

    def __init__(self, shared: Shared, config: Config, access_log: AccessLog) -> None:
        """Read the certificate.

        Raises:
            OSError, OpenSSL.SSL.Error: it cannot be used.
        """
        self._shared = shared
        self._config = config
        self._access_log = access_log
        files = config.tls.certificate, config.tls.private_key
        node = config.node.files()
        self._node_tls: dict[str, Any] = {}
        self._onward = self._passwords = None
        if node is not None:
            paths = node.certificate, node.private_key, node.authority
            self._node_tls = {name: NodeTlsContext(*paths, name.encode()) for name in ("lmtp", "http/1.1")}
            nodes = Nodes(
                *(shared.reactor, shared.store.node_address, NodeTlsClient(*paths)),
                *(config.hostname, config.node.limits()),
            )
            self._onward, self._passwords = NodeMail(nodes), NodePasswords(nodes)
        self._tls = {name: TlsContext(*files, name.encode("ascii")) for name in ("imap", "pop3", "lmtp")}

    def make(self, service: ServiceName, *, over_tcp: bool) -> Made:
        """The factory for one listening socket."""
        made = self._make(service, over_tcp=over_tcp)
        made.inner.service, made.inner.observer = service, self._shared.observer
        return made

    def _make(self, service: ServiceName, *, over_tcp: bool) -> Made:
        match service:
            case "imap":
                return self._plain(self._imap(implicit_tls=False))
            case "imaps":
                return self._encrypted(self._imap(implicit_tls=True), "imap")
            case "pop3":
                return self._plain(self._pop3(implicit_tls=False))
            case "pop3s":
                return self._encrypted(self._pop3(implicit_tls=True), "pop3")
            case "imap_proxied":
                return self._proxied(self._imap(implicit_tls=True))
            case "pop3_proxied":
                return self._proxied(self._pop3(implicit_tls=True))
            case "auth_http":
                return self._plain(self._auth_http())
            case "node_auth_http":
                return Made(asking := self._auth_http(), TlsFactory(self._node_tls["http/1.1"], asking))
            case "lmtp":
                return self._plain(self._lmtp(starttls=over_tcp))
            case "node_lmtp":
                return Made(inner := self._from_nodes(), TlsFactory(self._node_tls["lmtp"], inner))
            case "auth" | "auth_proxied":
                return self._plain(self._auth(behind_proxy=service == "auth_proxied"))
            case "recipients":
                return self._plain(self._recipients())
            case "https":
                raise AssertionError("the door has a process of its own")
            case _:
                assert_never(service)

    def _imap(self, *, implicit_tls: bool) -> ImapFactory:
        shared, config = self._shared, self._config
        return ImapFactory(
            shared.guard,
            config.imap,
            self._tls["imap"],
            self._access_log,
            shared.reactor,
            implicit_tls,
            shared.literals,
            config.stream,
            load=shared.load,
            load_limits=config.load,
        )

    def _pop3(self, *, implicit_tls: bool) -> Pop3Factory:
        shared, config = self._shared, self._config
        return Pop3Factory(
            shared.guard,
            config.pop3,
            self._tls["pop3"],
            self._access_log,
            shared.reactor,
            implicit_tls,
            config.stream,
        )

    def _lmtp(self, *, starttls: bool) -> LmtpFactory:
        shared, config = self._shared, self._config
        return LmtpFactory(
            shared.mail_store,
            self._with_room_for_trace(config.lmtp),
            # Nobody can listen in on a Unix socket; STARTTLS would only be in the way.
            self._tls["lmtp"] if starttls else None,
            self._access_log,
            shared.reactor,
            config.hostname,
            shared.deliveries,
            stream_limits=config.stream,
            onward=self._onward,
        )

    def _with_room_for_trace(self, limits: EnvelopeLimits) -> EnvelopeLimits:
        """What is passed on has one field more, and has to fit into the other node's limit, too."""
        if self._onward is None:
            return limits
        return replace(limits, message_max_bytes=limits.message_max_bytes - RECEIVED_FIELD_MAX_BYTES)

    def _from_nodes(self) -> LmtpFactory:
        """For mail and passwords that another node passes on. They are never passed on again: nodes that
        disagree on who has an account would do so for ever."""
        shared, config = self._shared, self._config
        return LmtpFactory(
            shared.mail_store,
            config.lmtp,
            None,
            self._access_log,
            shared.reactor,
            config.hostname,
            shared.deliveries,
            implicit_tls=True,
            stream_limits=config.stream,
            logins=Logins(shared.guard, AccessProtocol.SMTP),
        )

    def _auth_http(self) -> StreamFactory:
        # Imported late: what reads HTTP is in the memory of no server that has no such door.
        from protocols.auth_http.server import AuthHttpFactory

        shared, config = self._shared, self._config
        return AuthHttpFactory(
            *(shared.find_door, config.auth_http, config.login.name_max_bytes),
            *(self._access_log, shared.reactor, config.stream),
        )

    def _auth(self, *, behind_proxy: bool = False) -> SaslFactory:
        shared, config = self._shared, self._config
        return SaslFactory(
            *(shared.guard, config.auth, self._access_log, shared.reactor, config.stream),
            behind_proxy=behind_proxy,
            nodes=self._passwords,
        )

    def _recipients(self) -> SocketmapFactory:
        shared, config = self._shared, self._config
        return SocketmapFactory(
            shared.mail_store, config.recipients, self._access_log, shared.reactor, config.stream
        )

    def _encrypted(self, inner: StreamFactory, alpn: str) -> Made:
        # zope's interfaces mean nothing to the type checker, hence Any.
        context: Any = self._tls[alpn]
        wrapped: Any = inner
        return Made(inner, TlsFactory(context, wrapped))

    def _proxied(self, inner: StreamFactory) -> Made:
        """For what a proxy passes on; to the protocol it is as secure as it was between client and proxy."""
        section = self._config.proxy
        return Made(inner, ProxiedFactory(inner, section.trusted(), section.limits()))

    @staticmethod
    def _plain(inner: StreamFactory) -> Made:
        return Made(inner, inner)
