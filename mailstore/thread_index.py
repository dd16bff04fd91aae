"""The threads of a mailbox, brought up to date when messages came or went, not made again. Pure.

Where a message belongs depends on its component alone: on the messages that it is linked to, however
indirectly, and, with REFERENCES, on those whose threads begin with the same subject. So only those components
are threaded again that have lost a message or have a key in common with a new one; all other threads stay as
they are.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Hashable, Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from mailstore.model import ThreadAlgorithm, ThreadRow, Uid
from mailstore.threads import (
    DEFAULT_THREAD_LIMITS,
    Piece,
    ThreadLimits,
    Threads,
    arranged,
    connected,
    keys_of,
    linked,
)
from mailstore.uidset import UidSet

_BITS = 32
_LOW = (1 << _BITS) - 1


@dataclass(frozen=True, slots=True)
class ThreadIndex:
    """Of threads, in their order, what they are sorted by and which component they belong to.

    Sessions share it: nobody may change it.
    """

    algorithm: ThreadAlgorithm
    dates: array[int] = field(repr=False)
    """Epoch seconds."""
    uids: array[int] = field(repr=False)
    """What threads of the same date are sorted by; a message of the thread."""
    components: array[int] = field(repr=False)
    keys: array[int] = field(repr=False)
    """Ascending: 32 bits of a key's hash, then the component that has it. Where two keys have the same hash,
    more is threaded again than has to be."""

    @property
    def numbers(self) -> int:
        """How many of four octets it keeps."""
        return 4 * len(self.dates) + 2 * len(self.keys)

    def to_renew(
        self,
        threads: Threads,
        new: Sequence[ThreadRow],
        gone: AbstractSet[int],
        read: Callable[[UidSet], Sequence[ThreadRow]],
        most: int,
        limits: ThreadLimits = DEFAULT_THREAD_LIMITS,
    ) -> Renewal | None:
        """What has to be threaded again when ``new`` messages come into ``threads``, to which this belongs.

        Some of those that are ``gone`` may never have been there. ``read`` gives the rows of messages by
        ascending UID. None where more than ``most`` messages would have to be threaded.
        """
        starts = threads.starts()
        lost = [place for place, uid in enumerate(threads.uids) if uid in gone] if gone else []
        found = {self.components[bisect_right(starts, place) - 1] for place in lost}
        found |= self._having(key for row in new for key in keys_of(row, self.algorithm))
        places, uids = self._messages(threads, found, gone)
        if len(uids) + len(new) > most:
            return None
        rows = [*read(uids), *new]
        # Threads may begin with other subjects than before. What is gathered with them is linked to nothing
        # that has changed, so it begins with the same subjects as before and leads no further.
        further = self._having(_beginnings(rows, self.algorithm, limits)) - found
        if further:
            more_places, more_uids = self._messages(threads, further, gone)
            if len(more_uids) + len(rows) > most:
                return None
            rows, places = sorted([*rows, *read(more_uids)]), sorted([*places, *more_places])
        messages = threads.messages - len(lost) + len(new)
        return Renewal(Threading(threads, self), found | further, places, rows, messages)

    def _messages(
        self, threads: Threads, components: AbstractSet[int], gone: AbstractSet[int]
    ) -> tuple[list[int], UidSet]:
        """The places of the threads of some components, and those of their messages that are still there."""
        starts = threads.starts()
        places = [place for place, component in enumerate(self.components) if component in components]
        uids = (uid for place in places for uid in threads.uids[starts[place] : starts[place + 1]])
        return places, UidSet.of(uid for uid in uids if uid and uid not in gone)

    def _having(self, keys: Iterable[Hashable]) -> set[int]:
        """Components that have one of the keys, or one that is taken for it."""
        found: set[int] = set()
        for low in {_entry(key, 0) for key in keys}:
            first, stop = bisect_left(self.keys, low), bisect_right(self.keys, low | _LOW)
            found.update(entry & _LOW for entry in self.keys[first:stop])
        return found


@dataclass(frozen=True, slots=True)
class Threading:
    """Threads, and what brings them up to date."""

    threads: Threads
    index: ThreadIndex


@dataclass(frozen=True, slots=True)
class Renewal:
    """What has to be threaded again, and all that is needed for it."""

    known: Threading
    components: AbstractSet[int]
    places: Sequence[int]
    """Of the threads of these components among all, ascending."""
    rows: Sequence[ThreadRow] = field(repr=False)
    """Messages of these components and new ones, by UID."""
    messages: int
    """Messages of the mailbox now."""

    def made(self, limits: ThreadLimits = DEFAULT_THREAD_LIMITS) -> Threading:
        """The threads, brought up to date."""
        old = self.known.index
        new = arrange(self.rows, old.algorithm, limits)
        pieces = _pieces(old, self.places, new.index)

        def exchanged(of_old: array[int], of_new: array[int]) -> array[int]:
            made = array(of_old.typecode)
            for is_old, first, stop in pieces:
                made += (of_old if is_old else of_new)[first:stop]
            return made

        left = [key for key in old.keys if key & _LOW not in self.components]
        index = ThreadIndex(
            old.algorithm,
            exchanged(old.dates, new.index.dates),
            exchanged(old.uids, new.index.uids),
            exchanged(old.components, new.index.components),
            array("Q", sorted([*left, *new.index.keys])),
        )
        return Threading(self.known.threads.exchanged(new.threads, pieces), index)


def _pieces(old: ThreadIndex, left_out: Iterable[int], new: ThreadIndex) -> list[Piece]:
    """All threads in order: the old ones but for some, and the new ones between them."""
    places = range(len(old.dates))
    # What comes before an old thread also comes before it is left out.
    events = [(place, 1, 0) for place in left_out]
    for at, when in enumerate(zip(new.dates, new.uids, strict=True)):
        place = bisect_left(places, when, key=lambda one: (old.dates[one], old.uids[one]))
        events.append((place, 0, at))
    pieces: list[Piece] = []
    first = 0
    for place, is_left_out, at in sorted(events):
        if place > first:
            pieces.append(Piece(True, first, place))
            first = place
        if is_left_out:
            first = place + 1
        elif pieces and not pieces[-1].is_old:
            pieces[-1] = pieces[-1]._replace(stop=at + 1)
        else:
            pieces.append(Piece(False, at, at + 1))
    if first < len(places):
        pieces.append(Piece(True, first, len(places)))
    return pieces


def arrange(
    rows: Sequence[ThreadRow], algorithm: ThreadAlgorithm, limits: ThreadLimits = DEFAULT_THREAD_LIMITS
) -> Threading:
    """The threads of all messages of a mailbox, in order of UID."""
    links = linked(rows, algorithm)
    found = arranged(rows, links.first, algorithm, limits)
    place = {row.uid: at for at, row in enumerate(rows)}
    component = [rows[at].uid for at in links.first]
    begun = [(links.first[place[row.uid]], row.subject) for row in found.beginnings]
    # A number is no subject, and an empty subject gathers nothing.
    gathered = connected((at, subject) if subject else (at,) for at, subject in begun)
    for (at, _), first in zip(begun, gathered.first, strict=True):
        component[at] = rows[begun[first][0]].uid
    keys = [_entry(key, component[links.first[at]]) for key, at in links.owners.items()]
    keys += [_entry(subject, component[at]) for at, subject in begun if subject]
    index = ThreadIndex(
        algorithm,
        array("q", [date for date, _ in found.order]),
        array("I", [uid for _, uid in found.order]),
        array("I", [component[links.first[place[Uid(uid)]]] for _, uid in found.order]),
        array("Q", sorted(keys)),
    )
    return Threading(Threads(found.nodes), index)


def _beginnings(rows: Sequence[ThreadRow], algorithm: ThreadAlgorithm, limits: ThreadLimits) -> set[Hashable]:
    """Keys that lead to whatever is gathered with threads of ``rows``, the messages of some components."""
    if algorithm is not ThreadAlgorithm.REFERENCES:
        return set()
    found = arranged(rows, linked(rows, algorithm).first, algorithm, limits).beginnings
    return {row.subject for row in found if row.subject}


def _entry(key: Hashable, component: int) -> int:
    # Python's hash is another one whenever the server starts: nobody can choose keys that are taken for one.
    return (hash(key) & _LOW) << _BITS | component
