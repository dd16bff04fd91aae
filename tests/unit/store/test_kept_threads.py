"""Threads that an open account keeps are brought up to date at the cost of what has changed."""

from __future__ import annotations

import random
from array import array
from pathlib import Path

import pytest

from mailstore import search
from mailstore.engine import Txn
from mailstore.kept import Kept, Threaded
from mailstore.mailbox import Mailbox
from mailstore.model import (
    Flags,
    MailboxId,
    ModSeq,
    NewMessage,
    StoreMode,
    SystemFlag,
    ThreadAlgorithm,
    ThreadRow,
    Uid,
)
from mailstore.ops import sorting
from mailstore.store import Account
from mailstore.thread_index import Renewal, arrange
from mailstore.threads import Threads, threads
from mailstore.uidset import UidSet
from protocols.imap.responses.search_results import ThreadTemplate, thread_template
from tests.unit.store.store_world import World, now
from tests.unit.store.vm_steps import steps

ALL = search.All()
CONVERSATION = 3
"""Messages of one thread, whichever way it is found."""


def message(number: int) -> NewMessage:
    """One of a conversation, the first of which the others answer."""
    first = number - number % CONVERSATION
    reply = f"Subject: Re: s{first}\r\nReferences: <{first}@x>" if number > first else f"Subject: s{first}"
    return NewMessage(f"{reply}\r\nMessage-ID: <{number}@x>\r\n\r\ntext\r\n".encode(), Flags(), 1_700_000_000)


def threaded(world: World, count: int, algorithm: ThreadAlgorithm) -> tuple[Account, Mailbox]:
    """A session with conversations in its INBOX, whose threads are kept."""
    account = world.login()
    now(account.append("INBOX", [message(number) for number in range(count)]))
    mailbox = now(account.select("INBOX", False))
    now(mailbox.threads(ALL, algorithm, ModSeq(0)))
    return account, mailbox


def anew(mailbox: Mailbox, algorithm: ThreadAlgorithm) -> list[object]:
    """The threads of all messages where nothing is kept."""
    mailbox_id = mailbox.opened.mailbox_id
    found = now(mailbox._account.read(sorting.to_thread, mailbox_id, ALL, ModSeq(0), None, None))
    return list(threads(found.rows, algorithm))


@pytest.mark.parametrize("algorithm", ThreadAlgorithm)
def test_new_mail_costs_its_own_threads(tmp_path: Path, algorithm: ThreadAlgorithm) -> None:
    """However many messages there are: one came, in one conversation, and one went, from another."""
    costs = []
    for count in (60, 240):
        world = World(tmp_path / str(count))
        account, mailbox = threaded(world, count, algorithm)
        since, mailbox_id = mailbox.opened.status.highest_modseq, mailbox.opened.mailbox_id
        now(account.append("INBOX", [message(13)]))
        now(mailbox.remove(UidSet.of([32])))
        known = account._opened.kept.threads((mailbox_id, algorithm))
        asked = (sorting.to_thread, mailbox_id, ALL, since, known, None)
        found = now(account._opened.read(*asked))
        # Those of the one conversation with the new message, and what is left of the other one.
        assert [row.uid for row in found.renewal.rows] == [13, 14, 15, 31, 33, count + 1]
        costs.append(steps(account._opened, *asked))
        made, _ = now(mailbox.threads(ALL, algorithm, since))
        assert list(made) == anew(mailbox, algorithm)
        world.close()
    assert costs[0] == costs[1]


