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
from twisted.python.failure import Failure

from deploy.config import Config
from mailstore.account import open_directory
from mailstore.changes import Watcher
from mailstore.executor import Executor
from mailstore.store import MailStore
from mailstore.unlock import Unlocker
from protocols.access_log import FileAccessLog
from protocols.imap.server import ImapFactory
from protocols.limits import AccessLogLimits
from protocols.lmtp.message import MemoryBudget
from protocols.lmtp.server import LmtpFactory
from protocols.login import LoginGuard
from protocols.pop3.server import Pop3Factory
from protocols.tls import TlsContext
from protocols.transport import StreamFactory

log = logging.getLogger("sealbox.service")

DAY_S = 86_400.0


class Service:
    """The inside of a worker. ``reactor`` is Twisted's; everything runs on its thread."""

    def __init__(self, reactor: Any, config: Config) -> None:
        self._reactor = reactor
        self._config = config
        self._executor = Executor(reactor, config.store.threads)
        self._logins = Executor(reactor, config.store.login_threads)
        self._directory = open_directory(config.data)
        unlocker = Unlocker(config.data, self._directory, self._logins.call, limits=config.unlock)
        watcher = Watcher(reactor)
        self._store = MailStore(
            reactor,
            config.data,
            self._directory,
            unlocker,
            self._executor,
            config.store,
            watcher,
            config.mime,
        )
        self._guard = LoginGuard(self._store, config.login, reactor)
        self._budget = MemoryBudget(config.lmtp.data_total_max_bytes)
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
                self._guard,
                config.imap,
                contexts[b"imap"],
                self._access_log,
                self._reactor,
                implicit,
                config.stream,
            )

        def pop3(implicit: bool) -> Pop3Factory:
            return Pop3Factory(
                self._guard,
                config.pop3,
                contexts[b"pop3"],
                self._access_log,
                self._reactor,
                implicit,
                config.stream,
            )

        def lmtp() -> LmtpFactory:
            return LmtpFactory(
                self._store,
                config.lmtp,
                contexts[b"lmtp"],
                self._access_log,
                self._reactor,
                config.hostname,
                self._budget,
                stream_limits=config.stream,
            )

        def wrapped(factory: StreamFactory, alpn: bytes) -> Any:
            self._factories.append(factory)
            # zope's interfaces mean nothing to the type checker, hence the two Any.
            context: Any = contexts[alpn]
            inner: Any = factory
            return TLSMemoryBIOFactory(context, False, inner)

        def plain(factory: StreamFactory) -> StreamFactory:
            self._factories.append(factory)
            return factory

        return {
            "imaps": lambda: wrapped(imap(True), b"imap"),
            "imap": lambda: plain(imap(False)),
            "pop3s": lambda: wrapped(pop3(True), b"pop3"),
            "pop3": lambda: plain(pop3(False)),
            "lmtp": lambda: plain(lmtp()),
        }

    # -- life ------------------------------------------------------------------------------------

    async def start(self, listening: list[tuple[str, socket.socket]]) -> None:
        """Accept connections on the inherited sockets.

        Raises:
            OSError, OpenSSL.SSL.Error: a certificate cannot be used.
        """
        builders = self._builders(self._config)
        self._cleaning.start(DAY_S, now=True).addErrback(self._cleaning_failed)
        for service, bound in listening:
            port = self._reactor.adoptStreamPort(bound.fileno(), bound.family, builders[service]())
            bound.close()
            self._ports.append((service, port))

    @staticmethod
    def _cleaning_failed(failure: Failure) -> None:
        log.error("deleting old logs failed: %s", failure.type.__name__ if failure.type else "unknown")

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
        self._logins.stop()
