"""Searches, two who index and one who files and expunges, all at once: every answer is that of a scan."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from index_world import index
from store_world import World, now

from mailstore import search
from mailstore.account_database import search_key
from mailstore.engine import Database, Txn
from mailstore.limits import StoreLimits
from mailstore.model import Flags, MailboxId, ModSeq, NewMessage, Uid
from mailstore.ops import messages
from mailstore.ops import search as search_ops
from mailstore.prepared import ReadyMessage, prepare
from mailstore.search_index import SearchIndex
from mailstore.uidset import UidSet

WORDS = ("okapi", "zebra", "giraffe", "tapir", "lemur", "gazelle", "panda", "otter", "badger", "beaver")
LIMITS = StoreLimits(min_free_bytes=0, index_batch_messages=3, index_field_chars=40)
STEPS = 60


def message(rng: random.Random) -> bytes:
    """Some words in each of the places that are searched."""
    some = [" ".join(rng.choices(WORDS, k=3)) for _ in range(3)]
    names = ", ".join(f"{word}@example.org" for word in rng.choices(WORDS, k=rng.choice([1, 4])))
    return f"From: {names}\r\nSubject: {some[0]}\r\nX-Mark: {some[1]}\r\n\r\n{some[2]}\r\n".encode()


def key(rng: random.Random, depth: int = 0) -> search.Key:
    """Words in some places, at times in trees."""
    word = rng.choice(WORDS)[rng.choice([0, 0, 2]) :]
    match rng.randrange(7 if depth < 2 else 4):
        case 0:
            return search.BodyText(word)
        case 1:
            return search.AnyText(f"{word} {rng.choice(WORDS)}")
        case 2 | 3:
            return search.HeaderText(rng.choice(["FROM", "SUBJECT", "X-MARK"]), word)
        case 4:
            return search.Not(key(rng, depth + 1))
        case 5:
            return search.Or(key(rng, depth + 1), key(rng, depth + 1))
        case _:
            return search.And((key(rng, depth + 1), key(rng, depth + 1)))


def both(
    txn: Txn, mailbox_id: MailboxId, wanted: search.Key, known: search.Candidates | None
) -> tuple[tuple[Uid, ...], tuple[Uid, ...]]:
    """What is found with the index and without, in one state of the mail."""
    with_index = search_ops.run(txn, mailbox_id, wanted, ModSeq(0), known)
    return with_index.uids, search_ops.run(txn, mailbox_id, wanted, ModSeq(0)).uids


class Beside:
    """What the threads share; each has a connection and an index of its own."""

    def __init__(self, world: World) -> None:
        account = world.login()
        now(account.append("Drafts", [NewMessage(message(random.Random(n))) for n in range(20)]))
        index(world)
        self._opened = account._opened
        self._paths = world.paths
        self._key = search_key(account._opened._hold.master)
        self.mailbox_id: MailboxId = now(account.select("Drafts", True)).opened.mailbox_id
        self.over = threading.Event()
        self.used = 0
        self.failures: list[BaseException] = []

    def thread(
        self, work: Callable[[Database, SearchIndex, random.Random], Any], seed: int
    ) -> threading.Thread:
        """Begin ``work`` in a thread."""
        mail = self._opened._rest._databases.connections.another()
        self._opened._rest._databases.connections.useless.append(mail)  # closed with the account
        index = SearchIndex(self._paths, lambda: self._key, LIMITS)

        def run() -> None:
            try:
                work(mail, index, random.Random(seed))
            except BaseException as failure:  # noqa: BLE001  # told by the test
                self.failures.append(failure)
            finally:
                index.close()

        started = threading.Thread(target=run)
        started.start()
        return started

    def write(self, mail: Database, _: SearchIndex, rng: random.Random) -> None:
        """File and expunge some steps long, then all is over."""
        try:
            for _step in range(STEPS):
                if rng.random() < 0.6:
                    ready = [
                        ReadyMessage(prepare(message(rng)), Flags(), 0) for _ in range(rng.randint(1, 4))
                    ]
                    mail.write(int(time.time()), messages.add_messages, self.mailbox_id, ready)
                else:
                    rows = mail.read(0, search_ops.run, self.mailbox_id, search.All(), ModSeq(0)).uids
                    some = UidSet.of(rng.sample(rows, min(len(rows), 3)))
                    mail.write(int(time.time()), messages.expunge_unconditionally, self.mailbox_id, some)
        finally:
            self.over.set()

    def index(self, mail: Database, index: SearchIndex, rng: random.Random) -> None:
        """Index as long as there is somebody who files, and open the index again at times."""
        while not self.over.is_set():
            index.work(mail)
            if rng.random() < 0.05:
                index.close()

    def search(self, mail: Database, index: SearchIndex, rng: random.Random) -> None:
        """Search as long as there is somebody who files, and once more."""
        is_over = False
        while not is_over:
            is_over = self.over.is_set()
            wanted = key(rng)
            known = index.candidates(mail, wanted)
            self.used += known is not None
            found, scanned = mail.read(int(time.time()), both, self.mailbox_id, wanted, known)
            assert found == scanned, repr(wanted)


def test_searches_are_right_while_mail_is_filed_expunged_and_indexed(tmp_path: Path) -> None:
    """Whatever the others have done between the question to the index and the search itself."""
    world = World(tmp_path / "root", LIMITS)
    beside = Beside(world)
    works = (beside.write, beside.index, beside.index, beside.search, beside.search, beside.search)
    for thread in [beside.thread(work, seed) for seed, work in enumerate(works)]:
        thread.join()
    assert not beside.failures, beside.failures
    assert beside.used
    world.close()
