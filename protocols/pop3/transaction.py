"""The TRANSACTION and UPDATE states (RFC 1939 sections 5 and 6): one account with its maildrop open.

Messages marked for deletion are removed, or moved to Trash, by ``update`` and nowhere else, in one
transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never, cast

from mailstore.errors import AccountClosed, NoSuchMessage, StorageFull, StoreError
from mailstore.model import Uid
from mailstore.uidset import UidSet
from protocols.limits import Pop3Limits
from protocols.pop3 import requests as ask
from protocols.pop3.ahead import ReadAhead
from protocols.pop3.context import MaildropApi, Refused, log
from protocols.pop3.maildrop import Maildrop, unique_id
from protocols.pop3.requests import MaildropRequest
from protocols.pop3.retrieval import LinesOf, Sender
from protocols.pop3.top import TopCutter
from protocols.redact import describe
from protocols.store_api import AccountApi


async def open_maildrop(account: AccountApi, sender: Sender, limits: Pop3Limits) -> Transaction:
    """The account's maildrop as it is now. Raises NoSuchMailbox, StoreError."""
    # The shared interface leaves out what only POP3 needs; the store's mailboxes have it.
    mailbox = cast(MaildropApi, await account.select(account.pop3.maildrop, read_only=False))
    drop = Maildrop(await mailbox.maildrop())
    return Transaction(account, mailbox, drop, sender, limits)


class Transaction:
    """See the module's docstring. ``release`` has to be called in the end."""

    def __init__(
        self,
        account: AccountApi,
        mailbox: MaildropApi,
        drop: Maildrop,
        sender: Sender,
        limits: Pop3Limits,
    ) -> None:
        self.account = account
        self.count = drop.count
        self._mailbox = mailbox
        self._drop = drop
        self._ahead = ReadAhead(mailbox, drop, limits)
        self._sender = sender
        self._limits = limits
        self._read_only = mailbox.opened.read_only
        self._marks_seen = account.pop3.retr_marks_seen and not self._read_only
        self._sent: set[Uid] = set()
        """What RETR has sent whole and is to be marked as read."""

    def release(self) -> None:
        """End the session; messages marked for deletion stay."""
        self._mailbox.close()
        self.account.release()

    async def handle(self, request: MaildropRequest) -> bytes | None:
        """The text behind +OK; None when the response was put out already.

        Raises Refused, NoSuchNumber, StoreError.
        """
        drop = self._drop
        match request:
            case ask.Stat():
                return b"%d %d" % (drop.count, drop.size_bytes)
            case ask.Scan(number):
                return await self._about(number, self._scan_lines)
            case ask.Uidl(number):
                return await self._about(number, self._unique_id_lines)
            case ask.Retr(number):
                await self._retrieve(number)
                return None
            case ask.Top(number, lines):
                row, size_bytes = await self._ahead.content(number), drop.entry(number).size_bytes
                await self._sender.message(self._mailbox, size_bytes, row, b"+OK\r\n", TopCutter(lines))
                return None
            case ask.Dele(number):
                if self._read_only:
                    raise Refused(b"only reading is allowed")
                drop.delete(number)
                return b"marked for deletion"
            case ask.Rset():
                drop.reset()
                return b"%d messages" % drop.count
            case ask.Noop():
                return b"done"
            case _:
                assert_never(request)

    async def update(self) -> None:
        """QUIT: remove what is marked, all or nothing, and mark what was read as read.

        Raises StoreError: no message was removed.
        """
        marked = self._drop.deleted
        to_trash = self.account.pop3.dele_to_trash
        if not to_trash:
            self._sent.difference_update(marked)
        await self._mark_seen()
        if marked:
            await (self._mailbox.discard(marked) if to_trash else self._mailbox.remove(marked))

    async def _about(self, number: int | None, lines_of: LinesOf) -> bytes | None:
        """LIST and UIDL, of one message or of all."""
        if number is None:
            first_line = b"+OK %d messages\r\n" % self._drop.count
            await self._sender.listing(first_line, self._drop.numbers(), lines_of)
            return None
        line = await lines_of([number])
        if not line:
            raise NoSuchMessage("the message was expunged")
        return line.removesuffix(b"\r\n")

    async def _scan_lines(self, numbers: Sequence[int]) -> bytes:
        entry = self._drop.entry
        return b"".join(b"%d %d\r\n" % (number, entry(number).size_bytes) for number in numbers)

    async def _unique_id_lines(self, numbers: Sequence[int]) -> bytes:
        """Leaves out messages that are gone by now: their unique-ids are no longer known."""
        uids = [self._drop.entry(number).uid for number in numbers]
        still_there = {stored.uid: stored for stored in await self._mailbox.maildrop_ids(UidSet.of(uids))}
        return b"".join(
            b"%d %s\r\n" % (number, unique_id(still_there[uid]))
            for number, uid in zip(numbers, uids, strict=True)
            if uid in still_there
        )

    async def _retrieve(self, number: int) -> None:
        entry = self._drop.entry(number)
        row = await self._ahead.content(number)
        first_line = b"+OK %d octets\r\n" % entry.size_bytes
        await self._sender.message(self._mailbox, entry.size_bytes, row, first_line)
        if self._marks_seen:
            self._sent.add(entry.uid)
            if len(self._sent) >= self._limits.seen_batch_max:
                await self._mark_seen()

    async def _mark_seen(self) -> None:
        """Mark as read what RETR has sent; a failure costs the marks and nothing else."""
        sent, self._sent = self._sent, set()
        if not sent:
            return
        try:
            await self._mailbox.mark_seen(UidSet.of(sent))
        except (StorageFull, AccountClosed):
            pass  # mail can still be read when the disk is full; a closed account ends the session anyway
        except StoreError as error:
            log.error("marking messages as read failed: %s", describe(error))
