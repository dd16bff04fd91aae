"""The end of a transaction: one delivery and one reply per recipient."""

from __future__ import annotations

from collections import deque

from twisted.internet.defer import CancelledError

from mailstore.sealed import Facts
from protocols.envelope import replies
from protocols.envelope.message import FAILURES, Failure, Trace, is_loop
from protocols.envelope.onward import Onward, OnwardMail
from protocols.envelope.recipients import DeliveryStore, reply_to
from protocols.envelope.replies import Reply
from protocols.envelope.transaction import Accepted, Transaction
from protocols.limits import EnvelopeLimits


class Delivery:
    """The end of a transaction; ``deliver_to`` is to be called for each of ``accepted``, in order."""

    def __init__(
        self,
        store: DeliveryStore,
        transaction: Transaction,
        trace: Trace,
        limits: EnvelopeLimits,
        onward: Onward | None = None,
    ) -> None:
        collector = transaction.collector
        self.accepted = tuple(transaction.accepted)
        self._store = store
        self._sender = transaction.sender
        self._trace = trace
        self._message = b""
        if collector.failure is None:
            self._message = collector.message()
            if is_loop(self._message, limits):
                collector.fail(Failure.LOOP)
        self._refusal = None if collector.failure is None else FAILURES[collector.failure]
        self._onward = onward
        self._passed_on: dict[str, deque[Reply]] = {}
        """What each node has said, of those recipients of whom nobody has asked yet."""
        self._done: dict[tuple[str, str | None], Reply] = {}

    async def deliver_to(self, accepted: Accepted) -> Reply:
        """Deliver, unless an earlier recipient had the same target; positive only when it is safe."""
        if self._refusal is not None:
            return self._refusal
        if accepted.recipient.elsewhere:
            return await self._pass_on(accepted.recipient.node or "")
        reply = self._done.get(accepted.target)
        if reply is None:
            reply = self._done[accepted.target] = await self._deliver(accepted)
        return reply

    async def _pass_on(self, node: str) -> Reply:
        """What the node says of its next recipient; the first one takes the message there for all."""
        if self._onward is None:
            return replies.ON_ANOTHER_NODE
        if node not in self._passed_on:
            found = [one for one in self.accepted if one.recipient.elsewhere and one.recipient.node == node]
            octets = self._trace.received_field() + self._message
            mail = OnwardMail(self._sender, self._trace.smtputf8, tuple(one.address for one in found), octets)
            try:
                self._passed_on[node] = deque(await self._onward.pass_on(node, mail))
            except CancelledError:
                raise
            except Exception as exc:  # noqa: BLE001  # as in _deliver
                self._passed_on[node] = deque([reply_to(exc)] * len(found))
        return self._passed_on[node].popleft()

    async def _deliver(self, accepted: Accepted) -> Reply:
        facts = Facts(
            received=self._trace.received,
            envelope_from=self._sender,
            envelope_to=accepted.address,
            mailbox_hint=accepted.recipient.mailbox_hint,
            trace_header=self._trace.header(accepted.address),
        )
        try:
            await self._store.deliver(accepted.recipient, self._message, facts)
        except CancelledError:
            raise
        except Exception as exc:  # noqa: BLE001  # the peer gets a temporary reply, the log a trace
            return reply_to(exc)
        return replies.DELIVERED
