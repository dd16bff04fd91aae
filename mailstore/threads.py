"""Threads of messages: ORDEREDSUBJECT and REFERENCES (RFC 5256 section 3), and REFS. Pure.

Linear but for sorting, whatever the messages claim to refer to, and without recursion: a chain of any
length is only a long tuple.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from mailstore.model import ThreadAlgorithm, ThreadNode, ThreadRow, Uid

_ROOT = -1


@dataclass(frozen=True, slots=True)
class ThreadLimits:
    """Bounds on building threads."""

    steps_per_message: int = 100
    """Steps up the tree, on average, that looking for loops may take; then links that might close one
    are left out. Mail that people write needs a handful in all."""


DEFAULT_THREAD_LIMITS = ThreadLimits()


class Threads:
    """All nodes, every one before its children, siblings in order; eight octets for each.

    Sessions share it: nobody may change it. ``rendered`` is for what a protocol has made of it to be sent.
    """

    __slots__ = ("_parents", "_uids", "rendered")

    def __init__(self, nodes: Iterable[ThreadNode]) -> None:
        self._uids, self._parents = array("I"), array("i")
        for node in nodes:
            self._uids.append(node.uid or 0)
            self._parents.append(-1 if node.parent is None else node.parent)
        self.rendered: object = None

    def __len__(self) -> int:
        return len(self._uids)

    def __iter__(self) -> Iterator[ThreadNode]:
        for uid, parent in zip(self._uids, self._parents, strict=True):
            yield ThreadNode(Uid(uid) if uid else None, parent if parent >= 0 else None)


def threads(
    rows: Sequence[ThreadRow], algorithm: ThreadAlgorithm, limits: ThreadLimits = DEFAULT_THREAD_LIMITS
) -> tuple[ThreadNode, ...]:
    """The threads of ``rows`` (in order of UID): every node before its children, siblings in order."""
    match algorithm:
        case ThreadAlgorithm.ORDEREDSUBJECT:
            return _ordered_subject(rows)
        case ThreadAlgorithm.REFERENCES:
            forest = _Forest(rows, limits)
            forest.gather_subjects()
            return forest.nodes(forest.date)
        case ThreadAlgorithm.REFS:
            forest = _Forest(rows, limits)
            latest = forest.latest()
            return forest.nodes(lambda root: latest[root])


def _ordered_subject(rows: Sequence[ThreadRow]) -> tuple[ThreadNode, ...]:
    """One thread a subject: the first message, and all others as its children."""
    groups: dict[str, list[ThreadRow]] = {}
    for row in sorted(rows, key=lambda row: (row.sent, row.uid)):
        groups.setdefault(row.subject, []).append(row)
    nodes: list[ThreadNode] = []
    for group in groups.values():
        root = len(nodes)
        nodes.append(ThreadNode(group[0].uid, None))
        nodes.extend(ThreadNode(row.uid, root) for row in group[1:])
    return tuple(nodes)


class _Links:
    """Step 1 of REFERENCES: parents and children by message id. Containers are numbered.

    A container without a row stands for a message that others refer to and that is not there.
    """

    def __init__(self, rows: Sequence[ThreadRow], limits: ThreadLimits) -> None:
        self.rows: list[ThreadRow | None] = []
        self.parents: list[int] = []
        self._children: list[int] = []
        self._by_id: dict[bytes, int] = {}
        self._steps = limits.steps_per_message * len(rows)
        for row in rows:
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
        at = parent
        while at not in (child, _ROOT):
            self._steps -= 1
            if self._steps < 0:
                return True
            at = self.parents[at]
        return at == child


class _Forest:
    """Steps 2 to 6 of REFERENCES. Dummies are roots only, and have two children at least."""

    def __init__(self, rows: Sequence[ThreadRow], limits: ThreadLimits) -> None:
        links = _Links(rows, limits)
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

    def nodes(self, order: Callable[[int], tuple[int, int]]) -> tuple[ThreadNode, ...]:
        """Step 6: everything sorted, roots by ``order``; then from the top down."""
        for siblings in self._children.values():
            siblings.sort(key=self._when)
        out: list[ThreadNode] = []
        waiting: list[tuple[int, int | None]] = [
            (at, None) for at in sorted(self._roots, key=order, reverse=True)
        ]
        while waiting:
            at, parent = waiting.pop()
            row = self._links.rows[at]
            out.append(ThreadNode(None if row is None else row.uid, parent))
            place = len(out) - 1
            waiting.extend((child, place) for child in reversed(self._children.get(at, ())))
        return tuple(out)


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
