"""Random searches and sorts, and what two servers answer otherwise. Pure but for the asking."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from typing import Protocol

from tests.transcripts.search_mail import FILES, FIRST_DAY, HOSTS, NAMES, WORDS

ADDRESSES = ("FROM", "TO", "CC", "BCC")
FIELDS = ("Subject", "From", "To", "Received", "X-Note", "Message-ID", "Date", "Content-Type")
CRITERIA = ("SUBJECT", "FROM", "TO", "CC", "DATE", "ARRIVAL", "SIZE", "DISPLAYFROM", "DISPLAYTO")
_NUMBERS = re.compile(rb"\* (?:SEARCH|SORT)((?: \d+)*)")


class Asked(Protocol):
    """A session in which the mailbox is selected."""

    def ask(self, command: bytes) -> bytes:
        """Everything that is answered up to the tagged response."""


@dataclass(frozen=True, slots=True)
class Search:
    """One key: its name as in ``SUBJECT`` or ``HEADER X-Note``, and the text or date it has."""

    key: str
    text: str

    def command(self) -> bytes:
        """The command, its text as a literal."""
        if self.key.startswith(("SENT", "BEFORE", "SINCE", "ON")):
            return f"SEARCH {self.key} {self.text}".encode()
        raw = self.text.encode()
        return b"SEARCH CHARSET UTF-8 %b {%d+}\r\n%b" % (self.key.encode(), len(raw), raw)


@dataclass(frozen=True, slots=True)
class Sort:
    """One criterion, perhaps reversed."""

    criterion: str
    reverse: bool

    def command(self) -> bytes:
        """The command; every message is sorted."""
        return f"SORT ({'REVERSE ' if self.reverse else ''}{self.criterion}) UTF-8 ALL".encode()


@dataclass(frozen=True, slots=True)
class Unlike:
    """A message that one of the two finds: its number, and whether it is ours that does."""

    search: Search
    number: int
    ours: bool


@dataclass(frozen=True, slots=True)
class Misplaced:
    """Two messages, by number, that ours has in this order and the other in the opposite one."""

    sort: Sort
    first: int
    second: int


def _part_of(rng: random.Random, text: str) -> str:
    if len(text) < 4 or rng.random() < 0.6:
        return text
    start = rng.randrange(len(text) - 2)
    return text[start : rng.randint(start + 2, len(text))]


def _cased(rng: random.Random, text: str) -> str:
    return rng.choice((str, str.lower, str.upper))(text)


def _needle(rng: random.Random, words: Sequence[str]) -> str:
    count = rng.choice((1, 1, 1, 1, 2))
    return _cased(rng, _part_of(rng, " ".join(rng.choice(words) for _ in range(count))))


def _address_needle(rng: random.Random) -> str:
    user = rng.choice(("ada", "bjorn", "info", "no-reply", "sales", "x.y"))
    whole = f"{user}@{rng.choice(HOSTS)}"
    return rng.choice((whole, rng.choice(HOSTS), user, _needle(rng, NAMES), _part_of(rng, whole), "Friends"))


def random_search(rng: random.Random) -> Search:
    """One key with a text that is likely to be somewhere, or with a date."""
    key = rng.choices(
        ("BODY", "TEXT", "SUBJECT", "ADDRESS", "HEADER", "SENT", "ARRIVED"), (15, 18, 12, 15, 10, 8, 4)
    )[0]
    day = (FIRST_DAY + timedelta(days=rng.randrange(-2, 62))).strftime("%d-%b-%Y")
    match key:
        case "ADDRESS":
            return Search(rng.choice(ADDRESSES), _address_needle(rng))
        case "HEADER":
            field = rng.choice(FIELDS)
            words = ("", "example", "text", "plain", "multipart", "2025", "mixed", *WORDS)
            return Search(f"HEADER {field}", _needle(rng, words))
        case "SENT":
            return Search(rng.choice(("SENTBEFORE", "SENTSINCE", "SENTON")), day)
        case "ARRIVED":
            return Search(rng.choice(("BEFORE", "SINCE", "ON")), day)
        case "TEXT":
            lines = ("Subject: ", "filename", "Content-Type: text/html", "base64", "X-Note: ", *FILES)
            return Search(key, _needle(rng, (*WORDS, *WORDS, *lines, *NAMES, *HOSTS)))
        case "BODY":
            return Search(key, _needle(rng, (*WORDS, *WORDS, *FILES, "Subject", "href", "text/plain")))
        case _:
            return Search(key, _needle(rng, (*WORDS, "team", "Re:", "(fwd)")))


def random_sort(rng: random.Random) -> Sort:
    """One criterion."""
    return Sort(rng.choice(CRITERIA), rng.random() < 0.3)


def answer(session: Asked, command: bytes) -> list[int]:
    """The numbers that SEARCH or SORT tells, in their order. Raises AssertionError when it fails."""
    said = session.ask(command)
    assert b" OK " in said.splitlines()[-1], (command, said)
    found = _NUMBERS.search(said)
    return [int(number) for number in found[1].split()] if found else []


def unlike(search: Search, ours: Sequence[int], theirs: Sequence[int]) -> Iterator[Unlike]:
    """The messages that one of the two finds."""
    for number in sorted(set(ours) ^ set(theirs)):
        yield Unlike(search, number, number in ours)


def misplaced(sort: Sort, ours: Sequence[int], theirs: Sequence[int]) -> Iterator[Misplaced]:
    """Neighbours in our order that the other has the other way round; none when the orders are the same."""
    place = {number: at for at, number in enumerate(theirs)}
    for first, second in pairwise(ours):
        if place[first] > place[second]:
            yield Misplaced(sort, first, second)
