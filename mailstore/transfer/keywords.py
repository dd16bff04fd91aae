"""Which words of another program can be keywords here (``flag-keyword``, RFC 3501 section 9). Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

MAX_KEYWORD_CHARS = 100
"""Longest keyword that is taken over."""

MAX_KEYWORDS_OF_MESSAGE = 250
"""Most keywords of one message that are taken over."""

_KEYWORD = re.compile(r"[^\x00-\x20\x7f-\U0010ffff(){%*\"\\\]]+")


def usable_keywords(words: Iterable[str]) -> tuple[str, ...]:
    """Those words that can be keywords, once each whatever their case, in the order given."""
    found: dict[str, str] = {}
    for word in words:
        if len(found) == MAX_KEYWORDS_OF_MESSAGE:
            break
        if len(word) <= MAX_KEYWORD_CHARS and _KEYWORD.fullmatch(word):
            found.setdefault(word.lower(), word)
    return tuple(found.values())
