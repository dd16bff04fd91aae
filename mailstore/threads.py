"""Threads of messages: ORDEREDSUBJECT and REFERENCES (RFC 5256 section 3), and REFS. Pure.

Linear but for sorting, whatever the messages claim to refer to, and without recursion: a chain of any
length is only a long tuple.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import NamedTuple

from mailstore.model import ThreadAlgorithm, ThreadNode, ThreadRow, Uid

_ROOT = -1


@dataclass(frozen=True, slots=True)
class ThreadLimits:
    """Bounds on building threads."""

    steps_per_message: int = 100
    """Steps up the tree, on average over a component, that looking for loops may take; then links that might
    close one are left out. Mail that people write needs a handful in all."""


DEFAULT_THREAD_LIMITS = ThreadLimits()


class Piece(NamedTuple):
    """Threads from ``first`` up to ``stop``, which does not belong to them, of the old or of the new ones."""

    is_old: bool
    first: int
    stop: int


class Threads:
    """All nodes, every one before its children, siblings in order; eight octets for each.

    Sessions share it: nobody may change it, but for ``rendered``, which is for what a protocol has made of it
    to be sent, and ``made_from``: what was in ``rendered`` of the threads that these were made from, and how.
    """

    __slots__ = ("made_from", "rendered", "sizes", "uids", "ups")

    def __init__(self, nodes: Iterable[ThreadNode] = ()) -> None:
        self.uids, self.ups, self.sizes = array("I"), array("I"), array("I")
        for place, node in enumerate(nodes):
            self.uids.append(node.uid or 0)
            if node.parent is None:
                self.ups.append(0)
                self.sizes.append(1)
            else:
                self.ups.append(place - node.parent)
                self.sizes[-1] += 1
        self.rendered: object = None
        self.made_from: tuple[object, Sequence[Piece]] = None, ()

    def __len__(self) -> int:
        return len(self.uids)

    def __iter__(self) -> Iterator[ThreadNode]:
        for place, (uid, up) in enumerate(zip(self.uids, self.ups, strict=True)):
            yield ThreadNode(Uid(uid) if uid else None, place - up if up else None)

    @property
    def messages(self) -> int:
        """Nodes that are messages."""
        return len(self.uids) - self.uids.count(0)

    def starts(self) -> list[int]:
        """The place of the first node of each thread, and at last the number of all nodes."""
        return list(accumulate(self.sizes, initial=0))

    def exchanged(self, new: Threads, pieces: Sequence[Piece]) -> Threads:
        """These threads and ``new`` ones, as ``pieces`` says."""
        made = Threads()
        old_starts, new_starts = self.starts(), new.starts()
        for is_old, first, stop in pieces:
            source, starts = (self, old_starts) if is_old else (new, new_starts)
            made.uids += source.uids[starts[first] : starts[stop]]
            made.ups += source.ups[starts[first] : starts[stop]]
            made.sizes += source.sizes[first:stop]
        made.made_from = self.rendered, pieces
        return made


def keys_of(row: ThreadRow, algorithm: ThreadAlgorithm) -> tuple[Hashable, ...]:
    """What links the message to others; what step 5 of REFERENCES gathers by is not among it."""
    if algorithm is ThreadAlgorithm.ORDEREDSUBJECT:
        return (row.subject,)
    return row.references if row.own is None else (row.own, *row.references)


class Connected(NamedTuple):
    """Which items are connected by their keys, however indirectly."""

    first: list[int]
    """For each item the first one that it is connected to, which may be itself."""
    owners: dict[Hashable, int]
    """For each key an item that has it, or is connected to one that has."""


def connected(items: Iterable[Iterable[Hashable]]) -> Connected:
    """Connect items, each of which is a number of keys. Nearly linear."""
    first: list[int] = []
    owners: dict[Hashable, int] = {}
    for at, keys in enumerate(items):
        first.append(at)
        mine = at
        for key in keys:
            other = owners.setdefault(key, mine)
            while first[other] != other:
                first[other] = first[first[other]]
                other = first[other]
            low, high = (mine, other) if mine < other else (other, mine)
            first[high] = mine = low
    for at, other in enumerate(first):
        first[at] = first[other]
    return Connected(first, owners)


def linked(rows: Sequence[ThreadRow], algorithm: ThreadAlgorithm) -> Connected:
    """Which of ``rows``, in order of UID, keys lead to each other.

    How messages are linked (steps 1 to 4 of REFERENCES) depends on those they are connected to alone.
    """
    return connected(keys_of(row, algorithm) for row in rows)


@dataclass(frozen=True, slots=True)
class Arranged:
    """Threads, and what each of them is sorted by: a date (epoch s), then the UID of a message in it."""

    nodes: tuple[ThreadNode, ...]
    order: list[tuple[int, int]]
    beginnings: Sequence[ThreadRow] = ()
    """What step 5 of REFERENCES goes by: the first message of each thread as it was before."""


def threads(
    rows: Sequence[ThreadRow], algorithm: ThreadAlgorithm, limits: ThreadLimits = DEFAULT_THREAD_LIMITS
) -> tuple[ThreadNode, ...]:
    """The threads of ``rows`` (in order of UID): every node before its children, siblings in order."""
    return arranged(rows, linked(rows, algorithm).first, algorithm, limits).nodes


def arranged(
    rows: Sequence[ThreadRow],
    component: Sequence[int],
    algorithm: ThreadAlgorithm,
    limits: ThreadLimits = DEFAULT_THREAD_LIMITS,
) -> Arranged:
    """As ``threads``; ``component`` is what ``linked`` says: for each row the first it is connected to."""
    if algorithm is ThreadAlgorithm.ORDEREDSUBJECT:
        return _ordered_subject(rows)
    forest = _Forest(rows, component, limits)
    if algorithm is ThreadAlgorithm.REFERENCES:
        beginnings = forest.beginnings()
        forest.gather_subjects()
        return replace(forest.arranged(forest.date), beginnings=beginnings)
    latest = forest.latest()
    return forest.arranged(lambda root: latest[root])


def _ordered_subject(rows: Sequence[ThreadRow]) -> Arranged:
    """One thread a subject: the first message, and all others as its children."""
    groups: dict[str, list[ThreadRow]] = {}
    for row in sorted(rows, key=lambda row: (row.sent, row.uid)):
        groups.setdefault(row.subject, []).append(row)
    nodes: list[ThreadNode] = []
    for group in groups.values():
        root = len(nodes)
        nodes.append(ThreadNode(group[0].uid, None))
        nodes.extend(ThreadNode(row.uid, root) for row in group[1:])
    return Arranged(tuple(nodes), [(group[0].sent, group[0].uid) for group in groups.values()])


class _Links:
    """Step 1 of REFERENCES: parents and children by message id. Containers are numbered.

    A container without a row stands for a message that others refer to and that is not there.
    """

    def __init__(self, rows: Sequence[ThreadRow], component: Sequence[int], limits: ThreadLimits) -> None:
        self.rows: list[ThreadRow | None] = []
        self.parents: list[int] = []
        self._children: list[int] = []
        self._by_id: dict[bytes, int] = {}
        # For each component of its own, so that what becomes of it does not depend on the others.
        self._steps = {one: limits.steps_per_message * size for one, size in Counter(component).items()}
        for row, self._component in zip(rows, component, strict=True):
            self._add(row)

    def new(self, row: ThreadRow | None) -> int:
        """A container without a parent."""
        self.rows.append(row)
        self.parents.append(_ROOT)
        self._children.append(0)
        return len(self.rows) - 1

    def _named(self, message_id: bytes) -> int:
        found = self._by_id.get(message_id)
        if found is None:
            found = self._by_id[message_id] = self.new(None)
        return found

    def _add(self, row: ThreadRow) -> None:
        previous = _ROOT
        for reference in row.references:
            at = self._named(reference)
            # Step 1.A: a link that is there already is not changed.
            if previous != _ROOT and self.parents[at] == _ROOT:
                self._link(previous, at)
            previous = at
        at = self._own(row)
        # Step 1.B: the message's own References take precedence.
        if self.parents[at] != _ROOT:
            self._children[self.parents[at]] -= 1
            self.parents[at] = _ROOT
        if previous != _ROOT:
            self._link(previous, at)

    def _own(self, row: ThreadRow) -> int:
        """The container of the message; one whose id is missing or taken gets its own."""
        if row.own is None:
            return self.new(row)
        at = self._named(row.own)
        if self.rows[at] is not None:
            return self.new(row)
        self.rows[at] = row
        return at

    def _link(self, parent: int, child: int) -> None:
        if not self._closes_loop(parent, child):
            self.parents[child] = parent
            self._children[parent] += 1

    def _closes_loop(self, parent: int, child: int) -> bool:
        if not self._children[child]:
            return parent == child
        at, left = parent, self._steps[self._component]
        while at not in (child, _ROOT) and left >= 0:
            left -= 1
            at = self.parents[at]
        self._steps[self._component] = left
        return at == child or left < 0


class _Forest:
    """Steps 2 to 6 of REFERENCES. Dummies are roots only, and have two children at least."""

    def __init__(self, rows: Sequence[ThreadRow], component: Sequence[int], limits: ThreadLimits) -> None:
        links = _Links(rows, component, limits)
        self._links = links
        self._children: dict[int, list[int]] = {}
        self._roots: list[int] = []
        anchors = _Anchors(links)
        real = sorted(
            (at for at, row in enumerate(links.rows) if row is not None), key=lambda at: self._when(at)
        )
        for at in real:
            anchor = anchors.of(at)
            if anchor == _ROOT:
                self._roots.append(at)
            else:
                self._children.setdefault(anchor, []).append(at)
        # Step 3.B: a dummy at the top is kept only when it holds several messages together.
        for dummy in [at for at in self._children if links.rows[at] is None]:
            if len(self._children[dummy]) == 1:
                self._roots += self._children.pop(dummy)
            else:
                self._roots.append(dummy)
        self._roots.sort(key=self.date)

    def _when(self, at: int) -> tuple[int, int]:
        row = self._links.rows[at]
        assert row is not None
        return row.sent, row.uid

    def _first(self, at: int) -> ThreadRow:
        """The message, or the first child of a dummy."""
        row = self._links.rows[at]
        if row is None:
            row = self._links.rows[self._children[at][0]]
        assert row is not None
        return row

    def date(self, at: int) -> tuple[int, int]:
        """What siblings are sorted by: the sent date, then the order of the mailbox (section 2.2)."""
        first = self._first(at)
        return first.sent, first.uid

    def beginnings(self) -> list[ThreadRow]:
        """The first message of each thread."""
        return [self._first(at) for at in self._roots]

    def gather_subjects(self) -> None:
        """Step 5: roots of the same base subject become one thread."""
        table = self._subject_table()
        moved: set[int] = set()
        added: list[int] = []
        for at in self._roots:
            subject = self._first(at).subject
            other = table.get(subject, at)
            if at in moved or other == at:
                continue
            moved.add(at)
            row, other_row = self._links.rows[at], self._links.rows[other]
            if other_row is None:
                self._adopt(other, self._children.pop(at) if row is None else [at])
            elif row is not None and row.is_reply and not other_row.is_reply:
                self._adopt(other, [at])
            else:
                moved.add(other)
                dummy = table[subject] = self._links.new(None)
                added.append(dummy)
                self._adopt(dummy, [at, other])
        self._roots = [at for at in (*self._roots, *added) if at not in moved]

    def _subject_table(self) -> dict[str, int]:
        """Steps 5.A and 5.B: who gathers the others of a subject."""
        table: dict[str, int] = {}
        for at in self._roots:
            first = self._first(at)
            if not first.subject:
                continue
            other = table.setdefault(first.subject, at)
            row, other_row = self._links.rows[at], self._links.rows[other]
            if other_row is not None and (row is None or (other_row.is_reply and not row.is_reply)):
                table[first.subject] = at
        return table

    def _adopt(self, parent: int, children: Iterable[int]) -> None:
        self._children.setdefault(parent, []).extend(children)

    def latest(self) -> dict[int, tuple[int, int]]:
        """For each root the newest message of its thread."""
        found: dict[int, tuple[int, int]] = {}
        for root in self._roots:
            newest = self.date(root)
            waiting = [root]
            while waiting:
                at = waiting.pop()
                if self._links.rows[at] is not None:
                    newest = max(newest, self._when(at))
                waiting.extend(self._children.get(at, ()))
            found[root] = newest
        return found

    def arranged(self, order: Callable[[int], tuple[int, int]]) -> Arranged:
        """Step 6: everything sorted, roots by ``order``; then from the top down."""
        for siblings in self._children.values():
            siblings.sort(key=self._when)
        out: list[ThreadNode] = []
        roots = sorted((order(at), at) for at in self._roots)
        waiting: list[tuple[int, int | None]] = [(at, None) for _, at in reversed(roots)]
        while waiting:
            at, parent = waiting.pop()
            row = self._links.rows[at]
            out.append(ThreadNode(None if row is None else row.uid, parent))
            place = len(out) - 1
            waiting.extend((child, place) for child in reversed(self._children.get(at, ())))
        return Arranged(tuple(out), [when for when, _ in roots])


class _Anchors:
    """Steps 2 and 3: where each message hangs once dummies are spliced out."""

    def __init__(self, links: _Links) -> None:
        self._links = links
        self._known: dict[int, int] = {}

    def of(self, at: int) -> int:
        """The nearest ancestor that is a message, else the topmost dummy, else ``_ROOT``."""
        links, known = self._links, self._known
        passed: list[int] = []
        up = links.parents[at]
        while up != _ROOT and links.rows[up] is None and up not in known and links.parents[up] != _ROOT:
            passed.append(up)
            up = links.parents[up]
        anchor = known.get(up, up)
        for dummy in passed:
            known[dummy] = anchor
        return anchor
