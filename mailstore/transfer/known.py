"""The messages that a mailbox had before an import, so that what is there already is not imported again."""

from __future__ import annotations

import hashlib

from mailstore.engine import Database
from mailstore.errors import NoSuchMessage
from mailstore.mime.headers import header_end
from mailstore.model import MailboxId, MessageId
from mailstore.ops.content import read_span
from mailstore.ops.transfer import header_of, sizes_and_dates

FEW = 8
"""So many messages of one size and date are compared one by one; of more, the headers are hashed once."""

_DATE_BITS = 40


class KnownMessages:
    """Messages of one mailbox, or of several, each of which is recognised once.

    Some 150 bytes of memory a message: sizes and dates are kept, and bytes compared only where both agree.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._left: dict[int, list[int]] = {}
        self._by_header: dict[int, dict[bytes, list[int]]] = {}

    def add_mailbox(self, mailbox_id: MailboxId) -> None:
        """Know the messages of a mailbox, too."""
        for size_bytes, internal_date, message_id in self._database.read(0, sizes_and_dates, mailbox_id):
            self._left.setdefault(_key(size_bytes, internal_date), []).append(message_id)

    def may_have(self, size_bytes: int, internal_date: int) -> bool:
        """As :meth:`Destination.may_have`."""
        return _key(size_bytes, internal_date) in self._left

    def take(self, data: bytes, internal_date: int) -> bool:
        """Whether a message with these bytes and this internal date is there; it is recognised once only."""
        return self._take(len(data), internal_date, data)

    def take_by_header(self, size_bytes: int, internal_date: int, header: bytes) -> bool:
        """As :meth:`Destination.take_by_header`."""
        return self._take(size_bytes, internal_date, header)

    def _take(self, size_bytes: int, internal_date: int, beginning: bytes) -> bool:
        key = _key(size_bytes, internal_date)
        left = self._candidates(key, beginning)
        for at, message_id in enumerate(left):
            if self._begins(MessageId(message_id), beginning):
                del left[at]
                if not self._left[key]:
                    del self._left[key]
                return True
        return False

    def _candidates(self, key: int, beginning: bytes) -> list[int]:
        """Messages of that size and date, and, where those are many, with that header."""
        left = self._left.get(key, [])
        if len(left) <= FEW:
            return left
        by_header = self._by_header.get(key)
        if by_header is None:
            by_header = self._by_header[key] = {}
            for message_id in left:
                header = self._database.read(0, header_of, MessageId(message_id))
                by_header.setdefault(_digest(header), []).append(message_id)
        return by_header.get(_digest(beginning[: header_end(beginning, 0, len(beginning))]), [])

    def _begins(self, message_id: MessageId, beginning: bytes) -> bool:
        try:
            return self._database.read(0, read_span, message_id, 0, len(beginning)) == beginning
        except NoSuchMessage:
            return False


def _digest(header: bytes) -> bytes:
    return hashlib.sha256(header).digest()[:16]


def _key(size_bytes: int, internal_date: int) -> int:
    return size_bytes << _DATE_BITS | internal_date
