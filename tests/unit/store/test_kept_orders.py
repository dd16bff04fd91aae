"""The orders of SORT that are kept: new messages are put into their places, and nothing is read again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailstore import search
from mailstore.mailbox import Mailbox
from mailstore.model import (
    Flags,
    ModSeq,
    NewMessage,
    SortBy,
    SortKey,
)
from mailstore.ops import sorting
from mailstore.store import Account
from mailstore.uidset import UidSet
from protocols.imap.picture.view import View, Wording
from tests.unit.store.kept_world import MAIL, MAILS, ORDERS, filled
from tests.unit.store.store_world import World, now
from tests.unit.store.vm_steps import steps

CHANGES = st.one_of(st.lists(MAILS, min_size=1, max_size=3), st.sets(st.integers(1, 12), max_size=3))


@given(order=ORDERS, changes=st.lists(CHANGES, min_size=2, max_size=6), selects=st.booleans())
def test_what_is_kept_in_order_stays_in_order(
    emptied: tuple[Account, Mailbox],
    order: list[SortBy],
    changes: list[list[NewMessage] | set[int]],
    selects: bool,
) -> None:
    """What came is put in its place, what went is left out, and what was kept stays as it was."""
    account, mailbox = emptied
    kept, place = account._opened.kept, (mailbox.opened.mailbox_id, sorting.distinct(order))
    now(mailbox.remove(UidSet(((1, 10**6),))))
    kept.clear()
    selected = now(account.select("Drafts", True)).opened
    base = selected.status.uid_next - 1
    for change in changes:
        if isinstance(change, list):
            now(account.append("Drafts", change))
        else:
            now(mailbox.remove(UidSet.of(base + uid for uid in change)))
        before = kept.get(place)
        listed = [] if before is None else list(before.uids)
        asked = (mailbox.opened.mailbox_id, search.All(), order, ModSeq(0), lambda _key: None, None)
        expected, _ = now(account._opened.read(sorting.sort, *asked))
        found = now(mailbox.sort(search.All(), order, ModSeq(0)))
        assert (found.uids, found.highest_modseq) == (expected.uids, expected.highest_modseq)
        if selects:
            selected = now(account.select("Drafts", True)).opened
        again = now(mailbox.sort(search.All(), order, ModSeq(0)))
        assert again.places is not None or not selects
        if again.places is not None:
            assert again.places.among is selected.uids
            assert tuple(selected.uids[number - 1] for number in again.places.numbers) == found.uids
        assert before is None or list(before.uids) == listed


@pytest.fixture(scope="module")
def emptied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Account, Mailbox]]:
    """A session with a mailbox that may be emptied."""
    world = World(tmp_path_factory.mktemp("emptied") / "root")
    account = world.login()
    yield account, now(account.select("Drafts", False))
    world.close()


def test_places_are_numbers_only_for_sessions_that_began_with_them(world: World) -> None:
    """An earlier session still counts what is gone, and a later one may have been told of something."""
    account = filled(world, 3)
    earlier, order = now(account.select("INBOX", False)), [SortBy(SortKey.DATE)]
    since = earlier.opened.status.highest_modseq
    now(earlier.remove(UidSet.of([1])))
    later = now(account.select("INBOX", False))
    places = now(earlier.sort(search.All(), order, since)).places
    assert places is not None
    assert list(places.numbers) == [1, 2]
    view = View(later.opened)
    assert view.goes_by(places)
    assert not View(earlier.opened).goes_by(places)
    assert not View(later.opened, Wording(uid_only=True)).goes_by(places)
    now(account.append("INBOX", [NewMessage(MAIL)]))
    view.apply(now(later.sync(view.modseq)))
    view.flush(False, False)
    assert not view.goes_by(places)


def test_an_order_that_only_one_search_has_is_not_kept(world: World) -> None:
    """By relevancy, which is another one for each."""
    account = filled(world, 3)
    mailbox = now(account.select("INBOX", True))
    for best in (2, 3):
        order = [SortBy(SortKey.RELEVANCY, ranked=(UidSet.of([best]),))]
        assert now(mailbox.sort(search.All(), order, ModSeq(0))).uids[0] == best
        assert account._opened.kept.get((mailbox.opened.mailbox_id, tuple(order))) is None


def test_sorting_again_reads_no_message(tmp_path: Path) -> None:
    """However many there are; a new message is put in its place by looking at some others."""
    costs, placed, count = [], 0, 0
    for count in (60, 240):
        world = World(tmp_path / str(count))
        account = filled(world, count)
        mailbox = now(account.select("INBOX", True))
        mailbox_id, order = mailbox.opened.mailbox_id, [SortBy(SortKey.SUBJECT), SortBy(SortKey.DATE, True)]
        now(mailbox.sort(search.All(), order, ModSeq(0)))
        since = mailbox.opened.status.highest_modseq
        ask = (mailbox_id, search.All(), order, since, account._opened.kept.get, None)
        costs.append(steps(account._opened, sorting.sort, *ask))
        now(account.append("INBOX", [NewMessage(MAIL)]))
        now(now(account.select("INBOX", False)).remove(UidSet.of([7])))
        placed = steps(account._opened, sorting.sort, *ask)
        world.close()
    assert costs[0] == costs[1]
    # Some 20 instructions for each message would have to be gone through, were all of them sorted again.
    assert placed < 5 * count


def test_in_a_large_mailbox_more_are_put_in_their_places(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To sort all again would take longer, although they are many."""
    monkeypatch.setattr(sorting, "FEW_NEW", 1)
    monkeypatch.setattr(sorting, "NEW_OF", 40)
    account = filled(world, 240)
    mailbox = now(account.select("INBOX", True))
    mailbox_id, order = mailbox.opened.mailbox_id, [SortBy(SortKey.ARRIVAL, True)]
    now(mailbox.sort(search.All(), order, ModSeq(0)))
    kept, since = account._opened.kept, mailbox.opened.status.highest_modseq

    def sorting_steps(new: int) -> int:
        now(account.append("INBOX", [NewMessage(MAIL, Flags(), number) for number in range(new)]))
        return steps(account._opened, sorting.sort, mailbox_id, search.All(), order, since, kept.get, None)

    # One of 40 is put in its place, one more and all 247 are sorted.
    assert 2 * sorting_steps(6) < sorting_steps(1)


def test_many_new_messages_are_sorted_with_the_others(world: World) -> None:
    """Putting each in its place would take longer."""
    account = filled(world, 3)
    mailbox = now(account.select("INBOX", True))
    order = [SortBy(SortKey.ARRIVAL, True)]
    assert now(mailbox.sort(search.All(), order, ModSeq(0))).uids == (1, 2, 3)
    many = [NewMessage(MAIL, Flags(), number) for number in range(sorting.FEW_NEW + 1)]
    now(account.append("INBOX", many))
    expected = (1, 2, 3, *range(3 + len(many), 3, -1))
    assert now(mailbox.sort(search.All(), order, ModSeq(0))).uids == expected
