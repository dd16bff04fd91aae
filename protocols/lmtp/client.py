"""Bringing mail to the node that has its account, by LMTP over mutual TLS; nothing of it touches the disk.

The other end is this program, too: commands are sent in one go (PIPELINING, RFC 2920), and the message as one
chunk (BDAT, RFC 3030), so that it arrives octet for octet. A connection carries one transaction.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from OpenSSL import SSL
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectError, ConnectionClosed, DNSLookupError
from twisted.internet.protocol import Factory
from twisted.internet.protocol import Protocol as Connection
from twisted.python.failure import Failure

from mailstore.errors import StoreError
from protocols.envelope import replies
from protocols.envelope.onward import OnwardMail
from protocols.envelope.replies import Reply
from protocols.limits import NodeLimits
from protocols.node_tls import NodeTlsClient

log = logging.getLogger("sealbox.nodes")

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


class NodeClient:
    """See ``Onward``. Everything runs on the reactor's thread."""

    def __init__(
        self,
        reactor: Any,
        address_of: Callable[[str], Awaitable[str | None]],
        tls: NodeTlsClient,
        hostname: str,
        limits: NodeLimits,
    ) -> None:
        """``address_of`` gives a node's HOST:PORT, None for one that is not known; it raises StoreError."""
        self._reactor = reactor
        self._address_of = address_of
        self._tls = tls
        self._hostname = hostname.encode("ascii")
        self._limits = limits
        self._connections: Counter[str] = Counter()
        self._away: set[str] = set()

    async def pass_on(self, node: str, mail: OnwardMail) -> list[Reply]:
        """See ``Onward``. Never raises but CancelledError."""
        answers = [replies.NODE_AWAY] * len(mail.recipients)
        if self._connections[node] >= self._limits.connections_max:
            return answers
        self._connections[node] += 1
        dialogue: Dialogue | None = None
        try:
            dialogue = await self._connect(node)
            await self._say(dialogue, mail, answers)
        except Unanswered as error:
            self._tell(node, error.reason)
        except (StoreError, ConnectError, ConnectionClosed, DNSLookupError) as error:
            self._tell(node, type(error).__name__)
        else:
            self._is_back(node)
        finally:
            self._connections[node] -= 1
            if dialogue is not None:
                dialogue.end()
        return answers

    async def _connect(self, node: str) -> Dialogue:
        # Imported late: it takes systemd's sockets as its own, which a server has to bind before that.
        from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS

        address = await self._address_of(node)
        if address is None:
            raise Unanswered("the directory has no such node")
        host, _, port = address.rpartition(":")
        place = host.strip("[]").encode("ascii"), int(port), self._limits.connect_timeout_s
        endpoint: Any = HostnameEndpoint(self._reactor, *place)
        factory: Any = Factory.forProtocol(lambda: Dialogue(self._reactor, self._limits.answer_timeout_s))
        wrapped: Any = wrapClientTLS(self._tls.to(node), endpoint)
        connected: Dialogue = await _or_cancelled(wrapped.connect(factory))
        return connected

    async def _say(self, dialogue: Dialogue, mail: OnwardMail, answers: list[Reply]) -> None:
        """One transaction; ``answers`` are filled in as they come."""
        await dialogue.positive()
        dialogue.send(b"LHLO %b\r\n" % self._hostname)
        await dialogue.positive()
        utf8 = b" SMTPUTF8" if mail.smtputf8 else b""
        dialogue.send(b"MAIL FROM:<%b> SIZE=%d%b\r\n" % (mail.sender, len(mail.octets), utf8))
        dialogue.send(b"".join(b"RCPT TO:<%b>\r\n" % one for one in mail.recipients))
        begun = await dialogue.reply()
        if not begun.positive:
            answers[:] = [begun] * len(answers)
            return
        accepted = []
        for number in range(len(answers)):
            answer = await dialogue.reply()
            if answer.positive:
                accepted.append(number)
            else:
                answers[number] = answer
        if accepted:
            dialogue.send_chunk(mail.octets)
        for number in accepted:
            answers[number] = await dialogue.reply()

    def _tell(self, node: str, reason: str) -> None:
        """Once, until it is back: every message for it would say so again."""
        if node not in self._away:
            self._away.add(node)
            log.warning(
                "node %s does not take the mail of its accounts (%s): senders try again", node, reason
            )

    def _is_back(self, node: str) -> None:
        if node in self._away:
            self._away.discard(node)
            log.info("node %s takes mail again", node)


def _or_cancelled(connecting: Deferred[Dialogue]) -> Deferred[Dialogue]:
    """What comes of it, or CancelledError, for which an endpoint has other errors of its own."""

    def cancel(found: Deferred[Dialogue]) -> None:
        found.errback(CancelledError())
        connecting.cancel()

    def came(dialogue: Dialogue) -> None:
        if found.called:
            dialogue.end()
        else:
            found.callback(dialogue)

    def failed(failure: Failure) -> None:
        if not found.called:
            found.errback(failure)

    found: Deferred[Dialogue] = Deferred(cancel)
    connecting.addCallbacks(came, failed)
    return found


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
