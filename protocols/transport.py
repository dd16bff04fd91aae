"""The one place where Twisted's callbacks meet the sessions' coroutines. Shared by all protocols.

Each connection has one pump: the coroutine of its session. It reads through ``Channel.read``,
writes through ``Channel.write`` and is cancelled when the connection is lost.
"""
# ruff: noqa: N802 - Twisted's own method names

from __future__ import annotations

import fcntl
import logging
import sys
import termios
from collections import Counter
from collections.abc import Callable, Coroutine
from socket import IPPROTO_TCP, TCP_INFO
from typing import Any, Protocol, runtime_checkable

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IHandshakeListener, IPushProducer, ISSLTransport
from twisted.internet.protocol import Factory
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from protocols.limits import StreamLimits
from protocols.observer import Observer, Unobserved
from protocols.redact import correlation_id, describe
from protocols.sites import site_of

log = logging.getLogger("sealbox.transport")

_ACKED = slice(120, 128)
"""Where ``tcpi_bytes_acked`` lies in ``struct tcp_info`` (linux/tcp.h), which only ever grows at its end."""


class IdleTimeout(Exception):
    """The peer said nothing for the time allowed."""


class Channel(Protocol):
    """A connection as a session sees it."""

    @property
    def address(self) -> str:
        """The peer's address, empty when it has none (a Unix socket)."""

    def channel_binding(self) -> bytes | None:
        """The channel binding tls-exporter (RFC 9266); None without TLS 1.3."""

    async def handshake(self, timeout_s: float) -> None:
        """Wait until TLS, if there is any, is established. Raises IdleTimeout."""

    async def read(self, timeout_s: float) -> bytes | None:
        """The next octets, or None when ``wake`` was called. Raises IdleTimeout."""

    async def write(self, data: bytes) -> None:
        """Send, and wait until the peer keeps up."""

    def write_now(self, data: bytes) -> None:
        """Send something short without waiting; use sparingly: it ignores back-pressure."""

    @property
    def turn_is_over(self) -> bool:
        """Whether this connection has been running for long enough that it should yield."""

    async def turn(self) -> None:
        """Yield to the other connections."""

    def wake(self) -> None:
        """Make the current or next ``read`` return None."""

    def start_tls(self, context: Any) -> None:
        """Begin the server's side of TLS; unread plaintext is thrown away (RFC 3501 section 6.2.1)."""

    def close(self) -> None:
        """Close after what was written has gone out."""


Serve = Callable[[Channel], Coroutine[Any, Any, None]]


