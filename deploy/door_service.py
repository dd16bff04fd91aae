"""What the door's process serves: directory, invitations, throttle and pages put together."""

from __future__ import annotations

import logging
import socket
from collections.abc import Awaitable, Callable
from typing import Any

from OpenSSL import SSL
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred

from deploy.access_logs import new_access_log
from deploy.config import Config
from deploy.unix_listener import UnixListener
from deploy.worker import Sockets
from mailstore.account import open_directory, read_server_key
from mailstore.address import read_address, read_domain
from mailstore.errors import AuthenticationFailed
from mailstore.executor import Executor
from mailstore.invitations import DEVICE_VALID_S, Place, join, welcome
from mailstore.keys import ServerKeyLabel, Token, derive, read_token
from mailstore.model import AccessProtocol
from protocols.https.accounts import Joined, Welcomed
from protocols.https.profile import CannotSign, Signer, read_signer
from protocols.https.server import HttpsFactory
from protocols.https.session import HttpsServices
from protocols.https.unseen import Unseen
from protocols.login import AttemptGuard
from protocols.throttle import KEY_BYTES as THROTTLE_KEY_BYTES
from protocols.throttle import Throttle
from protocols.tls import TlsContext, TlsFactory

log = logging.getLogger("sealbox.https")

THREADS = 4
"""Each may run Argon2 once at a time, and only for whoever has shown the secret of an invitation."""


class _Accounts:
    """What the door asks, answered in threads; see ``protocols.https.accounts.DoorAccounts``."""

    def __init__(self, place: Place, executor: Executor) -> None:
        self._place = place
        self._executor = executor

    async def domain(self, text: str) -> str | None:
        """See ``DoorAccounts``."""
        return await self._executor.call(self._domain, text)

    async def address(self, text: str) -> str | None:
        """See ``DoorAccounts``."""
        return await self._executor.call(self._address, text)

    def is_token(self, text: str) -> bool:
        """See ``DoorAccounts``."""
        return read_token(text) is not None

    async def join(self, token: str, usable: frozenset[AccessProtocol]) -> Joined:
        """See ``DoorAccounts``."""
        made = await self._executor.call(join, self._place, _token(token), usable)
        return Joined(made.name, made.app_password, made.scope.protocols)

    async def welcome(self, token: str, password: bytes) -> Welcomed:
        """See ``DoorAccounts``."""
        made = await self._executor.call(welcome, self._place, _token(token), password)
        return Welcomed(made.name, made.recovery_key, made.device.text(), DEVICE_VALID_S)

    def _domain(self, text: str) -> str | None:
        domain = read_domain(text)
        return domain if domain in self._place.directory.domains() else None

    def _address(self, text: str) -> str | None:
        address = read_address(text)
        return None if address is None or self._domain(address.domain) is None else address.full


def _token(text: str) -> Token:
    found = read_token(text)
    if found is None:
        raise AuthenticationFailed
    return found


class DoorService:
    """The inside of the door's process. ``reactor`` is Twisted's; everything runs on its thread."""

    def __init__(self, reactor: Any, config: Config) -> None:
        """Raises StoreError, OSError: the data root cannot be used."""
        self._reactor = reactor
        self._config = config
        self._executor = Executor(reactor, THREADS)
        self._directory = open_directory(config.data)
        key = derive(read_server_key(config.data), ServerKeyLabel.LOGIN_THROTTLE, THROTTLE_KEY_BYTES)
        self._throttle = Throttle.on_disk(config.data, key, config.login)
        self._guard = AttemptGuard(
            config.login, reactor, self._throttle, self._executor.call, lambda _name: None
        )
        self._access_log = new_access_log(config, self._reactor, self._executor)
        self._unseen = Unseen(reactor, config.door.https.unseen_kept_s)
        self._ports: list[Any] = []
        self._live: list[HttpsFactory] = []

    async def start(self, listening: Sockets) -> None:
        """Accept connections on the inherited sockets.

        Raises:
            OSError, OpenSSL.SSL.Error: the certificate cannot be used.
        """
        factory = self._factory(self._config)
        for _service, bound in listening:
            if bound.family == socket.AF_UNIX:
                self._ports.append(UnixListener(self._reactor, bound, factory))
            else:
                self._ports.append(self._reactor.adoptStreamPort(bound.fileno(), bound.family, factory))
                bound.close()

    def _factory(self, config: Config) -> Any:
        """What a port gets: the door, with TLS around it unless a proxy does that."""
        inner = HttpsFactory(self._services(config), config.stream)
        # zope's interfaces mean nothing to the type checker, hence Any.
        outer: Any = inner
        if not config.door.https.behind_proxy:
            context: Any = TlsContext(*config.door.https.pair(config.tls), b"http/1.1")
            outer = TlsFactory(context, outer)
        self._live = [one for one in self._live if one.connections]
        self._live.append(inner)
        return outer

    def _services(self, config: Config) -> HttpsServices:
        return HttpsServices(
            _Accounts(Place(config.data, self._directory, config.unlock.params), self._executor),
            self._guard,
            config.setup_facts,
            self._signing(config),
            config.door.https.limits(),
            config.log_limits,
            self._access_log,
            self._reactor,
            config.door.https.behind_proxy,
            self._unseen,
        )

    def _signing(self, config: Config) -> Callable[[bytes], Awaitable[bytes]]:
        """How profiles are signed, with the certificate as it is now. Raises OSError."""
        try:
            signer: Signer | None = read_signer(*config.door.https.pair(config.tls))
        except CannotSign as exc:
            log.warning("Apple's devices get profiles without a signature: %s", exc)
            signer = None

        async def sign(content: bytes) -> bytes:
            return content if signer is None else await self._executor.call(signer.sign, content)

        return sign

    def reload(self, config: Config) -> None:
        """Use a new certificate, limits and settings for connections from now on."""
        before = self._access_log
        self._access_log = new_access_log(config, self._reactor, self._executor)
        try:
            factory = self._factory(config)
        except (OSError, SSL.Error) as exc:
            self._access_log = before
            log.error("configuration not reloaded: certificate: %s", type(exc).__name__)
            return
        self._guard.limits = config.login
        self._unseen.kept_s = config.door.https.unseen_kept_s
        for port in self._ports:
            port.factory = factory
        self._config = config

    async def stop(self) -> None:
        """Stop accepting, let requests end, write the last log lines."""
        await gatherResults([maybeDeferred(port.stopListening) for port in self._ports])
        patience_s = self._config.drain_timeout_s
        await gatherResults([Deferred.fromCoroutine(one.drain(patience_s)) for one in self._live])
        await self._access_log.flush()
        self._directory.close()
        self._executor.stop()
        self._throttle.close()
