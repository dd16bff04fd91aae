"""THREAD's algorithms (RFC 5256 section 3): known forests, and what holds for any mailbox however hostile."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from mailstore.model import ThreadAlgorithm, ThreadNode, ThreadRow, Uid
from mailstore.threads import ThreadLimits, threads

ORDERED, REFERENCES, REFS = ThreadAlgorithm


def row(
    uid: int, sent: int = 0, subject: str = "", reply: bool = False, own: str = "", refs: str = ""
) -> ThreadRow:
    """A message; ids are single letters."""
    references = tuple(letter.encode() for letter in refs)
    return ThreadRow(Uid(uid), sent or uid, subject, reply, own.encode() or None, references)


def shape(nodes: tuple[ThreadNode, ...]) -> str:
    """The forest written with parentheses, every child list in its own; ``-`` is a dummy."""
    children: dict[int | None, list[int]] = {}
    for at, node in enumerate(nodes):
        children.setdefault(node.parent, []).append(at)
    out: list[str] = []
    waiting: list[int | str] = list(reversed(children.get(None, [])))
    while waiting:
        at = waiting.pop()
        if isinstance(at, str):
            out.append(at)
            continue
        out.append(f"({nodes[at].uid or '-'}")
        waiting += [")", *reversed(children.get(at, []))]
    return "".join(out)


def built(algorithm: ThreadAlgorithm, *rows: ThreadRow) -> str:
    """The shape of the threads of these messages."""
    return shape(threads(rows, algorithm))


def test_ordered_subject_has_no_grandchildren() -> None:
    """The oldest of a subject is the parent of all others; threads go by their first date."""
    mail = [row(1, 50, "b"), row(2, 10, "a"), row(3, 20, "b"), row(4, 60, "a"), row(5, 30, "b")]
    assert built(ORDERED, *mail) == "(2(4))(3(5)(1))"


def test_links_by_references() -> None:
    """Step 1: chains and forks, whatever the order of arrival."""
    mail = [row(1, own="a"), row(2, own="b", refs="a"), row(3, own="c", refs="ab"), row(4, own="d", refs="a")]
    assert built(REFERENCES, *mail) == "(1(2(3))(4))"
    again = [row(1, 4, own="d", refs="a"), row(2, 3, own="c", refs="ab"), row(3, 2, own="b", refs="a")]
    assert built(REFERENCES, *again, row(4, 1, own="a")) == "(4(3(2))(1))"


def test_missing_messages() -> None:
    """Step 3: dummies vanish inside, promote a single child, and hold several together at the top."""
    assert built(REFERENCES, row(1, own="c", refs="ab")) == "(1)"
    assert built(REFERENCES, row(1, own="c", refs="ab"), row(2, own="d", refs="ab")) == "(-(1)(2))"
    assert built(REFERENCES, row(1, own="a"), row(2, refs="ab"), row(3, refs="ab")) == "(1(2)(3))"


def test_truncated_references_are_corrected() -> None:
    """Step 1.B: a message's own last reference replaces what another one guessed."""
    mail = [
        row(1, own="a"),
        row(2, own="d", refs="ac"),
        row(3, own="b", refs="a"),
        row(4, own="c", refs="ab"),
    ]
    assert built(REFERENCES, *mail) == "(1(3(4(2))))"


def test_duplicate_and_missing_ids() -> None:
    """A message id that is taken or missing links nothing to its message."""
    mail = [row(1, own="a"), row(2, own="a"), row(3), row(4, refs="a")]
    assert built(REFERENCES, *mail) == "(1(4))(2)(3)"


def test_loops_are_not_closed() -> None:
    """Messages that claim to answer each other, or themselves, are threads all the same."""
    assert built(REFERENCES, row(1, own="a", refs="b"), row(2, own="b", refs="a")) == "(2(1))"
    assert built(REFERENCES, row(1, own="a", refs="a")) == "(1)"
    assert built(REFERENCES, row(1, own="a", refs="aba"), row(2, own="b", refs="ab")) == "(1)(2)"


def test_subjects_are_gathered() -> None:
    """Step 5: replies go below the original, equals below a dummy; no subject gathers nothing."""
    assert built(REFERENCES, row(1, subject="s"), row(2, subject="s", reply=True)) == "(1(2))"
    assert built(REFERENCES, row(1, subject="s", reply=True), row(2, subject="s")) == "(2(1))"
    assert built(REFERENCES, row(1, subject="s"), row(2, subject="s"), row(3, subject="s")) == "(-(1)(2)(3))"
    replies = [row(1, subject="s", reply=True), row(2, subject="s", reply=True)]
    assert built(REFERENCES, *replies) == "(-(1)(2))"
    assert built(REFERENCES, row(1), row(2)) == "(1)(2)"
    held = [row(1, own="c", refs="x", subject="s"), row(2, own="d", refs="x", subject="s")]
    assert built(REFERENCES, *held, row(3, subject="s")) == "(-(1)(2)(3))"
    more = [row(3, own="e", refs="y", subject="s"), row(4, own="f", refs="y", subject="s")]
    assert built(REFERENCES, *held, *more) == "(-(1)(2)(3)(4))"


