"""The way to other nodes: connections that are ready for a question, and what becomes of silent nodes.

Nobody waits again for a node that was waited for in vain: for a while all are turned away at once, and then
one caller at a time finds out whether it still is silent.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as OutOfTime
from twisted.internet.error import ConnectError, ConnectionClosed, DNSLookupError
from twisted.internet.error import TimeoutError as ConnectingTimedOut
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure

from mailstore.errors import StoreError
from protocols.limits import NodeLimits
from protocols.lmtp.dialogue import Dialogue, Unanswered
from protocols.node_tls import NodeTlsClient

log = logging.getLogger("sealbox.nodes")

T = TypeVar("T")


class Nodes:
    """Calls other nodes. Everything runs on the reactor's thread."""

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
        self.greeting = b"LHLO %b\r\n" % hostname.encode("ascii")
        self.limits = limits
        self._silent_until_s: dict[str, float] = {}
        """Nodes that were waited for in vain."""

    async def reach(self, node: str) -> Dialogue:
        """A dialogue after the greetings; its end is the caller's to say. Raises Unanswered."""
        if not self._is_worth_waiting_for(node):
            raise Unanswered("it did not answer a moment ago")
        try:
            address = await self._address_of(node)
        except StoreError as error:
            raise Unanswered(type(error).__name__) from None
        if address is None:
            raise Unanswered("the directory has no such node")
        greeted = Deferred.fromCoroutine(self._greeted(node, address))
        try:
            dialogue = await greeted.addTimeout(self.limits.connect_timeout_s, self._reactor)
        except (OutOfTime, ConnectingTimedOut):
            self._silent_until_s[node] = self._reactor.seconds() + self.limits.silent_s
            raise Unanswered("no answer in time") from None
        except (ConnectError, ConnectionClosed, DNSLookupError) as error:
            self._silent_until_s.pop(node, None)
            raise Unanswered(type(error).__name__) from None
        self._silent_until_s.pop(node, None)
        return dialogue

    def _is_worth_waiting_for(self, node: str) -> bool:
        now_s, until_s = self._reactor.seconds(), self._silent_until_s.get(node)
        if until_s is None:
            return True
        if now_s < until_s:
            return False
        # This caller finds out for all others.
        self._silent_until_s[node] = now_s + self.limits.connect_timeout_s + self.limits.silent_s
        return True

    async def _greeted(self, node: str, address: str) -> Dialogue:
        # Imported late: it takes systemd's sockets as its own, which a server has to bind before that.
        from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS

        host, _, port = address.rpartition(":")
        place = host.strip("[]").encode("ascii"), int(port), self.limits.connect_timeout_s
        endpoint: Any = HostnameEndpoint(self._reactor, *place)
        factory: Any = Factory.forProtocol(lambda: Dialogue(self._reactor, self.limits.answer_timeout_s))
        wrapped: Any = wrapClientTLS(self._tls.to(node), endpoint)
        dialogue: Dialogue = await _or_cancelled(wrapped.connect(factory))
        try:
            await dialogue.positive()
            dialogue.send(self.greeting)
            await dialogue.positive()
        except BaseException:
            dialogue.end()
            raise
        return dialogue


class Errands:
    """Questions of one kind to other nodes: so many at a time, and the log says once that a node is away."""

    def __init__(self, nodes: Nodes, refusal: str, again: str) -> None:
        """Both follow ``node NAME`` in the log: ``refusal`` has a place for the reason."""
        self._nodes = nodes
        self._refusal = refusal
        self._again = again
        self._running: dict[str, dict[Deferred[Any], str]] = {}
        """By node, and whose each is, the oldest first."""
        self._away: set[str] = set()

    async def run(self, node: str, talk: Callable[[Dialogue], Awaitable[T]], whose: str = "") -> T | None:
        """What ``talk`` gives, None where the node cannot be asked, or breaks off. Raises CancelledError.

        Where there are too many, it is broken off for somebody else if nobody else has more; see ``whose``.
        """
        running = self._running.setdefault(node, {})
        if len(running) >= self._nodes.limits.connections_max and not _made_room(running, whose):
            return None
        errand: Deferred[T | None] = Deferred.fromCoroutine(self._run(node, talk))
        running[errand] = whose
        try:
            return await errand
        except CancelledError:
            if errand in running:
                raise
            return None  # it has made room
        finally:
            running.pop(errand, None)

    async def _run(self, node: str, talk: Callable[[Dialogue], Awaitable[T]]) -> T | None:
        dialogue: Dialogue | None = None
        try:
            dialogue = await self._nodes.reach(node)
            found = await talk(dialogue)
        except Unanswered as error:
            self._tell(node, error.reason)
            return None
        finally:
            if dialogue is not None:
                dialogue.end()
        if node in self._away:
            self._away.discard(node)
            log.info("node %s %s", node, self._again)
        return found

    def _tell(self, node: str, reason: str) -> None:
        """Once, until it is back: everybody who asks would say so again."""
        if node not in self._away:
            self._away.add(node)
            log.warning("node %s %s", node, self._refusal % reason)


def _made_room(running: dict[Deferred[Any], str], newcomer: str) -> bool:
    """Whether the oldest errand of who has most was ended for one of a newcomer, who has fewer.

    Who guesses waits longest at the other node: so the oldest one is seldom that of a user.
    """
    have = Counter(running.values())
    most = max(have.values(), default=0)
    if have[newcomer] >= most:
        return False
    oldest = next(errand for errand, whose in running.items() if have[whose] == most)
    del running[oldest]
    oldest.cancel()
    return True


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
