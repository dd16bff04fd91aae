"""A session's output, gathered into large writes within a bound."""

from __future__ import annotations

from collections.abc import Iterable

from protocols.transport import Channel


class Output:
    """The sending half of a session. ``sent_bytes`` counts for the access log."""

    def __init__(self, channel: Channel, chunk_bytes: int) -> None:
        self.channel = channel
        self.sent_bytes = 0
        self._chunk_bytes = chunk_bytes
        self._parts: list[bytes] = []
        self._size = 0

    def put(self, data: bytes) -> None:
        """Queue octets; they go out with the next ``drain`` or ``flush``."""
        self._parts.append(data)
        self._size += len(data)
        self.sent_bytes += len(data)

    def put_all(self, parts: Iterable[bytes]) -> None:
        """Queue several responses."""
        for part in parts:
            self.put(part)

    def put_now(self, data: bytes) -> None:
        """Send something short at once, ahead of what is queued; ignores back-pressure."""
        self.sent_bytes += len(data)
        self.channel.write_now(data)

    async def drain(self) -> None:
        """Send if enough is queued; waits while the peer does not keep up."""
        if self._size >= self._chunk_bytes:
            await self.flush()

    async def flush(self) -> None:
        """Send everything; waits while the peer does not keep up."""
        if self._parts:
            data = b"".join(self._parts)
            self._parts.clear()
            self._size = 0
            await self.channel.write(data)
