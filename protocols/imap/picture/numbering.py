"""What only the session can say of search criteria: numbers, ``$`` and ``\\Recent``, as UIDs. Pure."""

from __future__ import annotations

from typing import Protocol, assert_never

from mailstore import search as criteria
from mailstore.uidset import SequenceSet, UidSet
from protocols.imap.picture.fuzzy import Degree, relaxed


class Numbering(Protocol):
    """What criteria can name besides messages as such; the view of the selected mailbox has it all."""

    @property
    def largest_uid(self) -> int:
        """What ``*`` means."""

    @property
    def recent(self) -> UidSet:
        """Messages that are ``\\Recent`` in this session."""

    @property
    def saved(self) -> UidSet:
        """``$``. Raises Malformed where there is none."""

    def numbered(self, numbers: SequenceSet) -> UidSet:
        """The UIDs of sequence numbers. Raises Malformed where there are none."""


def resolve(key: criteria.Key, view: Numbering, degree: Degree = Degree.WORD_BEGINNINGS) -> criteria.Key:
    """Replace what only the session knows by UIDs, and FUZZY by what it means to the given degree.

    The tree's depth is bounded by the grammar.

    Raises:
        Malformed: sequence numbers or ``$`` where there are none.
    """
    match key:
        case criteria.And(keys):
            return criteria.And(tuple(resolve(part, view, degree) for part in keys))
        case criteria.Or(left, right):
            return criteria.Or(resolve(left, view, degree), resolve(right, view, degree))
        case criteria.Not(inner):
            return criteria.Not(resolve(inner, view, degree))
        case criteria.Fuzzy(inner):
            return resolve(relaxed(inner, degree), view, degree)
        case criteria.SeqNums(numbers):
            return criteria.Uids(view.numbered(numbers))
        case criteria.UidNumbers(numbers):
            return criteria.Uids(numbers.resolve(view.largest_uid))
        case criteria.Recent():
            return criteria.Uids(view.recent)
        case criteria.SavedResult():
            return criteria.Uids(view.saved)
        case (
            criteria.All()
            | criteria.Uids()
            | criteria.HasFlag()
            | criteria.HasKeyword()
            | criteria.DateRange()
            | criteria.Larger()
            | criteria.Smaller()
            | criteria.WithinSeconds()
            | criteria.HeaderText()
            | criteria.BodyText()
            | criteria.AnyText()
            | criteria.ModSeqAtLeast()
            | criteria.EmailIdIs()
            | criteria.ThreadIdIs()
        ):
            return key
        case _:
            assert_never(key)
