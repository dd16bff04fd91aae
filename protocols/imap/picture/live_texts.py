"""What a search that is kept up to date knows of the texts of messages, which never change. Pure.

Flags come and go, and a message has to be looked at again for them. Whether it holds a text is looked up
once: from then on the text is asked for as the set of messages that hold it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mailstore import search as criteria
from mailstore.uidset import UidSet

REMEMBERED_TEXTS = 2
"""Parts of one search that are remembered. Keys of text that all have to match are one part; what is in
further parts is looked for again with each change."""


@dataclass(frozen=True, slots=True)
class _Read:
    """Criteria with what they consist of: text, and nothing that may change."""

    key: criteria.Key
    has_text: bool
    is_fixed: bool


class LiveTexts:
    """The criteria of one search, and which messages have the texts in them."""

    def __init__(self, key: criteria.Key) -> None:
        self.parts: list[criteria.Key] = []
        """What is remembered: parts that hold text, and nothing that may change."""
        read = self._read(key)
        self._remember(read)
        self._key = read.key
        self._known = [UidSet()] * len(self.parts)
        self._holding = [UidSet()] * len(self.parts)

    def _read(self, key: criteria.Key) -> _Read:
        """The key, where texts that all have to match stand together; remembers the parts in it."""
        match key:
            case criteria.And(keys):
                read = [self._read(one) for one in keys]
                if all(one.is_fixed for one in read):
                    return _Read(key, any(one.has_text for one in read), True)
                texts = [one for one in read if one.has_text and one.is_fixed]
                if len(texts) > 1:
                    joined = _Read(criteria.And(tuple(one.key for one in texts)), True, True)
                    read = [*(one for one in read if not (one.has_text and one.is_fixed)), joined]
                return self._mixed(criteria.And(tuple(one.key for one in read)), *read)
            case criteria.Or(left, right):
                ends = self._read(left), self._read(right)
                if all(one.is_fixed for one in ends):
                    return _Read(key, any(one.has_text for one in ends), True)
                return self._mixed(criteria.Or(ends[0].key, ends[1].key), *ends)
            case criteria.Not(inner):
                one = self._read(inner)
                return _Read(criteria.Not(one.key), one.has_text, one.is_fixed)
            case criteria.Fuzzy(inner):
                return _Read(key, criteria.reads_text(inner), never_changes(inner))
            case _:
                return _Read(key, criteria.reads_text(key), never_changes(key))

    def _mixed(self, key: criteria.Key, *within: _Read) -> _Read:
        for one in within:
            self._remember(one)
        return _Read(key, any(one.has_text for one in within), False)

    def _remember(self, read: _Read) -> None:
        if read.has_text and read.is_fixed and len(self.parts) < REMEMBERED_TEXTS:
            self.parts.append(read.key)

    def found_at_first(self, looked_at: UidSet, found: UidSet) -> None:
        """What the search itself has found among ``looked_at``."""
        if self.parts and self.parts[0] is self._key:
            self.learn(0, looked_at, found)

    def learn(self, part: int, looked_at: UidSet, found: UidSet) -> None:
        """``found`` are those of ``looked_at`` for which the part is true."""
        self._known[part] |= looked_at
        self._holding[part] |= found & looked_at

    def unseen(self, part: int, uids: UidSet) -> UidSet:
        """Those of ``uids`` of which the part is not known."""
        return uids - self._known[part]

    def undecided(self, uids: UidSet) -> UidSet:
        """Those of ``uids`` of which any part is not known."""
        return UidSet.from_ranges(
            pair for part in range(len(self.parts)) for pair in self.unseen(part, uids).ranges
        )

    def possible(self) -> criteria.Key:
        """What everything that matches meets, and reads no more text than has to be."""
        return self._replaced(self._key, lambda _, widest: criteria.All() if widest else _NOTHING)

    def decided(self) -> criteria.Key:
        """The criteria for messages of which all parts are known."""
        return self._replaced(self._key, lambda part, _: criteria.Uids(self._holding[part]))

    def _replaced(
        self, key: criteria.Key, by: Callable[[int, bool], criteria.Key], widest: bool = True
    ) -> criteria.Key:
        """The key with each part replaced; ``widest`` tells whether more matches where the part is true."""
        for number, part in enumerate(self.parts):
            if key is part:
                return by(number, widest)
        match key:
            case criteria.And(keys):
                return criteria.And(tuple(self._replaced(one, by, widest) for one in keys))
            case criteria.Or(left, right):
                return criteria.Or(self._replaced(left, by, widest), self._replaced(right, by, widest))
            case criteria.Not(inner):
                return criteria.Not(self._replaced(inner, by, not widest))
            case _:
                return key


_NOTHING = criteria.Uids(UidSet())


def never_changes(key: criteria.Key) -> bool:
    """Whether a message that matches always will, as long as it is there."""
    match key:
        case (
            criteria.All()
            | criteria.Uids()
            | criteria.DateRange()
            | criteria.Larger()
            | criteria.Smaller()
            | criteria.EmailIdIs()
            | criteria.HeaderText()
            | criteria.BodyText()
            | criteria.AnyText()
        ):
            return True
        case criteria.And(keys):
            return all(map(never_changes, keys))
        case criteria.Or(left, right):
            return never_changes(left) and never_changes(right)
        case criteria.Not(inner) | criteria.Fuzzy(inner):
            return never_changes(inner)
        case _:
            return False
