"""Threads that are brought up to date are those that would be made anew, whatever comes and goes."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from functools import partial

from hypothesis import given, settings
from hypothesis import strategies as st

from mailstore.model import ThreadAlgorithm, ThreadRow, Uid
from mailstore.thread_index import Threading, arrange
from mailstore.threads import ThreadLimits, connected
from mailstore.uidset import UidSet
from tests.growth import lines_run

REFERENCES = ThreadAlgorithm.REFERENCES
IDS = "abcdefghij"
MESSAGES = st.tuples(
    st.integers(1, 6),
    st.sampled_from(["", "", "s", "t", "u"]),
    st.booleans(),
    st.sampled_from(["", *IDS]),
    st.text(IDS, max_size=5),
)
"""Sent, base subject, whether it is a reply, its id, its references: missing, taken twice, in loops."""
STEPS = st.lists(
    st.tuples(st.lists(MESSAGES, max_size=4), st.sets(st.integers(1, 30), max_size=3)), min_size=2, max_size=8
)
"""What comes and what goes, again and again."""


def rows_of(messages: Sequence[tuple[int, str, bool, str, str]], first: int) -> list[ThreadRow]:
    """Messages with UIDs from ``first`` on."""
    return [
        ThreadRow(Uid(uid), sent, subject, reply, own.encode() or None, tuple(one.encode() for one in refs))
        for uid, (sent, subject, reply, own, refs) in enumerate(messages, first)
    ]


class Box:
    """A mailbox whose threads are brought up to date; it counts the rows that are read for that."""

    def __init__(self, rows: Sequence[ThreadRow], algorithm: ThreadAlgorithm, limits: ThreadLimits) -> None:
        self.algorithm, self.limits = algorithm, limits
        self.rows = {row.uid: row for row in rows}
        self.now: Threading = arrange(rows, algorithm, limits)
        self.read = 0

    def _rows(self, uids: UidSet) -> list[ThreadRow]:
        self.read += len(uids)
        return [self.rows[Uid(uid)] for uid in uids]

    def change(self, new: Sequence[ThreadRow], gone: set[int]) -> None:
        """Messages come, and some that may be there go."""
        for uid in gone:
            self.rows.pop(Uid(uid), None)
        threads, index, most = self.now.threads, self.now.index, 10**6
        renewal = index.to_renew(threads, new, gone, self._rows, most, self.limits)
        assert renewal is not None
        self.rows |= {row.uid: row for row in new}
        assert renewal.messages == len(self.rows)
        self.now = renewal.made(self.limits)

    def anew(self) -> Threading:
        """What it must be."""
        return arrange(list(self.rows.values()), self.algorithm, self.limits)


def parts(threading: Threading) -> Iterator[object]:
    """All that the next change will go by, but for the names of components."""
    threads, index = threading.threads, threading.index
    yield from (list(threads), list(threads.sizes), list(index.dates), list(index.uids))
    yield [entry >> 32 for entry in index.keys]
    names: dict[int, int] = {}
    yield [names.setdefault(one, place) for place, one in enumerate(index.components)]


@settings(max_examples=300)
@given(steps=STEPS, algorithm=st.sampled_from(ThreadAlgorithm), allowed=st.sampled_from([0, 1, 2, 100]))
def test_threads_brought_up_to_date_are_those_made_anew(
    steps: list[tuple[list[tuple[int, str, bool, str, str]], set[int]]],
    algorithm: ThreadAlgorithm,
    allowed: int,
) -> None:
    """Also where looking for loops is given up, and whatever was changed in between."""
    box = Box([], algorithm, ThreadLimits(allowed))
    uid_next = 1
    for come, gone in steps:
        new = rows_of(come, uid_next)
        uid_next += len(come)
        before = list(parts(box.now))
        was = box.now
        box.change(new, gone - {row.uid for row in new})
        assert list(parts(box.now)) == list(parts(box.anew()))
        assert list(parts(was)) == before


def test_finding_what_belongs_together_is_linear() -> None:
    """Chains in order, backwards and shuffled, and everything that names everything."""

    def chain(count: int) -> list[tuple[int, int]]:
        return [(number, number + 1) for number in range(count)]

    def shuffled(count: int) -> list[tuple[int, int]]:
        return random.Random(1).sample(chain(count), count)

    def halves(count: int) -> list[tuple[int, int]]:
        """Pairs, pairs of pairs, and so on, always by their last ones."""
        steps = [1 << step for step in range(count.bit_length())]
        return [(at - 1, at + step - 1) for step in steps for at in range(step, count, 2 * step)]

    def star(count: int) -> list[tuple[int, int]]:
        return [(0, number) for number in range(count)]

    def late(count: int) -> list[tuple[int, int]]:
        """Each is alone until all are joined from the last to the first, and then the last is named again."""
        third = count // 3
        joined = [(number, number - 1) for number in range(third - 1, 0, -1)]
        return [(number, number) for number in range(third)] + joined + [(third - 1, third - 1)] * third

    for claimed in (chain, shuffled, halves, star, late, lambda count: chain(count)[::-1]):
        few, many = claimed(2048), claimed(8192)
        assert set(connected(many).first) == {0}
        assert lines_run(partial(connected, many)) < 6 * lines_run(partial(connected, few))
