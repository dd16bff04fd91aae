"""Mail on another IMAP server. What is there already is known by size, internal date and header alone.

So an import that is run again reads the headers of what it had imported, and the bodies of what is new.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from mailstore.transfer.imap_client import ImapClient, TooLong
from mailstore.transfer.imap_responses import Facts
from mailstore.transfer.source import (
    Destination,
    Foreseen,
    Found,
    Incoming,
    Passed,
    Reason,
    SourceMailbox,
    Unusable,
)

BATCH_BYTES = 8 * 1024 * 1024
"""Messages are asked for together up to so many bytes."""

BATCH_MESSAGES = 100
"""Most messages, or headers, that are asked for together."""


@dataclass(frozen=True, slots=True)
class ImapWishes:
    """How mail is read. ``bytes_per_second`` 0 is as fast as it comes; with ``facts_only`` no content."""

    max_message_bytes: int
    bytes_per_second: int = 0
    facts_only: bool = False


class ImapSource:
    """An account on another server."""

    def __init__(
        self, client: ImapClient, wishes: ImapWishes, pause: Callable[[float], None] = time.sleep
    ) -> None:
        """``pause(s)`` waits for so many seconds."""
        self._client = client
        self._wishes = wishes
        self._pause = pause
        self._wire: dict[str, bytes] = {}

    def mailboxes(self) -> list[SourceMailbox]:
        """As :meth:`Source.mailboxes`: views of other mailboxes come last."""
        found = []
        for one, is_subscribed in self._client.mailboxes():
            key = one.wire.decode("latin-1")
            self._wire[key] = one.wire
            found.append(SourceMailbox(key, one.levels, one.special_use, is_subscribed, one.is_view))
        return sorted(found, key=lambda one: one.is_view)

    def size_bytes(self, mailboxes: list[SourceMailbox]) -> int:
        """As :meth:`Source.size_bytes`: not known before a mailbox is opened."""
        return 0

    def messages(self, mailbox: SourceMailbox, there: Destination) -> Iterator[Found]:
        """As :meth:`Source.messages`: by ascending UID."""
        place = ascii("/".join(mailbox.levels))
        count = self._client.examine(self._wire[mailbox.key])
        if count is None:
            yield Unusable(place, Reason.UNREADABLE)
            return
        facts = self._client.facts(count)
        there.expect(sum(one.size_bytes for one in facts))
        for at in range(0, len(facts), BATCH_MESSAGES):
            yield from self._batch(place, facts[at : at + BATCH_MESSAGES], there)

    def _batch(self, place: str, batch: list[Facts], there: Destination) -> Iterator[Found]:
        wanted = []
        known = self._known(batch, there)
        for one in batch:
            if one.uid in known or not there.wants(one.internal_date):
                yield Passed(one.size_bytes, is_older=one.uid not in known)
            elif one.size_bytes > self._wishes.max_message_bytes:
                yield Unusable(f"{place}, UID {one.uid}", Reason.TOO_LARGE, one.size_bytes)
            elif self._wishes.facts_only:
                yield Foreseen(one.size_bytes)
            else:
                wanted.append(one)
        for group in _groups(wanted):
            yield from self._contents(place, group)

    def _known(self, batch: list[Facts], there: Destination) -> set[int]:
        """The messages that are there already."""
        asked = [one for one in batch if there.may_have(one.size_bytes, one.internal_date)]
        headers = self._read(asked, "HEADER") or {}
        known = set()
        for one in asked:
            header = headers.get(one.uid)
            if header is not None and there.take_by_header(one.size_bytes, one.internal_date, header):
                known.add(one.uid)
        return known

    def _contents(self, place: str, group: list[Facts]) -> Iterator[Found]:
        started = time.monotonic()
        found = self._read(group, "")
        if found is None and len(group) > 1:
            for one in group:  # the server, or one message, is in the way
                yield from self._contents(place, [one])
            return
        for one in group:
            if found is None or found.get(one.uid, b"") is None:
                yield Unusable(f"{place}, UID {one.uid}", Reason.UNREADABLE, one.size_bytes)
            elif one.uid in found:
                data = found[one.uid] or b""
                yield Incoming(data, one.flags, one.internal_date, one.size_bytes, f"{place}, UID {one.uid}")
            else:
                yield Passed(one.size_bytes, is_deleted=True)  # expunged since
        if self._wishes.bytes_per_second:
            due_s = sum(one.size_bytes for one in group) / self._wishes.bytes_per_second
            self._pause(max(started + due_s - time.monotonic(), 0.0))

    def _read(self, group: list[Facts], section: str) -> dict[int, bytes | None] | None:
        """A section of each message; None where they cannot be read together."""
        try:
            return self._client.contents([one.uid for one in group], section) if group else {}
        except TooLong:
            return None


def _groups(wanted: list[Facts]) -> Iterator[list[Facts]]:
    """Messages to be asked for together."""
    group: list[Facts] = []
    size = 0
    for one in wanted:
        if group and size + one.size_bytes > BATCH_BYTES:
            yield group
            group, size = [], 0
        group.append(one)
        size += one.size_bytes
    if group:
        yield group