def test_threads_are_as_if_made_anew_whatever_comes_and_goes(world: World) -> None:
    """With the answer that is sent; what earlier sessions were given stays as it was."""
    chance = random.Random(7)
    account, mailbox = threaded(world, 30, ThreadAlgorithm.REFERENCES)
    since, given = mailbox.opened.status.highest_modseq, list[tuple[Threads, list[object]]]()
    for _ in range(25):
        come = [message(chance.randrange(60)) for _ in range(chance.randrange(3))]
        now(account.append("INBOX", come) if come else account.status("INBOX"))
        now(mailbox.remove(UidSet.of(chance.sample(range(1, 60), chance.randrange(4)))))
        for algorithm in ThreadAlgorithm:
            made, _ = now(mailbox.threads(ALL, algorithm, since))
            assert list(made) == anew(mailbox, algorithm)
            assert written(made).text == written(Threads(made)).text
            given.append((made, list(made)))
        assert all(list(made) == nodes for made, nodes in given)
    assert now(mailbox.threads(ALL, ThreadAlgorithm.REFS, since))[0] is given[-1][0]


def written(made: Threads) -> ThreadTemplate:
    """As IMAP writes it, and keeps it."""
    template, _ = written_in(made)
    made.rendered = template
    return template


def written_in(made: Threads) -> tuple[ThreadTemplate, int]:
    """The same, with the number of pauses."""
    work, pauses = thread_template(made), 0
    while True:
        try:
            next(work)
        except StopIteration as finished:
            template: ThreadTemplate = finished.value
            return template, pauses
        pauses += 1


def test_threads_that_stay_are_not_written_again() -> None:
    """One message more among thousands: no pauses are needed."""
    rows = [ThreadRow(Uid(uid), uid, "", False, None, ()) for uid in range(1, 3001)]
    known = arrange(rows, ThreadAlgorithm.REFS)
    known.threads.rendered, pauses = written_in(known.threads)
    assert pauses == 30
    new = [ThreadRow(Uid(3001), 1500, "", False, None, ())]
    renewal = known.index.to_renew(known.threads, new, {7}, lambda _uids: [], 10)
    assert renewal is not None
    made = renewal.made().threads
    template, pauses = written_in(made)
    assert pauses == 0
    # What was written before is not held any longer.
    assert made.made_from == (None, ())
    assert (template.text, template.uids) == (b"(%d)" * 3000, made.uids)


def test_threads_are_made_again_where_most_have_changed(world: World) -> None:
    """To read everything twice, and put it between nothing, would take longer."""
    account, mailbox = threaded(world, 12, ThreadAlgorithm.REFS)
    since, mailbox_id = mailbox.opened.status.highest_modseq, mailbox.opened.mailbox_id
    known = account._opened.kept.threads((mailbox_id, ThreadAlgorithm.REFS))
    now(account.append("INBOX", [message(number) for number in (0, 3)]))

    def found() -> sorting.ToThread:
        asked: sorting.ToThread = now(
            account._opened.read(sorting.to_thread, mailbox_id, ALL, since, known, None)
        )
        return asked

    # Two conversations of four messages, which are 8 of 14.
    assert found().renewal is None and len(found().rows or ()) == 14
    now(mailbox.remove(UidSet.of([2, 14])))
    renewal = found().renewal
    assert renewal is not None and [row.uid for row in renewal.rows] == [1, 3, 13]
    now(account.append("INBOX", [message(100 + number) for number in range(20)]))
    assert found().renewal is None and len(found().rows or ()) == 32


def test_threads_are_made_again_where_most_begin_with_one_subject() -> None:
    """Which shows only when it is known what the threads of the new messages begin with."""
    rows = [ThreadRow(Uid(uid), uid, "s" if uid < 8 else "", False, None, ()) for uid in range(1, 13)]
    known = arrange(rows, ThreadAlgorithm.REFERENCES)

    def renewal(most: int) -> Renewal | None:
        new = [ThreadRow(Uid(13), 13, "s", True, None, ())]
        return known.index.to_renew(
            known.threads, new, set(), lambda uids: [rows[uid - 1] for uid in uids], most
        )

    found = renewal(8)
    assert found is not None
    assert [row.uid for row in found.rows] == [*range(1, 8), 13]
    assert renewal(7) is None


