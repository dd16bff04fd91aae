"""What one worker serves: store, protocols and ports put together, and taken apart in the right order."""

from __future__ import annotations

import logging
import socket
from typing import Any

from OpenSSL import SSL
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.python.failure import Failure

from backup.leftovers import Leftovers
from deploy.access_logs import new_access_log
from deploy.config import Config
from deploy.control_service import ControlSocket, Serving
from deploy.factories import Factories, Shared
from deploy.hourly import Hourly
from deploy.metrics.counted import CountedDeliveries, CountedLog
from deploy.metrics.meters import Meters
from deploy.metrics.sampling import Sampler, Sources
from deploy.sockets import ServiceName
from deploy.unix_listener import UnixListener
from mailstore.account import open_directory, read_server_key
from mailstore.changes import Watcher
from mailstore.directory import door_for
from mailstore.executor import Executor
from mailstore.invitation_files import remove_expired
from mailstore.keys import ServerKeyLabel, derive
from mailstore.store import MailStore
from mailstore.unlock import Unlocker
from protocols.access_log import AccessLog, FileAccessLog
from protocols.budget import MemoryBudget
from protocols.load import LoadMeter
from protocols.login import LoginGuard
from protocols.observer import Unobserved
from protocols.throttle import KEY_BYTES as THROTTLE_KEY_BYTES
from protocols.throttle import Throttle
from protocols.transport import StreamFactory

log = logging.getLogger("sealbox.service")


