"""What it costs to hear of changes depends on the changes, not on the mailbox."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path

import pytest

from mailstore import search
from mailstore.mailbox import Mailbox
from mailstore.model import Flags, ModSeq, NewMessage, StoreMode, SystemFlag
from mailstore.ops import search as search_ops
from mailstore.ops.rows import delta
from mailstore.uidset import UidSet
from tests.growth import LINEAR_AT_MOST
from tests.unit.store.store_world import World, now
from tests.unit.store.vm_steps import steps

MAIL = b"Subject: x\r\n\r\ntext\r\n"


@pytest.fixture
def worlds(tmp_path: Path) -> Iterator[Callable[[], World]]:
    """Makes stores, each with one account."""
    made: list[World] = []

    def make() -> World:
        made.append(World(tmp_path / str(len(made))))
        return made[-1]

    yield make
    for world in made:
        world.close()


def filled(worlds: Callable[[], World], count: int) -> Mailbox:
    """A mailbox with ``count`` messages that came together."""
    account = worlds().login()
    now(account.append("INBOX", [NewMessage(MAIL)] * count))
    mailbox: Mailbox = now(account.select("INBOX", False))
    return mailbox


def changed_since(mailbox: Mailbox, since: ModSeq) -> int:
    """Looking for what has changed among all messages that a client can name, as FETCH does."""
    key = search.And((search.Uids(UidSet(((1, 10**6),))), search.ModSeqAtLeast(ModSeq(since + 1))))
    found = now(mailbox.search(key, since))
    assert list(found.uids) == [5, 9]
    return steps(mailbox._account, search_ops.run, mailbox.opened.mailbox_id, key, since)


def missed(mailbox: Mailbox, since: ModSeq) -> int:
    """What SELECT with QRESYNC tells."""
    found = now(mailbox.sync(since))
    assert [row.uid for row in found.changed] == [5, 9]
    assert found.expunged == UidSet.of([20, 21])
    return steps(mailbox._account, delta, mailbox.opened.mailbox_id, since)


@pytest.mark.parametrize("look", [changed_since, missed])
def test_hearing_of_changes_costs_the_same_in_a_larger_mailbox(
    worlds: Callable[[], World], look: Callable[[Mailbox, ModSeq], int]
) -> None:
    """Two messages changed and two gone, of 60 and of 240."""
    costs = []
    for count in (60, 240):
        mailbox = filled(worlds, count)
        since = mailbox.opened.status.highest_modseq
        for uids, flag in ([20, 21], SystemFlag.DELETED), ([5, 9], SystemFlag.FLAGGED):
            now(mailbox.store_flags(UidSet.of(uids), StoreMode.ADD, Flags(flag), None, since))
        now(mailbox.expunge(None, since))
        costs.append(look(mailbox, since))
    assert costs[0] == costs[1] > 0


def test_naming_many_messages_one_by_one_multiplies_nothing(worlds: Callable[[], World]) -> None:
    """The index of changes is not gone through once for each range of UIDs."""
    costs = []
    for count in (60, 240):
        mailbox = filled(worlds, count)
        odd = search.Uids(UidSet.of(range(1, count, 2)))
        key = search.And((odd, search.ModSeqAtLeast(ModSeq(2))))
        assert len(now(mailbox.search(key, ModSeq(0))).uids) == count // 2
        costs.append(steps(mailbox._account, search_ops.run, mailbox.opened.mailbox_id, key, ModSeq(0)))
    assert costs[1] / costs[0] < LINEAR_AT_MOST


def test_searching_for_what_most_messages_have_reads_them_in_order(world: World) -> None:
    """Then the index would only be a detour; of several modseqs the highest decides."""
    account = world.login()
    for _ in range(8):
        now(account.append("INBOX", [NewMessage(MAIL)]))
    mailbox = now(account.select("INBOX", False))
    for uid in (7, 3):  # so that the order of changes is not that of UIDs
        now(mailbox.store_flags(UidSet.of([uid]), StoreMode.ADD, Flags(SystemFlag.FLAGGED), None, ModSeq(0)))
    rows = {row.uid: row.modseq for row in now(mailbox.sync(ModSeq(0))).changed}
    odd = UidSet.of(range(1, 9, 2))
    more: tuple[tuple[search.Key, Callable[[int], bool]], ...] = (
        (search.All(), lambda _: True),
        (search.Uids(odd), lambda uid: uid in odd),
        (search.Not(search.Uids(odd)), lambda uid: uid not in odd),
        (search.HasFlag(SystemFlag.SEEN), lambda _: False),
        (search.HeaderText("SUBJECT", "x"), lambda _: True),
    )
    for low, high, (key, matches) in product(range(13), range(13), more):
        both = search.And((search.ModSeqAtLeast(ModSeq(low)), key, search.ModSeqAtLeast(ModSeq(high))))
        found = now(mailbox.search(both, ModSeq(0)))
        expected = [uid for uid, modseq in rows.items() if modseq >= max(low, high) and matches(uid)]
        assert list(found.uids) == expected
        assert found.highest_modseq == max((rows[uid] for uid in expected), default=None)
