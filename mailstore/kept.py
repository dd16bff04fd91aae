"""What an open account remembers of its mailboxes between commands, so that it need not be read again. Pure.

Sessions share these values, so nobody may change one; what has changed since is a new value.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Hashable
from dataclasses import dataclass

from mailstore.model import MailboxId, ModSeq, Opened, SortBy, Uid


@dataclass(frozen=True, slots=True)
class Listing:
    """The messages of a mailbox in some order, as they were at ``modseq``."""

    modseq: ModSeq
    uid_next: Uid
    uids: array[int]

    def __len__(self) -> int:
        return len(self.uids)


ListingKey = tuple[MailboxId, tuple[SortBy, ...]]
"""A mailbox, and what its messages are sorted by; nothing for the order of their UIDs."""

Known = Callable[[ListingKey], Listing | None]
"""Tells how a mailbox once was; for any thread."""


class Kept:
    """At most ``most`` numbers in all; what was not used for longest goes first.

    ``get`` may be called in any thread, the other methods on the reactor's: a value is only kept once the
    transaction that has read it has ended well.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._numbers = 0
        self._values: dict[Hashable, Listing] = {}

    def get(self, key: ListingKey) -> Listing | None:
        """What is kept, which may be older than the mailbox is now."""
        return self._values.get(key)

    def keep(self, key: ListingKey, value: Listing) -> None:
        """Keep a value, unless it is too large, or a newer one is there."""
        old = self._values.pop(key, None)
        if old is not None:
            self._numbers -= len(old)
            if old.modseq > value.modseq:
                value = old
        if len(value) > self._most:
            return
        self._values[key] = value
        self._numbers += len(value)
        while self._numbers > self._most:
            self._numbers -= len(self._values.pop(next(iter(self._values))))

    def keep_opened(self, opened: Opened) -> None:
        """Keep the messages of a mailbox that has just been selected."""
        status = opened.status
        listing = Listing(status.highest_modseq, status.uid_next, opened.uids)
        self.keep((opened.mailbox_id, ()), listing)

    def clear(self) -> None:
        """Keep nothing any more."""
        self._values.clear()
        self._numbers = 0
