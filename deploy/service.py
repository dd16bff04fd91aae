"""What one worker serves: store, protocols and ports put together, and taken apart in the right order."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from typing import Any

from OpenSSL import SSL
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.task import LoopingCall
from twisted.protocols.tls import TLSMemoryBIOFactory

from deploy.config import Config
from mailstore.account import open_directory
from mailstore.changes import Watcher
from mailstore.executor import Executor
from mailstore.store import MailStore
from mailstore.unlock import Unlocker
from protocols.access_log import FileAccessLog
from protocols.imap.server import ImapFactory
from protocols.limits import AccessLogLimits
from protocols.login import LoginGuard
from protocols.tls import TlsContext
from protocols.transport import StreamFactory

log = logging.getLogger("sealbox.service")

DAY_S = 86_400.0


class Service:
    """The inside of a worker. ``reactor`` is Twisted's; everything runs on its thread."""

    def __init__(self, reactor: Any, config: Config) -> None:
        self._reactor = reactor
        self._config = config
        self._executor = Executor(reactor)
        self._directory = open_directory(config.data)
        unlocker = Unlocker(config.data, self._directory, self._executor.call, limits=config.unlock)
        watcher = Watcher(reactor)
        self._store = MailStore(
            reactor, config.data, self._directory, unlocker, self._executor, config.store, watcher
        )
        self._guard = LoginGuard(self._store, config.login, reactor)
        self._access_log = self._new_access_log(config)
        self._cleaning = LoopingCall(lambda: self._access_log.delete_expired())
        self._ports: list[tuple[str, Any]] = []
        self._factories: list[StreamFactory] = []

    # -- building --------------------------------------------------------------------------------

    def _new_access_log(self, config: Config) -> FileAccessLog:
        config.log_folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        limits = AccessLogLimits(
            config.access_log.access_days,
            config.access_log.error_days,
            config.access_log.user_agent_max_chars,
        )
        return FileAccessLog(
            config.log_folder, limits, self._reactor, config.access_log.addresses, self._executor.call
        )

    def _builders(self, config: Config) -> dict[str, Callable[[], Any]]:
        """How to make the factory of each service; a certificate that cannot be read raises here."""

        def tls(alpn: bytes) -> TlsContext:
            return TlsContext(config.tls.certificate, config.tls.private_key, alpn)

        contexts = {name: tls(name) for name in (b"imap", b"pop3", b"lmtp")}

        def imap(implicit: bool) -> ImapFactory:
            return ImapFactory(
                self._guard, config.imap, contexts[b"imap"], self._access_log, self._reactor, implicit
            )

        def wrapped(factory: StreamFactory, alpn: bytes) -> Any:
            self._factories.append(factory)
            return TLSMemoryBIOFactory(contexts[alpn], False, factory)

        def plain(factory: StreamFactory) -> StreamFactory:
            self._factories.append(factory)
            return factory

        return {
            "imaps": lambda: wrapped(imap(True), b"imap"),
            "imap": lambda: plain(imap(False)),
        }

    # -- life ------------------------------------------------------------------------------------

    async def start(self, listening: list[tuple[str, socket.socket]]) -> None:
        """Accept connections on the inherited sockets.

        Raises:
            OSError, OpenSSL.SSL.Error: a certificate cannot be used.
        """
        builders = self._builders(self._config)
        await self._cleaning_started()
        for service, bound in listening:
            if service not in builders: continue
            port = self._reactor.adoptStreamPort(bound.fileno(), bound.family, builders[service]())
            bound.close()
            self._ports.append((service, port))

    async def _cleaning_started(self) -> None:
        self._cleaning.start(DAY_S, now=True).addErrback(
            lambda failure: log.error("deleting old logs failed: %s", failure.type.__name__)
        )

    def reload(self, config: Config) -> None:
        """Use new certificates and limits for connections from now on; old connections keep theirs."""
        try:
            self._access_log = self._new_access_log(config)
            builders = self._builders(config)
        except (OSError, SSL.Error) as exc:
            log.error("configuration not reloaded: certificate or log folder: %s", type(exc).__name__)
            return
        self._factories = [factory for factory in self._factories if factory.connections]
        self._guard.limits = config.login
        self._store.limits = config.store
        for service, port in self._ports:
            port.factory = builders[service]()
        self._config = config
        log.info("configuration and certificates reloaded")

    async def stop(self) -> None:
        """Stop accepting, say goodbye to everyone, close the store, write the last log lines."""
        if self._cleaning.running:
            self._cleaning.stop()
        await gatherResults([maybeDeferred(port.stopListening) for _, port in self._ports])
        await gatherResults(
            [Deferred.fromCoroutine(one.drain(self._config.drain_timeout_s)) for one in self._factories]
        )
        await self._store.stop()
        await self._access_log.flush()
        self._directory.close()
        self._executor.stop()
