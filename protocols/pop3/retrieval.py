"""Sending messages and listings in pieces, with back-pressure."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from itertools import islice

from mailstore.errors import NoSuchMessage
from mailstore.model import ContentRow
from protocols.limits import Pop3Limits
from protocols.lines import END_OF_DATA, DotStuffer
from protocols.pop3.context import MaildropApi
from protocols.pop3.top import TopCutter
from protocols.transport import Channel

LinesOf = Callable[[Sequence[int]], Awaitable[bytes]]
"""Makes the lines of a listing for some message numbers."""


class Sender:
    """The sending half of a session. ``sent_bytes`` counts for the access log."""

    def __init__(self, channel: Channel, limits: Pop3Limits) -> None:
        self.sent_bytes = 0
        self.in_response = False
        """The first line of a multi-line response is out, its end is not."""
        self._channel = channel
        self._limits = limits
        self._parts = bytearray()

    def put(self, data: bytes) -> None:
        """Queue octets; they go out with the next ``flush``."""
        self._parts += data
        self.sent_bytes += len(data)

    async def flush(self) -> None:
        """Send everything; waits while the peer does not keep up."""
        if self._parts:
            data = bytes(self._parts)
            self._parts.clear()
            await self._channel.write(data)

    def lines(self, first_line: bytes, lines: Iterable[bytes]) -> None:
        """A short multi-line response whose lines need no stuffing (RFC 1939 section 3)."""
        self.put(first_line + b"".join(b"%s\r\n" % line for line in lines) + END_OF_DATA)

    async def listing(self, first_line: bytes, numbers: Iterator[int], lines_of: LinesOf) -> None:
        """The same for a whole maildrop, in batches; yields to other sessions in between.

        Raises what ``lines_of`` raises; ``in_response`` tells whether anything was sent.
        """
        lines = await lines_of(batch := self._batch(numbers))
        self._begin(first_line)
        while batch:
            self.put(lines)
            await self._drain()
            if self._channel.turn_is_over:
                await self._channel.turn()
            lines = await lines_of(batch := self._batch(numbers))
        self._finish(END_OF_DATA)

    def _batch(self, numbers: Iterator[int]) -> list[int]:
        return list(islice(numbers, self._limits.listing_chunk_lines))

    async def message(
        self,
        mailbox: MaildropApi,
        size_bytes: int,
        row: ContentRow | None,
        first_line: bytes,
        cutter: TopCutter | None = None,
    ) -> None:
        """``first_line`` and a message behind it, or the part of it that ``cutter`` lets through.

        ``row`` is how the message begins, if it is there.

        Raises:
            NoSuchMessage: it is gone. StoreError: as it says. ``in_response`` tells whether anything
                was sent.
        """
        chunk_bytes = self._limits.retr_chunk_bytes
        if row is None:
            raise NoSuchMessage("the message was expunged")
        self._begin(first_line)
        stuffer = DotStuffer()
        data = row.sections[0].data
        offset = 0
        while True:
            offset += len(data)
            self.put(stuffer.feed(data if cutter is None else cutter.feed(data)))
            if offset >= size_bytes or (cutter is not None and cutter.done):
                break
            await self._drain()
            data = await mailbox.read_span(row.message_id, offset, chunk_bytes)
            if not data:
                raise NoSuchMessage("the message is shorter than it was")
        self._finish(stuffer.finish())

    def _begin(self, first_line: bytes) -> None:
        self.put(first_line)
        self.in_response = True

    def _finish(self, end: bytes) -> None:
        self.put(end)
        self.in_response = False

    async def _drain(self) -> None:
        if len(self._parts) >= self._limits.write_chunk_bytes:
            await self.flush()
