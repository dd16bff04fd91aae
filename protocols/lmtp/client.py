"""Bringing mail to the node that has its account, by LMTP over mutual TLS; nothing of it touches the disk.

The other end is this program, too: commands are sent in one go (PIPELINING, RFC 2920), and the message as one
chunk (BDAT, RFC 3030), so that it arrives octet for octet. A connection carries one transaction.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectError, ConnectionClosed, DNSLookupError
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure

from mailstore.errors import StoreError
from protocols.envelope import replies
from protocols.envelope.onward import OnwardMail
from protocols.envelope.replies import Reply
from protocols.limits import NodeLimits
from protocols.lmtp.dialogue import Dialogue, Unanswered
from protocols.node_tls import NodeTlsClient

log = logging.getLogger("sealbox.nodes")


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