class Service:
    """The inside of a worker. ``reactor`` is Twisted's; everything runs on its thread."""

    def __init__(self, reactor: Any, config: Config, number: int = 0, meters: Meters | None = None) -> None:
        """``number`` tells the workers of a server apart; the first one does what must be done only once.

        ``meters`` counts what happens, if somebody wants to know.
        """
        self._meters = meters
        self._reactor = reactor
        self._config = config
        self._number = number
        self._executor = Executor(reactor, config.store.threads)
        self._logins = Executor(reactor, config.store.login_threads)
        self._directory = open_directory(config.data)
        waited = meters.argon2_waited if meters else None
        unlocker = Unlocker(
            *(config.data, self._directory, self._logins.call), limits=config.unlock, on_waited=waited
        )
        self._store = MailStore(
            *(reactor, config.data, self._directory, unlocker, self._executor),
            *(config.store, Watcher(reactor), config.mime),
        )
        key = derive(read_server_key(config.data), ServerKeyLabel.LOGIN_THROTTLE, THROTTLE_KEY_BYTES)
        self._throttle = Throttle.on_disk(config.data, key, config.login)
        guard = LoginGuard(
            *(self._store, config.login, reactor, self._throttle),
            *(self._logins.call, self._directory.login_name, meters),
        )
        literals = MemoryBudget(config.imap.literals_worker_max_bytes)
        deliveries = MemoryBudget(config.lmtp.data_total_max_bytes)
        self._meter = LoadMeter(
            reactor, lambda: self._executor.waiting, lambda: self._logins.waiting + unlocker.waiting
        )
        self._shared = Shared(
            *(reactor, self._store, guard, literals, deliveries, self._meter.load),
            CountedDeliveries(self._store, meters, reactor.seconds) if meters else self._store,
            self._find_door,
            meters or Unobserved(),
        )
        self._sampler = Sampler(reactor, meters, self._sources(unlocker)) if meters else None
        self._access_log = new_access_log(config, self._reactor, self._executor)
        self._cleaning = Hourly(reactor, self._clean)
        # With snapshots, the snapshot process does this.
        is_due = self._number == 0 and not config.backup.store
        self._leftovers = Leftovers(config.data, reactor.seconds) if is_due else None
        self._ports: list[tuple[ServiceName, bool, Any]] = []
        self._live: list[StreamFactory] = []
        """Factories that have or may get connections, including those of earlier configurations."""
        self._control = ControlSocket(reactor, config.data, number, self._serving())

    async def _find_door(self, name: bytes, protocol: str) -> str | None:
        return await self._executor.call(door_for, self._directory, name, protocol)

    def _serving(self) -> Serving:
        return Serving(
            self._reactor,
            lambda: self._live,
            lambda: self._config.access_log.addresses,
            lambda: self._config.drain_timeout_s,
        )

    def _sources(self, unlocker: Unlocker) -> Sources:
        shared, store = self._shared, self._store
        return Sources(
            factories=lambda: self._live,
            load=self._meter.load,
            open_accounts=lambda: store.open_accounts,
            awake_accounts=lambda: store.awake_accounts,
            throttled=lambda: shared.guard.waiting,
            argon2_queue=lambda: unlocker.waiting,
            lease_left_s=lambda: store.lease.left_s,
            filed_messages=lambda: store.filed_messages,
            input_bytes={
                "literals": lambda: shared.literals.used_bytes,
                "mail": lambda: shared.deliveries.used_bytes,
            },
        )

    async def start(self, listening: list[tuple[ServiceName, socket.socket]]) -> None:
        """Accept connections on the inherited sockets.

        Raises:
            OSError, OpenSSL.SSL.Error: a certificate cannot be used.
        """
        factories = Factories(self._shared, self._config, self._counted(self._access_log))
        self._meter.start()
        self._cleaning.start()
        for service, bound in listening:
            over_tcp = bound.family != socket.AF_UNIX
            made = factories.make(service, over_tcp=over_tcp)
            self._live.append(made.inner)
            if over_tcp:
                port = self._reactor.adoptStreamPort(bound.fileno(), bound.family, made.listening)
                bound.close()
            else:
                port = UnixListener(self._reactor, bound, made.listening)
            self._ports.append((service, over_tcp, port))
        self._control.start()
        if self._sampler is not None:
            self._sampler.start()

    def _counted(self, access_log: FileAccessLog) -> AccessLog:
        return CountedLog(access_log, self._meters) if self._meters else access_log

    def _clean(self) -> Deferred[Any]:
        """The hourly cleaning; a failure of one part affects neither the others nor the next hour."""
        limits, now_s = self._shared.guard.limits, self._reactor.seconds()
        due: list[Deferred[Any]] = [
            self._access_log.delete_expired(),
            self._logins.call(self._throttle.sweep, limits, now_s),
        ]
        if self._number == 0:
            due.append(self._executor.call(remove_expired, self._config.data, now_s))
        if self._leftovers is not None:
            due.append(self._executor.call(self._leftovers.remove, self._config.snapshots.retention_s))
        return gatherResults([one.addErrback(self._cleaning_failed) for one in due])

    @staticmethod
    def _cleaning_failed(failure: Failure) -> None:
        log.error(
            "removing expired logs, login counters, invitations or replaced accounts failed: %s",
            failure.type.__name__ if failure.type else "unknown",
        )

    def reload(self, config: Config) -> None:
        """Use new certificates and limits for connections from now on; old connections keep theirs."""
        try:
            access_log = new_access_log(config, self._reactor, self._executor)
            factories = Factories(self._shared, config, self._counted(access_log))
        except (OSError, SSL.Error) as exc:
            log.error("configuration not reloaded: certificate or log folder: %s", type(exc).__name__)
            return
        # The old log stays in use for old connections, and flushes itself.
        self._access_log = access_log
        self._shared.guard.limits = config.login
        self._store.limits = config.store
        self._live = [factory for factory in self._live if factory.connections]
        for service, over_tcp, port in self._ports:
            made = factories.make(service, over_tcp=over_tcp)
            self._live.append(made.inner)
            port.factory = made.listening
        self._config = config
        log.info("configuration and certificates reloaded")

    async def stop(self) -> None:
        """Stop accepting, say goodbye to everyone, close the store, write the last log lines."""
        self._meter.stop()
        if self._sampler is not None:
            self._sampler.stop()
        self._cleaning.stop()
        self._control.stop()
        await gatherResults([maybeDeferred(port.stopListening) for _, _, port in self._ports])
        patience_s = self._config.drain_timeout_s
        await gatherResults(
            [Deferred.fromCoroutine(one.drain(patience_s)) for one in [*self._live, self._control.factory]]
        )
        await self._store.stop()
        await self._access_log.flush()
        if self._leftovers is not None:
            await self._executor.call(self._leftovers.stop).addErrback(self._cleaning_failed)
        self._directory.close()
        self._executor.stop()
        self._logins.stop()
        self._throttle.close()
