"""What an open account remembers of its mailboxes between commands, so that it need not be read again. Pure.

Sessions share these values, so nobody may change one; what has changed since is a new value.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace

from mailstore.model import MailboxId, ModSeq, Opened, Places, SortBy, ThreadAlgorithm, Uid
from mailstore.thread_index import ThreadIndex
from mailstore.threads import Threads

VALUE_NUMBERS = 250
"""What a value counts for besides its numbers: about a kilobyte goes into itself, its key and its place."""


@dataclass(frozen=True, slots=True)
class Listing:
    """The messages of a mailbox in some order, as they were at ``modseq``."""

    modseq: ModSeq
    uid_next: Uid
    uids: array[int]
    places: Places | None = None
    """Of these UIDs, among those by which a session numbers its messages."""

    @property
    def numbers(self) -> int:
        """How many it keeps, and what it costs itself."""
        return VALUE_NUMBERS + len(self.uids) * (1 if self.places is None else 3)


@dataclass(frozen=True, slots=True)
class Threaded:
    """The threads of all messages of a mailbox, as they were at ``modseq``."""

    modseq: ModSeq
    uid_next: Uid
    threads: Threads
    index: ThreadIndex | None = None
    """What brings them up to date; without it they are made again."""

    @property
    def numbers(self) -> int:
        """As of a listing: of a node its UID, its parent and what is sent of it, of a thread two lengths."""
        kept = 0 if self.index is None else self.index.numbers
        return VALUE_NUMBERS + 6 * len(self.threads) + 2 * len(self.threads.sizes) + kept


ListingKey = tuple[MailboxId, tuple[SortBy, ...]]
"""A mailbox, and what its messages are sorted by; nothing for the order of their UIDs."""

ThreadsKey = tuple[MailboxId, ThreadAlgorithm]

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
        self._values: dict[Hashable, Listing | Threaded] = {}

    def get(self, key: ListingKey) -> Listing | None:
        """What is kept, which may be older than the mailbox is now."""
        found = self._values.get(key)
        return found if isinstance(found, Listing) else None

    def threads(self, key: ThreadsKey) -> Threaded | None:
        """As ``get``, of threads."""
        found = self._values.get(key)
        return found if isinstance(found, Threaded) else None

    def keep(self, key: ListingKey | ThreadsKey, value: Listing | Threaded) -> None:
        """Keep a value, unless it is too large, or a newer one is there; threads lose their index first."""
        old = self._values.pop(key, None)
        if old is not None:
            self._numbers -= old.numbers
            if old.modseq > value.modseq:
                value = old
        if value.numbers > self._most and isinstance(value, Threaded):
            value = replace(value, index=None)
        if value.numbers > self._most:
            return
        self._values[key] = value
        self._numbers += value.numbers
        while self._numbers > self._most:
            self._numbers -= self._values.pop(next(iter(self._values))).numbers

    def keep_opened(self, opened: Opened) -> None:
        """Keep the messages of a mailbox that has just been selected."""
        status = opened.status
        self.keep((opened.mailbox_id, ()), Listing(status.highest_modseq, status.uid_next, opened.uids))

    def clear(self) -> None:
        """Forget all values."""
        self._values.clear()
        self._numbers = 0

    def close(self) -> None:
        """Forget all values, and keep none that commands still bring which have not ended yet."""
        self._most = 0
        self.clear()
