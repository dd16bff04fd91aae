"""What FUZZY finds, and how well (RFC 6203). Pure.

A fuzzy text matches when all of its words occur in the same place, in any order, and longer words
may end differently. Messages that match as written are the most relevant, then those that hold
every word whole.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum

from mailstore import search as criteria
from mailstore.uidset import UidSet


class Degree(Enum):
    """How literally FUZZY is taken."""

    AS_WRITTEN = 100
    WHOLE_WORDS = 70
    WORD_BEGINNINGS = 40


BETTER = (Degree.AS_WRITTEN, Degree.WHOLE_WORDS)
"""What tells the more relevant messages from those that match at all, the best first."""

_UNCUT_CHARS = 5
"""Words up to this length are not cut: what is left would be in every message."""
_WORDS_MAX = 20
"""Words of one text that are looked for one by one; a longer text is looked for as written."""


def relaxed(key: criteria.Key, degree: Degree) -> criteria.Key:
    """What to search for instead of ``key``, the argument of FUZZY; its depth is bounded by the grammar."""
    match key:
        case criteria.And(keys):
            return criteria.And(tuple(relaxed(part, degree) for part in keys))
        case criteria.Or(left, right):
            return criteria.Or(relaxed(left, degree), relaxed(right, degree))
        case criteria.Not(inner) | criteria.Fuzzy(inner):
            again = relaxed(inner, degree)
            return criteria.Not(again) if isinstance(key, criteria.Not) else again
        case criteria.HeaderText(name, text):
            return criteria.And(tuple(criteria.HeaderText(name, piece) for piece in _pieces(text, degree)))
        case criteria.BodyText(text):
            return criteria.And(tuple(criteria.BodyText(piece) for piece in _pieces(text, degree)))
        case criteria.AnyText(text):
            return criteria.And(tuple(criteria.AnyText(piece) for piece in _pieces(text, degree)))
        case _:
            return key


def among(uids: UidSet, key: criteria.Key) -> criteria.Key:
    """The key, asked of these messages only."""
    return criteria.And((criteria.Uids(uids), key))


def _pieces(text: str, degree: Degree) -> tuple[str, ...]:
    words = text.split()
    if degree is Degree.AS_WRITTEN or not words or len(words) > _WORDS_MAX:
        return (text,)
    if degree is Degree.WORD_BEGINNINGS:
        words = [word[: max(_UNCUT_CHARS, len(word) - 3)] for word in words]
    return tuple(dict.fromkeys(words))


def scores(uids: Iterable[int], better: tuple[UidSet, ...]) -> list[int]:
    """The relevancy of each message, 1 to 100 (section 4); ``better`` as ``BETTER`` has it."""
    return [
        next(
            (degree.value for degree, found in zip(BETTER, better, strict=True) if uid in found),
            Degree.WORD_BEGINNINGS.value,
        )
        for uid in uids
    ]