@implementer(IPushProducer, IHandshakeListener)
class StreamConnection(TwistedProtocol):
    """One accepted connection: Twisted's ``Protocol`` on one side, ``Channel`` on the other."""

    def __init__(self, serve: Serve, clock: Any, limits: StreamLimits) -> None:
        self.lost: Deferred[None] = Deferred()
        self.client_address: str | None = None
        """The one that a proxy has named; None where the peer is the client."""
        self._serve = serve
        self._clock = clock
        self._limits = limits
        self._input = bytearray()
        self._reader: Deferred[bytes | None] | None = None
        self._writer: Deferred[None] | None = None
        self._handshake: Deferred[None] | None = None
        self._established = False
        self._woken = False
        self._paused_by_peer = False
        self._reading_paused = False
        self._patience: Any = None
        self._stall: Any = None
        self._closing: Any = None
        self._close_wait_s = limits.close_wait_s
        self._pump: Deferred[None] | None = None
        self.began_s: float = clock.seconds()
        self.heard_s = self.began_s
        """When the peer last sent something, on the clock."""
        self._turn_began_s = self.began_s

    # -- Twisted's side --------------------------------------------------------------------------

    def connectionMade(self) -> None:
        """Start the pump."""
        # Answers are written whole, so waiting to fill a segment only costs time.
        no_delay = getattr(self._transport, "setTcpNoDelay", None)
        if no_delay is not None:
            no_delay(True)
        self._transport.registerProducer(self, True)
        self._pump = Deferred.fromCoroutine(self._serve(self))
        self._pump.addErrback(self._failed)
        self._pump.addBoth(lambda _: self.close())

    @property
    def _transport(self) -> Any:
        return self.transport

    def _failed(self, failure: Failure) -> None:
        if failure.value is not None and not failure.check(CancelledError):
            log.error("session failed, id %s: %s", correlation_id(), describe(failure.value))

    def dataReceived(self, data: bytes) -> None:
        """Keep input until the session asks for it; stop reading when it does not."""
        if self._closing is not None:
            return
        self.heard_s = self._clock.seconds()
        if self._reader is not None:
            self._input += data
            self._fire(self._take())
            return
        self._input += data
        if len(self._input) >= self._limits.pipelined_max_bytes and not self._reading_paused:
            self._reading_paused = True
            self._transport.pauseProducing()

    def connectionLost(self, reason: Failure | None = None) -> None:
        """Cancel the pump; a transaction that it waits for still finishes."""
        for timer in (self._closing, self._patience):
            if timer is not None and timer.active():
                timer.cancel()
        pump, self._pump = self._pump, None
        if pump is not None:
            pump.cancel()
        self.lost.callback(None)

    def handshakeCompleted(self) -> None:
        """TLS is established."""
        self._established = True
        waiting, self._handshake = self._handshake, None
        if waiting is not None:
            waiting.callback(None)

    def pauseProducing(self) -> None:
        """The transport's buffer is full."""
        self._paused_by_peer = True

    def resumeProducing(self) -> None:
        """The transport's buffer has room again."""
        self._paused_by_peer = False
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.callback(None)

    def stopProducing(self) -> None:
        """Nobody will read any more; ``connectionLost`` follows."""

    # -- the session's side ----------------------------------------------------------------------

    @property
    def address(self) -> str:
        """See ``Channel``."""
        return self.client_address or str(getattr(self._transport.getPeer(), "host", ""))

    def channel_binding(self) -> bytes | None:
        """See ``Channel``."""
        if not self._established:
            return None
        connection = self._transport.getHandle()
        # RFC 9266 section 4.2: older versions would need the extended master secret, which we cannot see.
        if connection.get_protocol_version_name() != "TLSv1.3":
            return None
        return bytes(connection.export_keying_material(b"EXPORTER-Channel-Binding", 32, b""))

    async def handshake(self, timeout_s: float) -> None:
        """See ``Channel``."""
        if self._established or not ISSLTransport.providedBy(self._transport):
            return
        waiting: Deferred[None] = Deferred()
        self._handshake = waiting
        timer = self._clock.callLater(max(timeout_s, 0.0), self._handshake_timed_out)
        try:
            await waiting
        finally:
            self._handshake = None
            if timer.active():
                timer.cancel()

    def _handshake_timed_out(self) -> None:
        waiting, self._handshake = self._handshake, None
        if waiting is not None:
            waiting.errback(IdleTimeout())

    def _take(self) -> bytes:
        data = bytes(self._input)
        self._input.clear()
        if self._reading_paused:
            self._reading_paused = False
            self._transport.resumeProducing()
        return data

    def _fire(self, data: bytes | None) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.callback(data)

    async def read(self, timeout_s: float) -> bytes | None:
        """See ``Channel``."""
        if self._woken:
            self._woken = False
            return None
        if self._input:
            return self._take()
        reader: Deferred[bytes | None] = Deferred()
        self._reader = reader
        self._be_patient(max(timeout_s, 0.0))
        try:
            return await reader
        finally:
            self._turn_began_s = self._clock.seconds()
            self._reader = None

    def _be_patient(self, timeout_s: float) -> None:
        # One timer goes on through all reads: making and cancelling one for each costs more, and to put
        # one off is cheap. It does nothing while a command runs.
        if self._patience is not None and self._patience.active():
            self._patience.reset(timeout_s)
        else:
            self._patience = self._clock.callLater(timeout_s, self._timed_out)

    def _timed_out(self, taken_before: int | None = None) -> None:
        if self._reader is None:
            return
        taken = self._taken()
        if self._unsent() and (taken_before is None or self._reads(taken_before, taken)):
            # Who still receives what was asked for is not idle.
            wait_s = self._limits.write_stall_timeout_s
            self._patience = self._clock.callLater(wait_s, self._timed_out, taken)
            return
        reader, self._reader = self._reader, None
        reader.errback(IdleTimeout())

    def wake(self) -> None:
        """See ``Channel``."""
        if self._reader is not None:
            self._fire(None)
        else:
            self._woken = True

    @property
    def turn_is_over(self) -> bool:
        """See ``Channel``."""
        return bool(self._clock.seconds() - self._turn_began_s >= self._limits.turn_max_s)

    async def turn(self) -> None:
        """See ``Channel``."""
        others: Deferred[None] = Deferred()
        self._clock.callLater(0, others.callback, None)
        await others
        self._turn_began_s = self._clock.seconds()

    async def write(self, data: bytes) -> None:
        """See ``Channel``."""
        self._transport.write(data)
        if not self._paused_by_peer:
            return
        self._writer = Deferred()
        self._watch_for_stall()
        try:
            await self._writer
        finally:
            self._writer = None
            if self._stall.active():
                self._stall.cancel()

    def _watch_for_stall(self) -> None:
        wait_s = self._limits.write_stall_timeout_s
        self._stall = self._clock.callLater(wait_s, self._stalled, self._taken())

    def _stalled(self, taken_before: int) -> None:
        # The kernel wakes us only when much of its buffer is free, which over a slow line takes long.
        if self._reads(taken_before, self._taken()):
            self._watch_for_stall()
        else:
            self.abort()

    def _reads(self, taken_before: int, taken: int) -> bool:
        return taken - taken_before >= self._limits.write_stall_bytes

    def write_now(self, data: bytes) -> None:
        """See ``Channel``."""
        self._transport.write(data)

    def start_tls(self, context: Any) -> None:
        """See ``Channel``."""
        self._take()
        self._transport.startTLS(context)

    def close(self) -> None:
        """See ``Channel``. A peer that does not take the rest in time is cut off."""
        if self._closing is not None or self._pump is None:
            return
        deadline_s = self._clock.seconds() + self._limits.write_stall_timeout_s
        self._closing = self._clock.callLater(self._close_wait_s, self._give_up, deadline_s)
        self._transport.unregisterProducer()
        if self._reading_paused:
            self._transport.resumeProducing()
        self._transport.loseConnection()

    def _give_up(self, deadline_s: float) -> None:
        """Many clients never answer TLS's closure alert; once they have everything, that does not matter."""
        if self._unsent() and self._clock.seconds() < deadline_s:
            self._closing = self._clock.callLater(self._close_wait_s, self._give_up, deadline_s)
        else:
            self.abort()

    def hurry(self) -> None:
        """The server is stopping: wait for the peer only until it has taken everything."""
        self._close_wait_s = self._limits.stop_close_wait_s
        if self._closing is not None and self._closing.active():
            self._closing.reset(self._close_wait_s)

    def _socket(self) -> Any:
        """The open socket below TLS; None when there is none."""
        lower = getattr(self._transport, "transport", self._transport)
        found = getattr(lower, "socket", None)
        return None if found is None or found.fileno() < 0 else found

    def _unsent(self) -> int:
        """Bytes that the kernel has yet to send or the peer has yet to acknowledge (tcp(7), SIOCOUTQ)."""
        found = self._socket()
        try:
            answer = b"" if found is None else fcntl.ioctl(found.fileno(), termios.TIOCOUTQ, bytes(4))
        except OSError:
            return 0
        return int.from_bytes(answer, sys.byteorder)

    def _taken(self) -> int:
        """Bytes that the peer has acknowledged so far; 0 where that is not known (no TCP)."""
        found = self._socket()
        try:
            info = b"" if found is None else found.getsockopt(IPPROTO_TCP, TCP_INFO, _ACKED.stop)
        except OSError:
            return 0
        return int.from_bytes(info[_ACKED], sys.byteorder) if len(info) == _ACKED.stop else 0

    def abort(self) -> None:
        """Close at once; does nothing if the connection is already lost."""
        # Twisted's TLS transport has nothing below it any more once it is lost.
        if not self.lost.called:
            self._transport.abortConnection()


