"""Reading ahead: programs that download a maildrop ask for one message after the other.

Each message by itself is a crossing into threads and a transaction; several small ones together are one.
"""

from __future__ import annotations

from mailstore.errors import StorageFailed
from mailstore.mime.section import SectionSpec
from mailstore.model import ContentRow, SectionRead, Uid
from protocols.limits import Pop3Limits
from protocols.pop3.context import MaildropApi
from protocols.pop3.maildrop import Maildrop

_WHOLE = (SectionRead(SectionSpec()),)


class ReadAhead:
    """How the messages of one maildrop begin; those that follow in the same reading, if they fit.

    What has been read ahead is told even if another client has removed it since, as if RETR had come sooner:
    RFC 1939 section 3 would have kept that client out.
    """

    def __init__(self, mailbox: MaildropApi, drop: Maildrop, limits: Pop3Limits) -> None:
        self._mailbox = mailbox
        self._drop = drop
        self._limits = limits
        self._rows: dict[Uid, ContentRow] = {}
        self._next = 0
        """The number that a program has to ask for so that it is worth while to read on."""

        self._one_by_one_to = 0
        """Up to this number something is damaged, and each message is read by itself."""

    async def content(self, number: int) -> ContentRow | None:
        """The beginning of a message, up to ``retr_chunk_bytes``; None when it is gone.

        Raises NoSuchNumber, StoreError.
        """
        uid = self._drop.entry(number).uid
        follows, self._next = number == self._next, number + 1
        known = self._rows.pop(uid, None)
        if known is not None:
            return known
        more: tuple[Uid, ...] = ()
        if follows and number > self._one_by_one_to:
            more = self._drop.after(number, self._limits.retr_ahead_bytes)
        rows = await self._read(number, uid, more)
        found = {row.uid: row for row in rows}
        wanted = found.pop(uid, None)
        self._rows = found  # what was read ahead before has not been asked for
        return wanted

    async def _read(self, number: int, uid: Uid, more: tuple[Uid, ...]) -> tuple[ContentRow, ...]:
        most = self._limits.retr_chunk_bytes
        try:
            return await self._mailbox.content((uid, *more), _WHOLE, most)
        except StorageFailed:
            if not more:
                raise
            # What is damaged may be any of them, and must not cost the others.
            self._one_by_one_to = number + len(more)
            return await self._mailbox.content((uid,), _WHOLE, most)