def test_threads_of_another_history_are_made_again(world: World) -> None:
    """Whatever was kept and does not fit what is there is not built upon."""
    account, mailbox = threaded(world, 12, ThreadAlgorithm.REFS)
    since, mailbox_id = mailbox.opened.status.highest_modseq, mailbox.opened.mailbox_id

    def vanish(txn: Txn) -> None:
        txn.run("DELETE FROM placed WHERE mailbox_id = ? AND uid = 5", (mailbox_id,))

    now(account._opened.write(vanish))
    now(account.append("INBOX", [message(20)]))
    made, _ = now(mailbox.threads(ALL, ThreadAlgorithm.REFS, since))
    assert list(made) == anew(mailbox, ThreadAlgorithm.REFS)


def test_threads_count_for_what_they_take() -> None:
    """Four octets are a number: of the threads, of their index, and of what is made of them to be sent."""
    chance = random.Random(3)
    ids = [b"%015d" % number for number in range(400)]
    rows = [
        ThreadRow(
            Uid(uid), uid, f"s{uid % 50}", uid % 2 == 0, chance.choice(ids), tuple(chance.sample(ids, 2))
        )
        for uid in range(1, 300)
    ]
    lone = [ThreadRow(Uid(uid), uid, "", False, b"%d" % uid, ()) for uid in range(300, 600)]
    for some in (rows, lone, rows + lone):
        for algorithm in ThreadAlgorithm:
            made = arrange(some, algorithm)
            template = written(made.threads)
            index, numbers = made.index, array("I", template.uids)
            arrays = [
                made.threads.uids,
                made.threads.ups,
                made.threads.sizes,
                template.uids,
                template.lengths,
            ]
            arrays += [index.dates, index.uids, index.components, index.keys, numbers]
            octets = len(template.text) + sum(one.itemsize * len(one) for one in arrays)
            counted = 4 * Threaded(ModSeq(1), Uid(600), made.threads, index).numbers
            assert 0.7 * counted < octets + 1000 <= counted


def test_threads_are_kept_rather_without_what_brings_them_up_to_date() -> None:
    """Where there is room for them alone."""
    rows = [ThreadRow(Uid(uid), uid, "", False, b"%d" % uid, ()) for uid in range(1, 1000)]
    made = arrange(rows, ThreadAlgorithm.REFS)
    whole = Threaded(ModSeq(1), Uid(1000), made.threads, made.index)
    alone = Threaded(ModSeq(1), Uid(1000), made.threads)
    key = (MailboxId(1), ThreadAlgorithm.REFS)
    for room, expected in (
        (whole.numbers, whole),
        (whole.numbers - 1, alone),
        (alone.numbers, alone),
        (alone.numbers - 1, None),
    ):
        kept = Kept(room)
        kept.keep(key, whole)
        assert kept.threads(key) == expected


def test_threads_are_made_again_only_for_other_messages(world: World) -> None:
    """Flags change no thread; sessions share the threads, and what was made of them to be sent."""
    account = world.login()
    now(account.append("INBOX", [message(3 * number) for number in range(3)]))
    mailbox, other = (now(account.select("INBOX", False)) for _ in range(2))
    refs, everything = ThreadAlgorithm.REFS, search.All()
    first, _ = now(mailbox.threads(everything, refs, ModSeq(0)))
    since = mailbox.opened.status.highest_modseq
    now(mailbox.store_flags(UidSet.of([2]), StoreMode.ADD, Flags(SystemFlag.DELETED), None, since))
    assert now(other.threads(everything, refs, ModSeq(0)))[0] is first
    assert now(mailbox.threads(search.Uids(UidSet.of([1])), refs, ModSeq(0)))[0] is not first
    assert now(mailbox.threads(everything, ThreadAlgorithm.REFERENCES, ModSeq(0)))[0] is not first
    assert now(mailbox.threads(everything, refs, ModSeq(0)))[0] is first
    now(mailbox.expunge(None, since))
    without, _ = now(mailbox.threads(everything, refs, ModSeq(0)))
    assert [node.uid for node in without] == [1, 3]
    now(account.append("INBOX", [message(9)]))
    assert [node.uid for node in now(other.threads(everything, refs, ModSeq(0)))[0]] == [1, 3, 4]
