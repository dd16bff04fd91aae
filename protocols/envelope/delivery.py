"""A transaction (RFC 5321 section 3.3) and its end: one delivery and one reply per recipient."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Protocol

from twisted.internet.defer import CancelledError

from mailstore.directory import Recipient
from mailstore.errors import StoreError
from mailstore.sealed import Facts
from protocols.envelope import replies
from protocols.envelope.message import Collector, Failure, Trace, is_loop
from protocols.envelope.replies import Reply
from protocols.limits import LmtpLimits
from protocols.redact import correlation_id, describe

log = logging.getLogger("sealbox.lmtp")

FAILURES: dict[Failure, Reply] = {
    Failure.TOO_LARGE: replies.TOO_LARGE,
    Failure.NO_MEMORY: replies.NO_MEMORY_NOW,
    Failure.AMBIGUOUS: replies.AMBIGUOUS_END,
    Failure.LOOP: replies.MAIL_LOOP,
}


class DeliveryStore(Protocol):
    """What LMTP asks of the store. Methods raise ``StoreError`` only."""

    async def resolve(self, address: bytes) -> Recipient | None:
        """Who gets mail for an address; None when nobody does."""

    async def check_space(self, recipient: Recipient, size_bytes: int) -> None:
        """Whether a message of this size may be delivered. Raises MessageTooLarge, OverQuota."""

    async def deliver(self, recipient: Recipient, message: bytes, facts: Facts) -> None:
        """Keep a message; on disk for good when this returns."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """A recipient that RCPT has accepted."""

    address: bytes = field(repr=False)
    recipient: Recipient

    @property
    def target(self) -> tuple[str, str | None]:
        """Two recipients with the same target get one copy between them."""
        return self.recipient.account_id, self.recipient.mailbox_hint


@dataclass(slots=True)
class Transaction:
    """From MAIL to the end of the message, RSET or the end of the connection."""

    sender: bytes = field(repr=False)
    size_bytes: int
    """As declared with SIZE; 0 when it was not."""
    smtputf8: bool
    collector: Collector
    accepted: list[Accepted] = field(default_factory=list)
    refused: int = 0
    command: str = "MAIL"
    """For the access log: how far it came."""
    worst: Reply = replies.OK
    """The reply with the highest code to the message, or to it for a recipient."""

    def note(self, reply: Reply) -> None:
        """Remember a reply for the access log."""
        self.worst = max(self.worst, reply, key=lambda one: one.code)


async def find_recipient(store: DeliveryStore, address: bytes, size_bytes: int) -> Recipient | Reply:
    """The recipient behind an address, or why it is refused."""
    try:
        recipient = await store.resolve(address)
        if recipient is None:
            return replies.UNKNOWN_RECIPIENT
        if recipient.disabled:
            return replies.DISABLED_RECIPIENT
        await store.check_space(recipient, size_bytes)
    except CancelledError:
        raise
    except Exception as exc:  # noqa: BLE001  # the peer gets a temporary reply, the log a trace
        return _reply_to(exc)
    return recipient


class Delivery:
    """The end of a transaction. The caller asks for each recipient in order (RFC 2033 section 4.2)."""

    def __init__(
        self, store: DeliveryStore, transaction: Transaction, trace: Trace, limits: LmtpLimits
    ) -> None:
        collector = transaction.collector
        self._store = store
        self._sender = transaction.sender
        self._trace = trace
        self._message = b""
        if collector.failure is None:
            self._message = collector.message()
            if is_loop(self._message, limits):
                collector.fail(Failure.LOOP)
        self._refusal = None if collector.failure is None else FAILURES[collector.failure]
        self._done: dict[tuple[str, str | None], Reply] = {}

    async def reply_to(self, accepted: Accepted) -> Reply:
        """Deliver, unless an earlier recipient had the same target; positive only when it is safe."""
        if self._refusal is not None:
            return self._refusal
        reply = self._done.get(accepted.target)
        if reply is None:
            reply = self._done[accepted.target] = await self._deliver(accepted)
        return reply

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
            return _reply_to(exc)
        return replies.DELIVERED


def _reply_to(error: Exception) -> Reply:
    if isinstance(error, StoreError):
        return replies.reply_for(error)
    log.error("delivery failed, id %s: %s", correlation_id(), describe(error))
    return replies.LOCAL_TROUBLE
