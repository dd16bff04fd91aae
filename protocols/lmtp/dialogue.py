"""One conversation with another node: commands out, replies in, each waited for so long and no longer."""

from __future__ import annotations

import re
from typing import Any, Protocol

from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol as Connection
from twisted.python.failure import Failure

from protocols.envelope.replies import Reply

_REPLY = re.compile(rb"([245][0-9]{2})([ -])(?:([245]\.[0-9]{1,3}\.[0-9]{1,3}) )?([\x20-\x7e]*)")
_LINE_MAX_BYTES = 2048
_SPAN_BYTES = 64 * 1024
_SHUTTING_DOWN = 421


class Unanswered(Exception):
    """The other node said nothing, or nothing that makes sense; ``reason`` is for the log."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class _Transport(Protocol):
    """What a dialogue needs of Twisted's transport."""

    def write(self, data: bytes) -> None:
        """Send, or keep until that is possible."""

    def loseConnection(self) -> None:  # noqa: N802 - Twisted's name
        """End it when all is sent."""

    def abortConnection(self) -> None:  # noqa: N802 - Twisted's name
        """End it at once."""


class Dialogue(Connection):
    """One connection to another node. A pull producer of what is sent in a chunk."""

    def __init__(self, clock: Any, answer_timeout_s: float) -> None:
        self._clock = clock
        self._timeout_s = answer_timeout_s
        self._received = b""
        self._replies: list[Reply] = []
        self._waiting: Deferred[None] | None = None
        self._lost: str | None = None
        self._chunk = memoryview(b"")
        self._late: Any = None
        """Ends a connection that does not close."""

    # -- what the client asks --------------------------------------------------------------------

    def send(self, octets: bytes) -> None:
        """Send commands."""
        self._open_transport.write(octets)

    def send_chunk(self, octets: bytes) -> None:
        """Send a whole message, no faster than the other end takes it."""
        self.send(b"BDAT %d LAST\r\n" % len(octets))
        self._chunk = memoryview(octets)
        transport: Any = self.transport
        if self._lost is None:
            transport.registerProducer(self, False)

    async def positive(self) -> None:
        """The next reply has to be one that agrees. Raises Unanswered."""
        found = await self.reply()
        if not found.positive:
            raise Unanswered(f"it answers {found.code}")

    async def reply(self) -> Reply:
        """The next reply. Raises Unanswered."""
        if not self._replies:
            if self._lost is not None:
                raise Unanswered(self._lost)
            self._waiting = Deferred()
            late = self._clock.callLater(self._timeout_s, self._give_up, "no answer in time")
            try:
                await self._waiting
            finally:
                self._waiting = None
                if late.active():
                    late.cancel()
        if not self._replies:
            raise Unanswered(self._lost or "the connection was lost")
        found = self._replies.pop(0)
        if found.code == _SHUTTING_DOWN:
            raise Unanswered("it is shutting down or has too many connections")
        return found

    def end(self) -> None:
        """Say goodbye; nobody waits for what is said to that."""
        if self._chunk:
            # Whatever came now would be taken for a part of the message, and the rest of it for the end.
            self._give_up("over")
        elif self._lost is None:
            self.send(b"QUIT\r\n")
            self._open_transport.loseConnection()
            self._late = self._clock.callLater(self._timeout_s, self._give_up, "over")

    # -- what Twisted calls ----------------------------------------------------------------------

    def dataReceived(self, data: bytes) -> None:  # noqa: N802 - Twisted's name
        """Octets of replies."""
        *lines, self._received = (self._received + data).split(b"\r\n")
        for line in lines:
            matched = _REPLY.fullmatch(line)
            if matched is None:
                self._give_up("it does not speak LMTP")
                return
            code, more, status, text = matched.groups()
            if more == b" ":
                self._replies.append(Reply(int(code), status or b"", text[:_LINE_MAX_BYTES]))
        if len(self._received) > _LINE_MAX_BYTES:
            self._give_up("it does not speak LMTP")
        elif self._replies:
            self._wake()

    def connectionLost(self, reason: Failure | None = None) -> None:  # noqa: N802 - Twisted's name
        """The connection is gone; that TLS refused it is an SSL.Error."""
        is_tls = reason is not None and reason.check(SSL.Error) is not None
        self._lost = self._lost or ("TLS: a certificate is refused" if is_tls else "the connection was lost")
        self._chunk = memoryview(b"")
        if self._late is not None and self._late.active():
            self._late.cancel()
        self._wake()

    def resumeProducing(self) -> None:  # noqa: N802 - Twisted's name
        """The transport wants more of the chunk."""
        span, self._chunk = self._chunk[:_SPAN_BYTES], self._chunk[_SPAN_BYTES:]
        transport: Any = self.transport
        if span:
            transport.write(bytes(span))
        if not self._chunk:
            transport.unregisterProducer()

    def stopProducing(self) -> None:  # noqa: N802 - Twisted's name
        """The transport is gone."""
        self._chunk = memoryview(b"")

    # -- how -------------------------------------------------------------------------------------

    @property
    def _open_transport(self) -> _Transport:
        found: Any = self.transport
        return found  # type: ignore[no-any-return]  # zope's interfaces mean nothing to the type checker

    def _give_up(self, reason: str) -> None:
        self._lost = self._lost or reason
        self._open_transport.abortConnection()
        self._wake()

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.called:
            self._waiting.callback(None)
