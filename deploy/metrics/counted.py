"""What sessions use anyway, with somebody who counts: the access log, and the store that takes mail."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import CancelledError

from deploy.metrics.meters import Meters
from mailstore.directory import Recipient
from mailstore.errors import (
    Busy,
    DirectoryUnavailable,
    MessageTooLarge,
    OverQuota,
    StorageFailed,
    StorageFull,
    StoreError,
)
from mailstore.sealed import Facts
from protocols.access_log import AccessLog, Entry
from protocols.envelope.recipients import DeliveryStore

_RESULTS: tuple[tuple[type[StoreError], str, str], ...] = (
    (OverQuota, "over_quota", "quota"),
    (MessageTooLarge, "too_large", "store.max_message_bytes"),
    (StorageFull, "no_room", "store.min_free_bytes"),
    (Busy, "unavailable", ""),
    (StorageFailed, "unavailable", ""),
)
"""Kinds of failure, each with the result that is counted and the setting it comes from, if any."""


class CountedLog:
    """An access log of whose lines the commands are counted too."""

    def __init__(self, inner: AccessLog, meters: Meters) -> None:
        self._inner = inner
        self._meters = meters

    def record(self, entry: Entry) -> None:
        """See ``AccessLog``."""
        self._inner.record(entry)
        self._meters.command(entry)
        if entry.limit:
            self._meters.limit(entry.limit)


class CountedDeliveries:
    """A store of which deliveries are counted. ``now`` gives seconds."""

    def __init__(self, inner: DeliveryStore, meters: Meters, now: Callable[[], float]) -> None:
        self._inner = inner
        self._meters = meters
        self._now = now

    async def recipient(self, address: bytes, size_bytes: int | None) -> Recipient | None:
        """See ``DeliveryStore``."""
        began_s = self._now()
        try:
            return await self._inner.recipient(address, size_bytes)
        except DirectoryUnavailable:
            self._delivered("unavailable", began_s)
            raise

    async def deliver(self, recipient: Recipient, message: bytes, facts: Facts) -> None:
        """See ``DeliveryStore``."""
        began_s = self._now()
        try:
            await self._inner.deliver(recipient, message, facts)
        except CancelledError:
            raise  # the client is gone; whether the message was kept nobody knows
        except Exception as error:
            result, limit = next((one[1:] for one in _RESULTS if isinstance(error, one[0])), ("error", ""))
            self._delivered(result, began_s)
            if limit:
                self._meters.limit(limit)
            raise
        self._delivered("delivered", began_s)

    def _delivered(self, result: str, began_s: float) -> None:
        self._meters.delivery(result, max(self._now() - began_s, 0.0))
