"""A mail transaction (RFC 5321 section 3.3): what MAIL, RCPT, DATA and BDAT may do, and in which order."""

from __future__ import annotations

from dataclasses import dataclass, field

from mailstore.directory import Recipient
from protocols.budget import MemoryBudget
from protocols.envelope import replies
from protocols.envelope.message import FAILURES, Collector, Failure
from protocols.envelope.recipients import DeliveryStore, find_recipient
from protocols.envelope.replies import Reply
from protocols.envelope.requests import Bdat, Mail
from protocols.limits import EnvelopeLimits


@dataclass(frozen=True, slots=True)
class Accepted:
    """A recipient that RCPT has accepted."""

    address: bytes = field(repr=False)
    recipient: Recipient

    @property
    def target(self) -> tuple[str, str | None]:
        """Two recipients with the same target share one copy."""
        return self.recipient.account_id, self.recipient.mailbox_hint


class Transaction:
    """From MAIL to the end of the message, RSET or the end of the connection. ``close`` must follow."""

    def __init__(
        self, request: Mail, limits: EnvelopeLimits, budget: MemoryBudget, passes_on: bool = False
    ) -> None:
        """``passes_on``: mail for accounts of other nodes is taken, and brought to them."""
        self.sender = request.sender
        self.smtputf8 = request.smtputf8
        self.collector = Collector(budget, limits.message_max_bytes)
        self.accepted: list[Accepted] = []
        self.command = "MAIL"
        """For the access log: how far it came."""
        self.worst = replies.OK
        """The reply with the highest code that the message, or one of its recipients, has had."""
        self._size_bytes = request.size_bytes or 0
        self._limits = limits
        self._passes_on = passes_on
        self._refused = 0

    def note(self, reply: Reply) -> None:
        """Remember a reply for the access log."""
        self.worst = max(self.worst, reply, key=lambda known: known.code)

    async def rcpt(self, store: DeliveryStore, address: bytes) -> Reply:
        """Accept a recipient, or say why not (RFC 5321 section 4.1.1.3)."""
        if self.collector.begun:
            return replies.BDAT_BEGUN
        reply = await self._rcpt(store, address)
        if reply is not replies.RECIPIENT_OK:
            self._refused += 1
        return reply

    async def _rcpt(self, store: DeliveryStore, address: bytes) -> Reply:
        limits = self._limits
        if len(self.accepted) >= limits.recipients_max or self._refused >= limits.refused_recipients_max:
            return replies.TOO_MANY_RECIPIENTS
        if not self.smtputf8 and not address.isascii():
            return replies.NEEDS_SMTPUTF8
        recipient = await find_recipient(store, address, self._size_bytes)
        if isinstance(recipient, Reply):
            return recipient
        if recipient.elsewhere and (recipient.node is None or not self._passes_on):
            return replies.ON_ANOTHER_NODE
        self.accepted.append(Accepted(address, recipient))
        return replies.RECIPIENT_OK

    def data(self) -> Reply:
        """DATA: the reply; the message follows after 354 only (RFC 5321 section 4.1.1.4)."""
        if not self.accepted:
            return replies.NO_RECIPIENTS
        if self.collector.begun:
            return replies.BDAT_BEGUN
        self.command = "DATA"
        self.collector.begun = True
        return replies.SEND_DATA

    def bdat(self, request: Bdat) -> Reply | None:
        """BDAT: why the chunk that follows is thrown away, None where it belongs to the message.

        A message that has failed fails again at ``BDAT LAST``, so that a pipelining peer stays in step.
        """
        if not self.accepted:
            return replies.NO_RECIPIENTS
        self.command = "BDAT"
        collector = self.collector
        collector.begun = True
        if collector.failure is not None and not request.last:
            return replies.CHUNK_AFTER_FAILURE
        if collector.received_bytes + request.size_bytes > self._limits.message_max_bytes:
            collector.fail(Failure.TOO_LARGE)
        return None

    def chunk_ended(self) -> Reply:
        """The reply to a chunk that is not the last (RFC 3030 section 2)."""
        failure = self.collector.failure
        return replies.CHUNK_OK if failure is None else FAILURES[failure]

    def close(self) -> None:
        """Release the message; calling it again does nothing."""
        self.collector.close()
