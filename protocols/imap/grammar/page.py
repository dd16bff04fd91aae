"""PARTIAL's range of results, in SEARCH and in FETCH (RFC 9394). Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mailstore.uidset import MAX_NUMBER
from protocols.imap.grammar.cursor import Cursor


@dataclass(frozen=True, slots=True)
class Page:
    """PARTIAL's range of results, 1 being the first and -1 the last (RFC 9394 section 3.1)."""

    first: int
    last: int

    @property
    def size(self) -> int:
        """Most results that fit on it."""
        return abs(self.first - self.last) + 1


_PAGE = re.compile(rb"[1-9][0-9]{0,9}:[1-9][0-9]{0,9}|-[1-9][0-9]{0,9}:-[1-9][0-9]{0,9}")


def read_page(cursor: Cursor) -> Page:
    """``partial-range`` (RFC 9394 section 4)."""
    first, last = (int(end) for end in cursor.token(_PAGE, b"range of results").split(b":"))
    if max(abs(first), abs(last)) > MAX_NUMBER:
        raise cursor.failure(b"range of results within bounds")
    return Page(first, last)
