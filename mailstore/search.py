"""Search criteria (RFC 3501 section 6.4.4 and extensions) as a tree of values. Pure.

A session replaces what only it knows (sequence numbers, ``\\Recent``) by ``Uids`` before the
criteria reach the store. Dates are days: a date compares with the message's date in UTC, without
time of day. Text is compared in its search form (``mailstore/search_form.py``): without regard to case
and diacritics.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from enum import Enum

from mailstore.model import ModSeq, SystemFlag
from mailstore.search_form import search_form
from mailstore.uidset import SequenceSet, UidSet


@dataclass(frozen=True, slots=True)
class All:
    """Every message."""


@dataclass(frozen=True, slots=True)
class And:
    """Messages that match all keys."""

    keys: tuple[Key, ...]


@dataclass(frozen=True, slots=True)
class Or:
    """Messages that match either key."""

    left: Key
    right: Key


@dataclass(frozen=True, slots=True)
class Not:
    """Messages that do not match."""

    key: Key


@dataclass(frozen=True, slots=True)
class SeqNums:
    """By sequence number, as written; the session replaces it by ``Uids``."""

    numbers: SequenceSet


@dataclass(frozen=True, slots=True)
class UidNumbers:
    """By UID, as written (``*`` unresolved); the session replaces it by ``Uids``."""

    numbers: SequenceSet


@dataclass(frozen=True, slots=True)
class Recent:
    """``\\Recent`` in this session; the session replaces it by ``Uids``."""


@dataclass(frozen=True, slots=True)
class SavedResult:
    """``$`` (RFC 5182); the session replaces it by ``Uids``."""


@dataclass(frozen=True, slots=True)
class Uids:
    """Messages whose UID is in the set."""

    uids: UidSet


@dataclass(frozen=True, slots=True)
class HasFlag:
    """Messages that carry all of these system flags."""

    flag: SystemFlag


@dataclass(frozen=True, slots=True)
class HasKeyword:
    """Messages that carry the keyword, without regard to case."""

    keyword: str


@dataclass(frozen=True, slots=True)
class DateRange:
    """First day included, last day excluded; None leaves that end open.

    ``field`` is ``"internal"`` (BEFORE, ON, SINCE), ``"sent"`` (the Date field: SENTBEFORE ...) or
    ``"saved"`` (RFC 8514).
    """

    field: str
    first: date | None
    before: date | None


@dataclass(frozen=True, slots=True)
class Larger:
    """RFC822.SIZE greater than this many bytes."""

    size_bytes: int


@dataclass(frozen=True, slots=True)
class Smaller:
    """RFC822.SIZE less than this many bytes."""

    size_bytes: int


@dataclass(frozen=True, slots=True)
class WithinSeconds:
    """Internal date within the last ``interval_s`` seconds (YOUNGER, RFC 5032); OLDER is its negation."""

    interval_s: int


@dataclass(frozen=True, slots=True)
class HeaderText:
    """The named header field contains ``text``; empty text matches when the field is there.

    ``name`` is upper-case ASCII. SUBJECT, FROM, TO, CC and BCC are this with that name; in the last four
    addresses are also compared as the envelope has them, without what comments and quotes put in between.
    """

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class BodyText:
    """The body contains ``text``: its text parts, and the header of every part below the message's own."""

    text: str


@dataclass(frozen=True, slots=True)
class AnyText:
    """A field of the message's header (name and value), or the body, contains ``text`` (TEXT)."""

    text: str


@dataclass(frozen=True, slots=True)
class ModSeqAtLeast:
    """The message's modification sequence is this or greater (RFC 7162 section 3.1.5)."""

    modseq: ModSeq


@dataclass(frozen=True, slots=True)
class EmailIdIs:
    """EMAILID equals this object id (RFC 8474)."""

    object_id: str


@dataclass(frozen=True, slots=True)
class ThreadIdIs:
    """THREADID equals this object id (RFC 8474)."""

    object_id: str


