"""SEARCH with many keys costs in proportion to them, whatever SQLite does with long statements."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from store_world import World, now

from mailstore import search
from mailstore.mailbox import Mailbox
from mailstore.model import ModSeq, NewMessage, SystemFlag
from mailstore.ops import search as search_ops
from mailstore.ops import search_sql
from mailstore.uidset import UidSet
from tests.growth import LINEAR_AT_MOST, growth


def uids(number: int) -> search.Uids:
    """A set of many ranges, another one for each number."""
    return search.Uids(UidSet.of((*range(2, 40, 2), 100 + 2 * number)))


SHAPES: dict[str, Callable[[int], search.Key]] = {
    "set": uids,
    "equal sets under NOT": lambda _: search.Not(uids(0)),
    "sets under NOT": lambda number: search.Not(uids(number)),
    "sets under OR": lambda number: search.Or(search.Larger(number), uids(number)),
    "sets within NOT": lambda number: search.Not(search.And((search.Larger(number), uids(number)))),
    "small sets under OR": lambda number: search.Or(
        search.Larger(number), search.Uids(UidSet.of([number + 1]))
    ),
}


@pytest.fixture
def mailbox(world: World) -> Mailbox:
    """A mailbox with some messages."""
    account = world.login()
    now(account.append("Drafts", [NewMessage(b"Subject: x\r\n\r\n") for _ in range(40)]))
    found: Mailbox = now(account.select("Drafts", True))
    return found


def growth_of(mailbox: Mailbox, make: Callable[[int], search.Key], size: int) -> float:
    """How the cost of a search grows with its keys, which ``make`` makes by their number."""

    def prepare(count: int) -> Callable[[], object]:
        keys = tuple(map(make, range(count)))
        runs = iter(range(1, 10))

        def work() -> object:
            # The driver keeps prepared statements, so each run needs another one.
            another: search.Key = search.Not(search.All())
            for _ in range(next(runs)):
                another = search.Or(another, search.All())
            return now(mailbox.search(search.And((*keys, another)), ModSeq(0)))

        return work

    return growth(prepare, size)


@pytest.mark.parametrize("name", SHAPES)
def test_many_sets_of_uids_cost_as_much_as_their_ranges(mailbox: Mailbox, name: str) -> None:
    """Written into the statement, hundreds of sets take SQLite more than the square of their number."""
    assert growth_of(mailbox, SHAPES[name], 150) < LINEAR_AT_MOST


def test_many_keys_cost_as_much_as_each_of_them(mailbox: Mailbox) -> None:
    """As many as a command may have, which is more than SQLite takes in a row."""
    seen = search.HasFlag(SystemFlag.SEEN)
    for make in (lambda _: search.Not(seen), lambda number: search.Not(search.HasKeyword(f"k{number}"))):
        assert growth_of(mailbox, make, 490) < LINEAR_AT_MOST


def test_sets_that_are_many_together_are_not_written_into_the_statement(
    mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What counts is the ranges of all sets, those that decide by themselves which rows are read aside."""
    written: list[UidSet] = []
    as_sql = search_sql._uids_sql

    def recorded(found: UidSet) -> search_sql.Sql:
        written.append(found)
        return as_sql(found)

    monkeypatch.setattr(search_sql, "_uids_sql", recorded)
    one = search.Or(search.Larger(10**6), search.Uids(UidSet.of([3])))
    beside = tuple(search.Not(uids(number)) for number in range(50))
    for count in (search_ops.MAX_OR_RANGES, search_ops.MAX_OR_RANGES + 1):
        written.clear()
        key = search.And((*beside, *(one,) * count))
        assert list(now(mailbox.search(key, ModSeq(0))).uids) == [3]
        assert len(written) == (count if count == search_ops.MAX_OR_RANGES else 0)
