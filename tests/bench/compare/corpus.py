"""The mail of the comparison: that of ``mail_sample`` in conversations, with words that are rare."""

from __future__ import annotations

import random
from collections.abc import Iterator

from tests.bench import mail_sample

CONVERSATION = 5
"""Messages of one thread."""

WORDS = 4000
"""Different rare words; each text has ``RARE`` of them, so that one is in 0.3 % of the messages."""

RARE = 12
_SYLLABLES = tuple(first + second for first in "bdfgklmnprstvz" for second in "aeiou")
_PLAIN = b"Content-Type: text/plain"


def word(number: int) -> str:
    """A word of eight letters that stands in no dictionary."""
    number = (number * 2_654_435_761 + 97) % len(_SYLLABLES) ** 4
    letters = []
    for _ in range(4):
        number, at = divmod(number, len(_SYLLABLES))
        letters.append(_SYLLABLES[at])
    return "".join(letters)


def message_id(number: int) -> bytes:
    """The Message-ID of a message."""
    return b"<%d.%08x@mail.example>" % (number, number * 2_654_435_761 % 2**32)


def _references(number: int) -> bytes:
    place = number % CONVERSATION
    if not place:
        return b""
    first = number - place
    parent = first + random.Random(number).randrange(place)
    named = [message_id(first)] + ([message_id(parent)] if parent != first else [])
    return b"In-Reply-To: %s\r\nReferences: %s\r\n" % (named[-1], b"\r\n ".join(named))


def message(number: int) -> tuple[bytes, int]:
    """Message ``number`` with CRLF lines, and its internal date in epoch seconds."""
    data, date = mail_sample.message(number)
    rare = [word(one) for one in random.Random(-1 - number).choices(range(WORDS), k=RARE)]
    before, _, after = data.partition(b"Message-ID: ")
    reply = _references(number)
    before = before.replace(
        b"\r\nSubject: ", b"\r\nSubject: %s%s " % (b"Re: " * bool(reply), rare[0].encode())
    )
    after = message_id(number) + b"\r\n" + reply + after.partition(b"\r\n")[2]
    if _PLAIN in after.partition(b"\r\n\r\n")[0]:
        after += " ".join(rare[1:]).encode() + b"\r\n"
    return before + b"Message-ID: " + after, date


def messages(first: int, count: int) -> Iterator[tuple[bytes, int]]:
    """So many messages from ``first`` on."""
    return map(message, range(first, first + count))
