"""What two servers' ENVELOPE and BODYSTRUCTURE of one message differ in, by kind. Pure.

Compared are values, whether they were sent as atom, quoted string or literal, and without regard to case
where RFC 2045 gives it no meaning.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tests.transcripts.meaning import Tree

_ENVELOPE = ("date", "subject", "from", "sender", "reply-to", "to", "cc", "bcc", "in-reply-to", "message-id")
_PART = ("type", "subtype", "params", "id", "description", "encoding", "size")
_EXTENSION = ("md5", "disposition", "language", "location")
_MULTIPART = ("subtype", "params", "disposition", "language", "location")


@dataclass(frozen=True, slots=True)
class Unlike:
    """One value that differs: what it is, what our server says and what the other."""

    what: str
    ours: Tree
    theirs: Tree


def unlike_envelopes(ours: Tree, theirs: Tree) -> Iterator[Unlike]:
    """The fields that differ."""
    if not (isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs) == 10):
        yield Unlike("envelope", ours, theirs)
        return
    for name, one, other in zip(_ENVELOPE, ours, theirs, strict=True):
        if one != other:
            yield Unlike(name, one, other)


def unlike_structures(ours: Tree, theirs: Tree) -> Iterator[Unlike]:
    """What differs anywhere in the tree of parts."""
    waiting = [(ours, theirs)]
    while waiting:
        one, other = waiting.pop()
        if not isinstance(one, list) or not isinstance(other, list):
            yield Unlike("structure", one, other)
        elif bool(_parts(one)) != bool(_parts(other)) or len(_parts(one)) != len(_parts(other)):
            yield Unlike("parts", one, other)
        elif _parts(one):
            waiting += zip(_parts(one), _parts(other), strict=True)
            yield from _values(_MULTIPART, one[len(_parts(one)) :], other[len(_parts(other)) :])
        elif _low(one[:2]) != _low(other[:2]):
            yield Unlike("type", one[:2], other[:2])
        else:
            yield from _values(_PART, one[:7], other[:7])
            yield from _of_one_part(one, other)
            if _is_message(one) and _is_message(other):
                waiting.append((one[8], other[8]))


def _of_one_part(ours: list[Tree], theirs: list[Tree]) -> Iterator[Unlike]:
    """Behind the size: what its type adds, and the extension data."""
    if len(ours) != len(theirs):
        yield Unlike("length", ours, theirs)
        return
    at = 7
    if _is_message(ours):
        yield from unlike_envelopes(ours[7], theirs[7])
        yield from _values(("lines",), ours[9:10], theirs[9:10])
        at = 10
    elif _low(ours[0]) == "text":
        yield from _values(("lines",), ours[7:8], theirs[7:8])
        at = 8
    yield from _values(_EXTENSION, ours[at:], theirs[at:])


def _values(names: tuple[str, ...], ours: list[Tree], theirs: list[Tree]) -> Iterator[Unlike]:
    if len(ours) != len(theirs):
        yield Unlike("length", ours, theirs)
        return
    for name, one, other in zip(names, ours, theirs, strict=False):
        if _low(one) != _low(other):
            yield Unlike(name, one, other)


def _parts(tree: list[Tree]) -> list[Tree]:
    """The parts of a multipart: the lists it begins with."""
    count = 0
    while count < len(tree) and isinstance(tree[count], list):
        count += 1
    return tree[:count]


def _is_message(part: list[Tree]) -> bool:
    return len(part) > 11 and _low(part[0]) == "message"


def _low(tree: Tree) -> Tree:
    return tree.lower() if isinstance(tree, str) else [_low(one) for one in tree]
