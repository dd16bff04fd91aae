"""The messages that a mailbox had before an import, so that what is there already is not imported again."""

from __future__ import annotations

from mailstore.engine import Database
from mailstore.errors import NoSuchMessage
from mailstore.model import MailboxId, MessageId
from mailstore.ops.content import read_span
from mailstore.ops.transfer import sizes_and_dates

_DATE_BITS = 40


class KnownMessages:
    """Messages of one mailbox, or of several, each of which is recognised once.

    Some 150 bytes of memory a message: sizes and dates are kept, and bytes compared only where both agree.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._left: dict[int, list[int]] = {}

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
        left = self._left.get(key, [])
        for at, message_id in enumerate(left):
            if self._begins(MessageId(message_id), beginning):
                del left[at]
                if not left:
                    del self._left[key]
                return True
        return False

    def _begins(self, message_id: MessageId, beginning: bytes) -> bool:
        try:
            return self._database.read(0, read_span, message_id, 0, len(beginning)) == beginning
        except NoSuchMessage:
            return False


def _key(size_bytes: int, internal_date: int) -> int:
    return size_bytes << _DATE_BITS | internal_date
