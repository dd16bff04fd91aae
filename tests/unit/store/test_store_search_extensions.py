"""What SORT and THREAD ask of the real store beyond plain criteria."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from store_world import World, now

from mailstore import search
from mailstore.model import ModSeq, NewMessage, SortBy, SortKey, ThreadAlgorithm, ThreadNode, Uid
from mailstore.ops.search import MAX_OR_RANGES
from mailstore.uidset import MAX_NUMBER, UidSet

START = ModSeq(0)


def test_sort_by_relevancy(world: World) -> None:
    """The sets of better messages come first, in their order; REVERSE turns that round."""
    account = world.login()
    now(account.append("Drafts", [NewMessage(b"Subject: x\r\n\r\n", internal_date=n) for n in range(5)]))
    mailbox = now(account.select("Drafts", True))
    ranked = (UidSet.of([4]), UidSet.of([2, 3, 4]))

    def order(*by: SortBy) -> list[int]:
        return list(now(mailbox.sort(search.All(), by, START)).uids)

    assert order(SortBy(SortKey.RELEVANCY, ranked=ranked)) == [4, 2, 3, 1, 5]
    last = SortBy(SortKey.ARRIVAL, reverse=True)
    assert order(SortBy(SortKey.RELEVANCY, reverse=True, ranked=ranked), last) == [5, 1, 3, 2, 4]
    assert order(SortBy(SortKey.RELEVANCY), SortBy(SortKey.ARRIVAL)) == [1, 2, 3, 4, 5]


def test_a_criterion_that_is_repeated_costs_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first one decides, also where a later one is reversed; sets of better messages are read once."""
    account = world.login()
    now(account.append("Drafts", [NewMessage(b"Subject: x\r\n\r\n", internal_date=n) for n in range(5)]))
    mailbox = now(account.select("Drafts", True))
    better = UidSet.of([2, 4])
    by = [SortBy(SortKey.RELEVANCY, ranked=(better,)), SortBy(SortKey.ARRIVAL, reverse=True)]
    by += [SortBy(SortKey.RELEVANCY, reverse=True, ranked=(better,)), SortBy(SortKey.ARRIVAL)] * 300
    read: list[UidSet] = []
    members = UidSet.__iter__

    def counted(uids: UidSet) -> Iterator[int]:
        read.append(uids)
        return members(uids)

    with monkeypatch.context() as patched:
        patched.setattr(UidSet, "__iter__", counted)
        assert list(now(mailbox.sort(search.All(), tuple(by), START)).uids) == [4, 2, 5, 3, 1]
    assert read.count(better) == 1


def test_sets_of_uids_are_not_taken_apart(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A set is asked by its ranges wherever it stands: a thousand of them cost no memory of their members."""
    account = world.login()
    now(account.append("Drafts", [NewMessage(b"Subject: x\r\n\r\n") for _ in range(60)]))
    mailbox = now(account.select("Drafts", True))
    odd = search.Uids(UidSet((*((uid, uid) for uid in range(1, 44, 2)), (45, MAX_NUMBER))))
    assert len(odd.uids.ranges) > MAX_OR_RANGES
    few = search.Uids(UidSet(((2, 50),)))

    def members(_: UidSet) -> Iterator[int]:
        raise AssertionError("the members of a set are looked at")

    with monkeypatch.context() as patched:
        patched.setattr(UidSet, "__iter__", members)

        def find(key: search.Key) -> list[int]:
            return list(now(mailbox.search(key, START)).uids)

        high = list(range(45, 61))
        assert find(odd) == [*range(1, 44, 2), *high]
        assert find(search.And((odd, few, odd))) == [*range(3, 44, 2), *range(45, 51)]
        assert find(search.Not(odd)) == list(range(2, 45, 2))
        assert find(search.Or(search.Not(few), search.Not(odd))) == [1, *range(2, 45, 2), *range(51, 61)]
        assert find(search.And((search.Not(odd), search.BodyText("nowhere")))) == []
        assert find(search.Or(search.Not(odd), search.HeaderText("SUBJECT", "y"))) == list(range(2, 45, 2))


def test_what_reads_text() -> None:
    """Only criteria that need message text count as slow, however deep they lie."""
    assert not search.reads_text(search.And((search.All(), search.Not(search.Larger(5)))))
    for key in (search.HeaderText("SUBJECT", "a"), search.BodyText("a"), search.AnyText("a")):
        assert search.reads_text(search.Or(search.All(), search.Not(search.And((search.All(), key)))))


def test_threads(world: World) -> None:
    """Threads are found among the messages that match, by message ids as they stand in the header."""
    account = world.login()
    first = b"Message-ID: <1@x>\r\nSubject: a\r\n\r\n"
    reply = b"Message-ID: <2@x>\r\nIn-Reply-To: <1@x>\r\nSubject: b\r\n\r\n"
    now(account.append("Drafts", [NewMessage(data) for data in (first, reply, b"Subject: c\r\n\r\n")]))
    mailbox = now(account.select("Drafts", True))
    nodes, delta = now(mailbox.threads(search.All(), ThreadAlgorithm.REFERENCES, START))
    assert tuple(nodes) == (ThreadNode(Uid(1), None), ThreadNode(Uid(2), 0), ThreadNode(Uid(3), None))
    assert [one.uid for one in delta.changed] == [1, 2, 3]
    none, _ = now(mailbox.threads(search.Not(search.All()), ThreadAlgorithm.REFS, START))
    assert tuple(none) == ()
