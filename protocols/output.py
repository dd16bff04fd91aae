"""What a session has to say, gathered until it waits for its client, and then written in one piece."""

from __future__ import annotations

from protocols.transport import Channel


class Output(bytearray):
    """Octets that are not written yet: ``+=`` adds some."""

    async def flush(self, channel: Channel) -> None:
        """Write all of it. Returns when the peer keeps up."""
        if self:
            data = bytes(self)
            self.clear()
            await channel.write(data)
