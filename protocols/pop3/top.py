"""TOP (RFC 1939 section 7): how much of a message is its header and the first lines of its body. Pure."""

from __future__ import annotations

import re

_EMPTY_LINE = re.compile(rb"\n\r?\n")


class TopCutter:
    """Cuts a message that comes in pieces; a line ends with LF, with or without CR before it."""

    def __init__(self, body_lines: int) -> None:
        self.done = False
        self._missing = body_lines
        self._in_header = True
        self._before = b"\n"
        """The last two octets seen: an empty line may lie across the border."""

    def feed(self, data: bytes) -> bytes:
        """The part of ``data`` that belongs to the answer; ``done`` once nothing more does."""
        if self.done:
            return b""
        position = 0
        if self._in_header:
            seen = self._before + data
            matched = _EMPTY_LINE.search(seen)
            if matched is None:
                self._before = seen[-2:]
                return data
            self._in_header = False
            position = matched.end() - len(self._before)
        there = data.count(b"\n", position)
        if there < self._missing:
            self._missing -= there
            return data
        self.done = True
        for _ in range(self._missing):
            position = data.index(b"\n", position) + 1
        return data[:position]