class Endable(Protocol):
    """A session that can be asked to end."""

    def end(self, reason: bytes) -> None:
        """Say goodbye as soon as the running command is done."""


@runtime_checkable
class AccountSession(Endable, Protocol):
    """A session that may have logged in."""

    @property
    def account_id(self) -> str | None:
        """The account that it has open; None before login."""

    def disconnect(self, reason: bytes) -> None:
        """As ``end``, by the operator: the client is told also where the protocol ends silently otherwise."""


class StreamFactory(Factory):
    """Builds connections and keeps track of them, for draining."""

    noisy = False
    protocol_name = ""
    """For people."""

    def __init__(self, clock: Any, limits: StreamLimits) -> None:
        self.clock = clock
        self.limits = limits
        self.service = ""
        """What the port is for, as ``[listen]`` in the configuration calls it."""
        self.observer: Observer = Unobserved()
        self._live: dict[StreamConnection, Endable | None] = {}
        self._is_draining = False
        self._by_site: Counter[str] = Counter()

    def session(self, channel: Channel) -> tuple[Endable, Coroutine[Any, Any, None]]:
        """The session for a new connection and its coroutine; each protocol has its own."""
        raise AssertionError("each protocol's factory says what its session is")

    @property
    def connections(self) -> int:
        """The number of open connections."""
        return len(self._live)

    def buildProtocol(self, addr: Any) -> StreamConnection | None:
        """A connection with a session of its own; None, which hangs up, when there are too many."""
        site = site_of(str(getattr(addr, "host", "")))
        if self._is_draining:
            return None  # what a proxy has passed on came before that, and its header after
        if len(self._live) >= self.limits.connections_max:
            self.observer.limit("stream.connections_max")
            return None
        if site and self._by_site[site] >= self.limits.connections_per_address_max:
            self.observer.limit("stream.connections_per_address_max")
            return None
        connection = StreamConnection(self._run, self.clock, self.limits)
        connection.factory = self
        self._live[connection] = None
        self._by_site[site] += 1
        connection.lost.addCallback(lambda _: self._forget(connection, site))
        return connection

    def _forget(self, connection: StreamConnection, site: str) -> None:
        self._live.pop(connection, None)
        self._by_site[site] -= 1
        if not self._by_site[site]:
            del self._by_site[site]

    def _run(self, channel: Channel) -> Coroutine[Any, Any, None]:
        session, running = self.session(channel)
        assert isinstance(channel, StreamConnection)
        self._live[channel] = session
        return running

    def logged_in(self) -> list[tuple[StreamConnection, AccountSession]]:
        """The connections whose session has an account open."""
        return [
            (connection, session)
            for connection, session in self._live.items()
            if isinstance(session, AccountSession) and session.account_id is not None
        ]

    async def disconnect(self, account_id: str, reason: bytes, deadline_s: float) -> int:
        """End the sessions of one account, as :meth:`drain` does; how many there were."""
        theirs = [one for one in self.logged_in() if one[1].account_id == account_id]
        for _, session in theirs:
            session.disconnect(reason)
        await self._gone([connection for connection, _ in theirs], deadline_s)
        return len(theirs)

    async def drain(self, deadline_s: float) -> None:
        """Ask every session to end; those that have not after ``deadline_s`` are cut off."""
        self._is_draining = True
        everyone = list(self._live.items())
        for _, session in everyone:
            if session is not None:
                session.end(b"server shutting down")
        await self._gone([connection for connection, _ in everyone], deadline_s)

    async def _gone(self, connections: list[StreamConnection], deadline_s: float) -> None:
        timers = []
        for connection in connections:
            timers.append(self.clock.callLater(deadline_s, connection.abort))
            connection.hurry()
        for connection, timer in zip(connections, timers, strict=True):
            gone: Deferred[None] = Deferred()
            connection.lost.addCallback(_pass_on, gone)
            await gone
            if timer.active():
                timer.cancel()


def _pass_on(result: Any, gone: Deferred[None]) -> Any:
    gone.callback(None)
    return result
