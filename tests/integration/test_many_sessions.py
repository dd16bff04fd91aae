"""Many sessions on both workers change two mailboxes at once; each ends with the true picture of its own.

They append, store, copy, move, expunge, rename, search, fetch and come back by QRESYNC at random, once
as clients of IMAP4rev1 and once of IMAP4rev2. Two settings of the environment make a longer or another
run (see CONTRIBUTING.md): SEALBOX_BUSY_S, the seconds that the sessions are busy, and SEALBOX_SEED, a number
that all random choices follow from.
"""

from __future__ import annotations

import contextlib
import os
import random
import threading
import time
from collections import Counter
from dataclasses import dataclass, field

import pytest
from imap_wire import session
from on_workers import WORKERS, one_on_each
from picture_actions import Client
from picture_names import MOVABLE_NAMES, REV1, REV2, Revision
from picture_qresync import QresyncClient
from running import Server, eventually

pytestmark = pytest.mark.integration

SESSIONS = 8
BUSY_S = float(os.environ.get("SEALBOX_BUSY_S", "20"))
SEED = int(os.environ.get("SEALBOX_SEED", "0"))
EXPECTED_PER_20_S = {
    b"APPEND": 10,
    b"STORE": 10,
    b"UID STORE": 10,
    b"COPY": 10,
    b"MOVE": 5,
    b"UID MOVE": 5,
    b"EXPUNGE": 5,
    b"UID EXPUNGE": 5,
    b"RENAME": 5,
    b"SEARCH": 5,
    b"UID SEARCH": 10,
    b"FETCH": 10,
    b"IDLE": 10,
    b"SELECT": 5,
    b"UID SORT": 5,
    b"sorted result followed": 10,
    b"QRESYNC": 1,
    b"reconnect with QRESYNC": 1,
    b"FETCH VANISHED": 1,
    b"renamed meanwhile": 1,
    b"told to be up to date": 5,
}
"""How often each thing has to have succeeded at least, all clients together."""


@dataclass
class Crowd:
    """The busy time of all clients together."""

    server: Server
    end: float = field(default_factory=lambda: time.monotonic() + BUSY_S)
    failures: list[BaseException] = field(default_factory=list)

    @property
    def goes_on(self) -> bool:
        """Until the time is over or somebody has failed."""
        return time.monotonic() < self.end and not self.failures

    def be_busy(self, number: int, client: Client) -> None:
        """One client does random things."""
        try:
            while self.goes_on:
                client.act()
        except BaseException as error:  # noqa: BLE001  # reported by the main thread
            error.add_note(f"client {number} ({type(client).__name__}), seed {SEED}")
            self.failures.append(error)

    def deliver(self) -> None:
        """Mail comes in meanwhile, for the inbox and for the other mailbox."""
        name, _, domain = self.server.user.partition("@")
        number = 0
        try:
            while self.goes_on:
                number += 1
                to = self.server.user if number % 2 else f"{name}+other@{domain}"
                self.server.deliver(b"Subject: delivered\r\n\r\ntext\r\n", to=to)
                threading.Event().wait(0.1)
        except BaseException as error:  # noqa: BLE001  # as above
            self.failures.append(error)


def clients_on_all_workers(server: Server, revision: Revision, closing: contextlib.ExitStack) -> list[Client]:
    """Sessions spread evenly over workers and mailboxes; only those with QRESYNC may change the worker."""
    found: list[Client] = []
    while len(found) < SESSIONS:
        for wire in one_on_each(server, mailbox=b"").values():
            number = len(found)
            kind = QresyncClient if number % 3 == 1 else Client
            rng = random.Random(SEED * SESSIONS + number)
            client = kind(lambda: session(server, b""), revision, number // WORKERS % 2 == 1, rng, wire)
            found.append(closing.enter_context(client))
    return found


def check_pictures(server: Server, revision: Revision, clients: list[Client]) -> None:
    """Every client believes what a fresh one of either protocol is told."""
    for fresh_revision in (REV1, REV2):
        for at_home in (True, False):
            rng = random.Random(0)
            with Client(lambda: session(server, b""), fresh_revision, at_home, rng) as fresh:
                true = fresh.settled_picture()
                for number, client in enumerate(clients):
                    client.learn_names()
                    assert client.names == fresh.names, f"client {number}, seed {SEED}"
                    if client.mailbox == fresh.mailbox:
                        assert client.settled_picture() == true, f"client {number}, seed {SEED}"
                        client.check_sorted()


@pytest.mark.parametrize("revision", [REV1, REV2], ids=lambda revision: revision.name)
def test_every_picture_is_true_in_the_end(server: Server, revision: Revision) -> None:
    """Untagged responses alone are enough to know the mailbox, whatever the others do."""
    with session(server, b"") as wire:
        names = REV1.names(wire.command(b'LIST "" "*" RETURN (STATUS (MAILBOXID))'))
        if not MOVABLE_NAMES.keys() & set(names.values()):
            assert wire.command(b"CREATE Other").status == b"OK"
    with contextlib.ExitStack() as closing:
        clients = clients_on_all_workers(server, revision, closing)
        crowd = Crowd(server)
        threads = [threading.Thread(target=crowd.be_busy, args=pair) for pair in enumerate(clients)]
        threads.append(threading.Thread(target=crowd.deliver))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if crowd.failures:
            raise crowd.failures[0]
        # Mail that still waits would come between one client's picture and the next one's.
        eventually(lambda: not list((server.data / "accounts").glob("*/*/inbox/*.sealed")))
        check_pictures(server, revision, clients)
    done = sum((client.done for client in clients), Counter[bytes]())
    print(revision.name, {name.decode(): count for name, count in sorted(done.items())})
    few = {name: done[name] for name, least in EXPECTED_PER_20_S.items() if done[name] * 20 < least * BUSY_S}
    assert not few, done
    assert sum(client.heard_idle for client in clients) > 5
    assert "Traceback" not in server.errors()
    assert "ERROR" not in server.errors()
