"""What SEARCH finds has to be what a client's picture says (RFC 9051 section 6.4.4)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from picture import Seen

_ESEARCH = re.compile(rb'\* ESEARCH \(TAG "([^"]+)"\)( UID)?(?: ALL (\S+))?\Z')
_SEARCH = re.compile(rb"\* SEARCH((?: \d+)*)\Z")

KEYS: dict[bytes, Callable[[frozenset[bytes]], bool]] = {
    b"ALL": lambda flags: True,
    b"SEEN": lambda flags: b"\\Seen" in flags,
    b"UNSEEN": lambda flags: b"\\Seen" not in flags,
    b"FLAGGED": lambda flags: b"\\Flagged" in flags,
    b"NOT ANSWERED": lambda flags: b"\\Answered" not in flags,
    b"KEYWORD $A": lambda flags: b"$A" in flags,
    b"UNKEYWORD $B": lambda flags: b"$B" not in flags,
    b"OR KEYWORD $B SEEN": lambda flags: bool({b"$B", b"\\Seen"} & flags),
}
"""Search keys whose outcome a client knows from flags alone."""


def numbers(number_set: bytes) -> Iterator[int]:
    """The members of a set such as ``1:3,7``."""
    for part in number_set.split(b",") if number_set else ():
        first, _, last = part.partition(b":")
        yield from range(int(first), int(last or first) + 1)


def result_of(response: bytes, extended: bool, tag: bytes, by_uid: bool) -> set[int] | None:
    """What a SEARCH or ESEARCH response holds, None for other responses.

    ``extended`` tells which of the two is right, ``tag`` and ``by_uid`` what ESEARCH has to say.
    """
    if response.startswith(b"* ESEARCH"):
        found = _ESEARCH.match(response)
        assert found is not None and extended, "ESEARCH only where it is asked for, and well formed"
        assert found[1] == tag and bool(found[2]) is by_uid, "ESEARCH belongs to its command"
        return set(numbers(found[3] or b""))
    if response.startswith(b"* SEARCH"):
        plain = _SEARCH.match(response)
        assert plain is not None and not extended, "SEARCH only where ESEARCH is not asked for"
        return {int(one) for one in plain[1].split()}
    return None


def compare(messages: list[Seen], found: set[int], by_uid: bool, key: bytes) -> list[Seen]:
    """Compare a result with the picture at that moment; gives messages that have to be gone by now.

    Whatever was found has to match. What matches by the picture and was not found can only have been
    expunged, which may not be told yet.
    """
    matches = KEYS[key]
    missing: list[Seen] = []
    named: set[int] = set()
    for number, one in enumerate(messages, 1):
        name = one.uid if by_uid else number
        if name is None:
            continue
        named.add(name)
        if one.flags is not None:
            assert name not in found or matches(one.flags), "found what the picture says does not match"
            if name not in found and matches(one.flags):
                missing.append(one)
    if not by_uid or all(one.uid is not None for one in messages):
        assert found <= named, "found a message that the client has not been told of"
    return missing
