"""From bytes to command lines and mail data. Sans I/O, pure but for its buffer.

The owner feeds bytes and pulls events. Nothing is looked at before it is pulled: whether the next
octets are a command or mail data is what the owner said last (``expect_data``, ``expect_chunk``).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from protocols.envelope.grammar import is_foreign
from protocols.limits import EnvelopeLimits
from protocols.lines import LineBuffer, LongLine, MailData


@dataclass(frozen=True, slots=True)
class CommandLine:
    """A command line without its CRLF."""

    text: bytes


class Unreadable(Enum):
    """A line that is no command line; the connection goes on behind it."""

    TOO_LONG = "too long"
    NOT_CRLF = "a bare CR or LF"


@dataclass(frozen=True, slots=True)
class DataReceived:
    """The next octets of the message, without dot-stuffing."""

    data: bytes


@dataclass(frozen=True, slots=True)
class DataEnded:
    """The message or the chunk is complete; ``ambiguous`` as in ``lines.MailData``."""

    ambiguous: bool


@dataclass(frozen=True, slots=True)
class Foreign:
    """The peer speaks another protocol: answer once and close."""


Event = CommandLine | Unreadable | DataReceived | DataEnded | Foreign

_TLS_HANDSHAKE = b"\x16\x03"


class Connection:
    """The receiving half of one connection."""

    def __init__(self, limits: EnvelopeLimits) -> None:
        self._limits = limits
        self._lines = LineBuffer()
        self._data: MailData | None = None
        self._chunk_missing: int | None = None
        self._dead = False

    @property
    def buffered_bytes(self) -> int:
        """Bytes fed and not yet returned."""
        return len(self._lines)

    def feed(self, data: bytes) -> None:
        """Add received bytes; the caller stops reading when ``buffered_bytes`` passes its bound."""
        if not self._dead:
            self._lines.feed(data)

    def take_rest(self) -> bytes:
        """Remove and return what has not been looked at (STARTTLS throws it away)."""
        return self._lines.take_rest()

    def expect_data(self) -> None:
        """What follows is mail data up to the line with a single dot (DATA)."""
        self._data = MailData()

    def expect_chunk(self, size_bytes: int) -> None:
        """What follows is a chunk of this many octets (BDAT)."""
        self._chunk_missing = size_bytes

    def next_event(self) -> Event | None:
        """The next event; None when more bytes are needed."""
        if self._dead:
            return Foreign()
        if self._data is not None:
            return self._next_data(self._data)
        if self._chunk_missing is not None:
            return self._next_chunk(self._chunk_missing)
        return self._next_command()

    def _next_data(self, reader: MailData) -> Event | None:
        data, behind = reader.feed(self._lines.take_rest())
        self._lines.feed(behind)
        if data:
            return DataReceived(data)
        if not reader.ended:
            return None
        self._data = None
        return DataEnded(reader.ambiguous)

    def _next_chunk(self, missing: int) -> Event | None:
        if not missing:
            self._chunk_missing = None
            return DataEnded(ambiguous=False)
        data = self._lines.take(missing)
        self._chunk_missing = missing - len(data)
        return DataReceived(data) if data else None

    def _next_command(self) -> Event | None:
        line = self._lines.next_line(self._limits.line_max_bytes)
        if line is None:
            if self._lines.startswith(_TLS_HANDSHAKE):
                return self._die()
            return None
        if isinstance(line, LongLine):
            return self._die() if is_foreign(line.beginning) else Unreadable.TOO_LONG
        if is_foreign(line.text):
            return self._die()
        return CommandLine(line.text) if line.strict else Unreadable.NOT_CRLF

    def _die(self) -> Foreign:
        self._dead = True
        self._lines.take_rest()
        return Foreign()
