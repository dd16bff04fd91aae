"""COMPRESS=DEFLATE (RFC 4978) around a channel.

Decompressed octets are produced only when the session asks, a bounded piece at a time, so that a
bomb meets the limits on lines and literals like any other input: what nobody reads is not inflated.
"""

from __future__ import annotations

import zlib
from typing import Any

from protocols.transport import Channel

_INFLATE_WINDOW_BITS = -15
"""Raw deflate; the client may use the whole window."""
_DEFLATE_WINDOW_BITS = -13
_DEFLATE_MEMORY_LEVEL = 6
"""8 KiB window and level 6 take 64 KiB a connection instead of 256."""


class BrokenStream(Exception):
    """The peer's deflate stream cannot be read."""


class CompressedChannel:
    """A channel whose octets are deflated both ways. ``early`` are compressed octets received already."""

    def __init__(self, inner: Channel, inflate_chunk_bytes: int, early: bytes) -> None:
        self._inner = inner
        self._chunk_bytes = inflate_chunk_bytes
        self._waiting = early
        self._cut = False
        self._inflate = zlib.decompressobj(_INFLATE_WINDOW_BITS)
        self._deflate = zlib.compressobj(
            zlib.Z_DEFAULT_COMPRESSION, zlib.DEFLATED, _DEFLATE_WINDOW_BITS, _DEFLATE_MEMORY_LEVEL
        )

    @property
    def inner(self) -> Channel:
        """The channel without compression; what was received and not read is lost with this one."""
        return self._inner

    @property
    def address(self) -> str:
        """See ``Channel``."""
        return self._inner.address

    def channel_binding(self) -> bytes | None:
        """See ``Channel``."""
        return self._inner.channel_binding()

    async def handshake(self, timeout_s: float) -> None:
        """See ``Channel``."""
        await self._inner.handshake(timeout_s)

    async def read(self, timeout_s: float) -> bytes | None:
        """See ``Channel``. Raises BrokenStream too."""
        while True:
            # zlib may hold back output although it has swallowed all input.
            if self._waiting or self._cut:
                try:
                    plain = self._inflate.decompress(self._waiting, self._chunk_bytes)
                except zlib.error:
                    raise BrokenStream from None
                self._waiting = self._inflate.unconsumed_tail
                self._cut = len(plain) == self._chunk_bytes
                if self._inflate.eof:
                    raise BrokenStream
                if plain:
                    return plain
            received = await self._inner.read(timeout_s)
            if received is None:
                return None
            self._waiting += received

    async def write(self, data: bytes) -> None:
        """See ``Channel``."""
        await self._inner.write(self._deflate.compress(data) + self._deflate.flush(zlib.Z_SYNC_FLUSH))

    def write_now(self, data: bytes) -> None:
        """See ``Channel``."""
        self._inner.write_now(self._deflate.compress(data) + self._deflate.flush(zlib.Z_SYNC_FLUSH))

    @property
    def turn_is_over(self) -> bool:
        """See ``Channel``."""
        return self._inner.turn_is_over

    async def turn(self) -> None:
        """See ``Channel``."""
        await self._inner.turn()

    def wake(self) -> None:
        """See ``Channel``."""
        self._inner.wake()

    def start_tls(self, context: Any) -> None:
        """Never: STARTTLS comes before login, COMPRESS after."""
        raise AssertionError("COMPRESS is only possible after login")

    def close(self) -> None:
        """See ``Channel``."""
        self._inner.close()
