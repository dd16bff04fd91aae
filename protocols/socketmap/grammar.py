"""Requests and replies of the socketmap protocol (socketmap_table(5)), each in a netstring. Pure.

A request is the name of a map, a space and a key; what there is to a key is the map's business.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_LENGTH = re.compile(rb"0|[1-9][0-9]*")
_LENGTH_DIGITS = 9


class Malformed(Exception):
    """What was received is no request: it cannot be said where the next one begins. The text is fixed."""


@dataclass(frozen=True, slots=True)
class Lookup:
    """A question: what does ``map`` say of ``key``?"""

    map: bytes
    key: bytes = field(repr=False)


class Requests:
    """Received octets, taken out as requests. Sans I/O."""

    def __init__(self, max_bytes: int) -> None:
        """``max_bytes``: the longest request, its length and the comma not counted."""
        self._max_bytes = max_bytes
        self._buffer = bytearray()

    def feed(self, data: bytes) -> None:
        """Add received octets."""
        self._buffer += data

    def next_request(self) -> Lookup | None:
        """The next request; None when more octets are needed. Raises Malformed."""
        colon = self._buffer.find(b":", 0, _LENGTH_DIGITS + 1)
        if colon < 0:
            digits = bytes(self._buffer)
            if len(digits) > _LENGTH_DIGITS or (digits and not _LENGTH.fullmatch(digits)):
                raise Malformed("no netstring")
            return None
        digits = bytes(self._buffer[:colon])
        if not _LENGTH.fullmatch(digits):
            raise Malformed("no netstring")
        length = int(digits)
        if length > self._max_bytes:
            raise Malformed("request too long")
        end = colon + 1 + length
        if len(self._buffer) <= end:
            return None
        if self._buffer[end : end + 1] != b",":
            raise Malformed("no netstring")
        text = bytes(self._buffer[colon + 1 : end])
        del self._buffer[: end + 1]
        name, space, key = text.partition(b" ")
        if not space:
            raise Malformed("no key")
        return Lookup(name, key)


def netstring(text: bytes) -> bytes:
    """Octets with their length before them and a comma behind."""
    return b"%d:%b," % (len(text), text)


def found(value: bytes) -> bytes:
    """OK: what the map says of the key."""
    return netstring(b"OK " + value)


NOT_FOUND = netstring(b"NOTFOUND ")
"""The map has no such key."""


def temporary(reason: bytes) -> bytes:
    """TEMP: it cannot be said now; Postfix answers 451."""
    return netstring(b"TEMP " + reason)


def permanent(reason: bytes) -> bytes:
    """PERM: the question is wrong and will stay so."""
    return netstring(b"PERM " + reason)
