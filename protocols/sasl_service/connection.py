"""From bytes to questions. Sans I/O, pure but for its buffer.

The owner feeds bytes and pulls events until there is none. The client's handshake comes first: VERSION, then
CPID. Whoever breaks the rules is no client of this protocol, and nothing of what follows is read.
"""

from __future__ import annotations

from dataclasses import dataclass

from protocols.limits import SaslServiceLimits
from protocols.lines import LineBuffer, LongLine
from protocols.sasl_service.grammar import MAJOR_VERSION, Malformed, parse_line
from protocols.sasl_service.requests import ClientPid, Question, Version


@dataclass(frozen=True, slots=True)
class Broken:
    """The connection has to end; ``why`` is a fixed text."""

    why: str


class Connection:
    """The receiving half of one connection."""

    def __init__(self, limits: SaslServiceLimits) -> None:
        self._limits = limits
        self._lines = LineBuffer()
        self._version: Version | None = None
        self.ready = False
        """The client's handshake is complete."""
        self._broken: Broken | None = None

    def feed(self, data: bytes) -> None:
        """Add received bytes."""
        if self._broken is None:
            self._lines.feed(data)

    def next_event(self) -> Question | Broken | None:
        """The next event; None when more bytes are needed."""
        while self._broken is None:
            line = self._lines.next_line(self._limits.line_max_bytes)
            if line is None:
                return None
            if isinstance(line, LongLine):
                return self._break("line too long")
            try:
                request = parse_line(line.text)
            except Malformed as error:
                return self._break(str(error))
            match request:
                case Version(major):
                    if self._version is not None or major != MAJOR_VERSION:
                        return self._break("another version of the protocol")
                    self._version = request
                case ClientPid():
                    if self._version is None or self.ready:
                        return self._break("CPID out of order")
                    self.ready = True
                case _:
                    return request if self.ready else self._break("handshake first")
        return self._broken

    def _break(self, why: str) -> Broken:
        self._broken = Broken(why)
        self._lines.take_rest()
        return self._broken
