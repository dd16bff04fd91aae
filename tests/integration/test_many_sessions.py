"""Many sessions on both workers change two mailboxes at once; each ends with the true picture of its own."""

from __future__ import annotations

import contextlib
import random
import threading
import time

import pytest
from imap_wire import session
from on_workers import one_on_each
from picture import Client
from picture_qresync import QresyncClient
from running import Server, eventually

pytestmark = pytest.mark.integration

SESSIONS_PER_WORKER = 4
BUSY_S = 15.0
MAILBOXES = (b"INBOX", b"Other")


def clients_on_all_workers(server: Server) -> list[Client]:
    """Sessions spread evenly, half of them in each mailbox."""
    found: list[Client] = []
    for number in range(SESSIONS_PER_WORKER):
        for wire in one_on_each(server, mailbox=b"").values():
            mailboxes = MAILBOXES if number % 2 else MAILBOXES[::-1]
            kind = QresyncClient if len(found) % 3 == 1 else Client
            found.append(kind(wire, mailboxes, random.Random(len(found))))
    return found


def be_busy(client: Client, failures: list[BaseException]) -> None:
    """Random actions until the time is over or somebody has failed."""
    end = time.monotonic() + BUSY_S
    try:
        while time.monotonic() < end and not failures:
            client.act()
    except BaseException as error:  # noqa: BLE001  # reported by the main thread
        failures.append(error)


def deliver(server: Server, failures: list[BaseException]) -> None:
    """Mail comes in meanwhile, for the inbox and for the other mailbox."""
    end = time.monotonic() + BUSY_S
    name, _, domain = server.user.partition("@")
    number = 0
    try:
        while time.monotonic() < end and not failures:
            number += 1
            to = server.user if number % 2 else f"{name}+other@{domain}"
            server.deliver(b"Subject: delivered\r\n\r\ntext\r\n", to=to)
            threading.Event().wait(0.1)
    except BaseException as error:  # noqa: BLE001  # as above
        failures.append(error)


def test_every_picture_is_true_in_the_end(server: Server) -> None:
    """EXISTS, EXPUNGE and FETCH alone are enough to know the mailbox, whatever the others do."""
    with session(server) as wire:
        assert wire.command(b"CREATE Other").status == b"OK"
    with contextlib.ExitStack() as closing:
        clients = [closing.enter_context(one) for one in clients_on_all_workers(server)]
        failures: list[BaseException] = []
        threads = [threading.Thread(target=be_busy, args=(client, failures)) for client in clients]
        threads.append(threading.Thread(target=deliver, args=(server, failures)))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failures:
            raise failures[0]
        # Mail that still waits would come between one client's picture and the next one's.
        eventually(lambda: not list((server.data / "accounts").glob("*/*/inbox/*.sealed")))
        pictures = {}
        for mailbox in MAILBOXES:
            with session(server, b"") as wire:
                fresh = Client(wire, (mailbox, mailbox), random.Random(0))
                pictures[mailbox] = fresh.settled_picture()
        for number, client in enumerate(clients):
            assert client.settled_picture() == pictures[client.mailbox], f"client {number}"
    done = {word: sum(one.done.get(word, 0) for one in clients) for word in clients[0].done}
    assert all(done[word] > 10 for word in (b"APPEND", b"STORE", b"COPY", b"MOVE", b"EXPUNGE", b"FETCH")), (
        done
    )
    assert sum(one.resyncs for one in clients if isinstance(one, QresyncClient)) > 0
    assert sum(one.heard_idle for one in clients) > 5
    assert "Traceback" not in server.errors()
    assert "ERROR" not in server.errors()