def test_refs_goes_by_the_newest_message_and_ignores_subjects() -> None:
    """REFS: no gathering; a thread that lives on comes last."""
    mail = [row(1, own="a", subject="s"), row(2, subject="s"), row(3, refs="a", subject="s")]
    assert built(REFS, *mail) == "(2)(1(3))"
    assert built(REFS, row(1, sent=-5), row(2, sent=-9)) == "(2)(1)"


IDS = st.sampled_from("abcdefgh")
ROWS = st.lists(
    st.tuples(
        st.integers(1, 9),
        st.sampled_from(["", "s", "t"]),
        st.booleans(),
        IDS,
        st.text("abcdefgh", max_size=6),
    ),
    max_size=14,
).map(lambda many: tuple(row(uid, *rest) for uid, rest in enumerate(many, 1)))


@given(rows=ROWS, algorithm=st.sampled_from(ThreadAlgorithm), steps=st.sampled_from([0, 1, 100]))
def test_every_message_once(rows: tuple[ThreadRow, ...], algorithm: ThreadAlgorithm, steps: int) -> None:
    """Each message is in one place, parents come first, siblings are in order, dummies hold two or more."""
    nodes = threads(rows, algorithm, ThreadLimits(steps))
    assert sorted(node.uid for node in nodes if node.uid) == [one.uid for one in rows]
    assert nodes == threads(rows, algorithm, ThreadLimits(steps))
    when = {one.uid: (one.sent, one.uid) for one in rows}
    below: dict[int, list[tuple[int, int]]] = {}
    for at, node in enumerate(nodes):
        if node.parent is not None:
            assert node.parent < at and node.uid is not None
            below.setdefault(node.parent, []).append(when[node.uid])
    assert all(many == sorted(many) for many in below.values())
    assert all(len(below[at]) >= 2 for at, node in enumerate(nodes) if node.uid is None)


def chain(count: int) -> list[ThreadRow]:
    """Each message answers the one before."""
    return [
        ThreadRow(Uid(n), n, "s", True, b"%d" % n, (b"%d" % (n - 1),) if n > 1 else ())
        for n in range(1, count + 1)
    ]


def test_long_chains_in_any_order() -> None:
    """Ten thousand messages deep, in order, backwards and shuffled: one thread, no recursion."""
    mail = chain(10_000)
    shuffled = list(mail)
    random.Random(1).shuffle(shuffled)
    for rows in (mail, mail[::-1], shuffled):
        nodes = threads(rows, REFERENCES)
        assert [node.uid for node in nodes] == list(range(1, 10_001))
        assert [node.parent for node in nodes] == [None, *range(9_999)]


def test_hostile_trees_are_cut_short() -> None:
    """Subtrees hung below a long chain again and again do not cost a walk up the chain each."""
    deep = chain(5_000)
    for n in range(5_000):
        deep.append(ThreadRow(Uid(6_000 + 2 * n), n, "", False, b"x%d" % n, (b"y%d" % n,)))
        deep.append(ThreadRow(Uid(6_001 + 2 * n), n, "", False, b"y%d" % n, (b"5000",)))
    nodes = threads(deep, REFERENCES)
    assert len([node for node in nodes if node.uid]) == len(deep)


def parents(rows: list[ThreadRow]) -> dict[Uid | None, Uid | None]:
    """Whom each message answers, where looking for loops is soon given up."""
    nodes = threads(rows, REFS, ThreadLimits(1))
    return {node.uid: None if node.parent is None else nodes[node.parent].uid for node in nodes if node.uid}


def test_steps_are_counted_for_each_component() -> None:
    """What others claim to refer to changes nothing for messages that are linked to none of theirs."""
    chance = random.Random(5)
    for _ in range(300):
        ours, theirs = [
            {
                uid: row(uid, own=chance.choice(letters), refs="".join(chance.choices(letters, k=3)))
                for uid in range(first, 21, 2)
            }
            for first, letters in ((1, "abcd"), (2, "wxyz"))
        ]
        both = [one for _, one in sorted((ours | theirs).items())]
        assert parents(both) == parents(list(ours.values())) | parents(list(theirs.values()))
