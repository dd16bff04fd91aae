"""What an envelope asks of the store, and how the store's failures are told to the peer."""

from __future__ import annotations

import logging
from typing import Protocol

from twisted.internet.defer import CancelledError

from mailstore.directory import Recipient
from mailstore.errors import StoreError
from mailstore.sealed import Facts
from protocols.envelope import replies
from protocols.envelope.replies import Reply
from protocols.redact import correlation_id, describe

log = logging.getLogger("sealbox.delivery")


class DeliveryStore(Protocol):
    """What brings mail asks this of the store. Methods raise ``StoreError`` only."""

    async def recipient(self, address: bytes, size_bytes: int | None) -> Recipient | None:
        """Who gets mail for an address, None when nobody does.

        Raises MessageTooLarge, OverQuota where a message of this size could not be delivered; never with
        None, nor for a disabled one.
        """

    async def deliver(self, recipient: Recipient, message: bytes, facts: Facts) -> None:
        """Store a message; it is durable when this returns."""


async def find_recipient(store: DeliveryStore, address: bytes, size_bytes: int | None) -> Recipient | Reply:
    """The recipient behind an address, or why a message of this size (None: any mail) is refused."""
    try:
        recipient = await store.recipient(address, size_bytes)
    except CancelledError:
        raise
    except Exception as exc:  # noqa: BLE001  # the peer gets a temporary reply, the log a trace
        return reply_to(exc)
    if recipient is None:
        return replies.UNKNOWN_RECIPIENT
    return replies.DISABLED_RECIPIENT if recipient.disabled else recipient


def reply_to(error: Exception) -> Reply:
    """What the peer is told of a failure; one that the store does not know of is logged."""
    if isinstance(error, StoreError):
        return replies.reply_for(error)
    log.error("delivery failed, id %s: %s", correlation_id(), describe(error))
    return replies.LOCAL_ERROR