@dataclass(frozen=True, slots=True)
class Fuzzy:
    """Messages that match more or less (RFC 6203); the session replaces it by what that means."""

    key: Key


Key = (
    All
    | And
    | Or
    | Not
    | SeqNums
    | UidNumbers
    | Recent
    | SavedResult
    | Uids
    | HasFlag
    | HasKeyword
    | DateRange
    | Larger
    | Smaller
    | WithinSeconds
    | HeaderText
    | BodyText
    | AnyText
    | ModSeqAtLeast
    | EmailIdIs
    | ThreadIdIs
    | Fuzzy
)


def is_everything(key: Key) -> bool:
    """Whether the key is ALL, however it is written."""
    return isinstance(key, All) or (isinstance(key, And) and all(map(is_everything, key.keys)))


def reads_text(key: Key) -> bool:
    """Whether messages have to be read to tell which match, which takes long in a large mailbox."""
    match key:
        case HeaderText() | BodyText() | AnyText():
            return True
        case And(keys):
            return any(map(reads_text, keys))
        case Or(left, right):
            return reads_text(left) or reads_text(right)
        case Not(inner) | Fuzzy(inner):
            return reads_text(inner)
        case _:
            return False


TextKey = HeaderText | BodyText | AnyText
"""The keys that compare text."""


KEPT_FIELDS = ("FROM", "TO", "CC", "BCC", "SUBJECT", "MESSAGE-ID")
"""Header fields whose text an index keeps as it is, because they are searched so often."""


class Place(Enum):
    """Where a text is searched for, unless it is one of ``KEPT_FIELDS``."""

    HEADER = "the header"
    BODY = "what is below the header"


@dataclass(frozen=True, slots=True)
class Needle:
    """A text that is searched for, in its form: in one of ``KEPT_FIELDS``, or in another place."""

    place: Place | str
    form: str


@dataclass(frozen=True, slots=True)
class Holders:
    """The messages that hold a text; all others do not."""

    certain: frozenset[int] = frozenset()
    possible: frozenset[int] = frozenset()
    """Those that may hold it, beside the certain ones."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """What the index says of the messages up to ``up_to``; of later ones it knows nothing."""

    up_to: int
    found: dict[Needle, Holders] = field(default_factory=dict)
    """A text that is missing here may be anywhere."""

    def of(self, key: TextKey) -> Holders | None:
        """The messages up to ``up_to`` that match a key whose text is in its form; None when unknown."""
        certain: frozenset[int] = frozenset()
        possible: frozenset[int] = frozenset()
        for needle in _of_leaf(key, key.text):
            found = self.found.get(needle)
            if found is None:
                return None
            certain |= found.certain
            possible |= found.possible
        return Holders(certain, possible - certain)


def needles(key: Key, most: int) -> list[Needle]:
    """The texts of a search key that are worth looking up in an index, as often as they stand there.

    Where ``most`` is not enough for all, keys that all have to match do with some: the others would only rule
    out further messages. Of keys of which one has to match each needs some, or none is of use.
    """
    found: list[Needle] = []
    match key:
        case HeaderText() | BodyText() | AnyText():
            found = list(_of_leaf(key, search_form(key.text))) if most else []
        case And(keys):
            for one in keys:
                found += needles(one, most - len(found))
        case Or(left, right):
            for one in (left, right):
                some = needles(one, most - len(found))
                if not some and reads_text(one):
                    return []
                found += some
        case Not(inner) | Fuzzy(inner):
            found = needles(inner, most)
    return found if len(found) <= most else []


def _of_leaf(key: TextKey, form: str) -> tuple[Needle, ...]:
    match key:
        case HeaderText():
            return (Needle(key.name if key.name in KEPT_FIELDS else Place.HEADER, form),)
        case BodyText():
            return (Needle(Place.BODY, form),)
        case AnyText():
            return (Needle(Place.HEADER, form), Needle(Place.BODY, form))
