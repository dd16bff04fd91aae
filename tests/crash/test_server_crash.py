"""The whole server killed again and again in mid-traffic: what was answered 250 is there, once."""

from __future__ import annotations

import contextlib
import random
import re
import smtplib
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from imap_wire import session
from running import Server, eventually

from mailstore.account import account_paths, open_directory
from mailstore.account_database import mail_key
from mailstore.engine import open_connection
from mailstore.opening import open_as_owner
from mailstore.sealed import pending

pytestmark = [pytest.mark.crash, pytest.mark.integration]

ROUNDS = 15
LIVE_S = (0.05, 0.6)
BODY = b"\r\n\r\n" + b"a line of the body, and some more of it\r\n" * 100
SUBJECT = re.compile(rb"Subject: number (\d+)\r\n")


class Traffic:
    """A sender and a reader that come back whenever the server does."""

    def __init__(self, server: Server) -> None:
        self.answered: set[int] = set()
        self.asked: set[int] = set()
        self.logins = 0
        self._server = server
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._send), threading.Thread(target=self._read)]

    def __enter__(self) -> Traffic:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _send(self) -> None:
        number = 0
        while not self._over.is_set():
            with (
                contextlib.suppress(OSError, smtplib.SMTPException),
                smtplib.LMTP(
                    "127.0.0.1", self._server.base + 24, local_hostname="localhost", timeout=10
                ) as lmtp,
            ):
                while not self._over.is_set():
                    number += 1
                    self.asked.add(number)
                    message = b"Subject: number %d" % number + BODY
                    lmtp.sendmail("sender@example.org", [self._server.user], message)
                    self.answered.add(number)

    def _read(self) -> None:
        while not self._over.is_set():
            with contextlib.suppress(OSError), session(self._server) as wire:
                self.logins += 1
                while wire.command(b"UID FETCH 1:* (FLAGS)").status and not self._over.is_set():
                    wire.command(b"STORE 1 +FLAGS (\\Flagged)")
                    if wire.command(b"STORE 1 -FLAGS (\\Flagged)").status and self.logins % 2:
                        wire.command(b"LOGOUT")


def progress(traffic: Traffic, logins: int = 0) -> None:
    """Wait until the server takes mail, and has let somebody in that often in all."""
    enough = len(traffic.answered) + 3
    eventually(lambda: len(traffic.answered) >= enough and traffic.logins >= logins)


def numbers(server: Server) -> Counter[int]:
    """The messages of the inbox by their number."""
    client = server.imap()
    client.select(readonly=True)
    _, answer = client.fetch("1:*", "(BODY.PEEK[])")
    client.logout()
    found: Counter[int] = Counter()
    for part in answer:
        if isinstance(part, tuple):
            subject = SUBJECT.search(part[1])
            if subject is not None:
                assert part[1].endswith(BODY), "a message is cut short"
                found[int(subject[1])] += 1
    return found


def assert_sound(data: Path, user: str, password: str) -> None:
    """Nothing waits, and both integrity checks of the database are clean."""
    directory = open_directory(data)
    opened = open_as_owner(data, directory, user, password.encode(), now=time.time())
    directory.close()
    paths = account_paths(data, opened.record.account_id)
    assert pending(paths.inbox) == []
    key = mail_key(opened.master)
    database = open_connection(paths.mail_db, key)
    assert database.pragma("PRAGMA integrity_check") == [("ok",)]
    assert database.pragma("PRAGMA cipher_integrity_check") == []
    database.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server that will be killed often."""
    running = Server(tmp_path / "data", environment={"XDG_STATE_HOME": str(tmp_path / "state")}).start()
    yield running
    if running.process is not None:
        running.kill()


def test_killed_again_and_again(server: Server) -> None:
    """Every message answered 250 is there exactly once; one whose answer was lost, once or not at all."""
    rng = random.Random(15)
    with Traffic(server) as traffic:
        for number in range(ROUNDS):
            progress(traffic, number // 3)
            threading.Event().wait(rng.uniform(*LIVE_S))
            server.kill()
            server.start()
        progress(traffic)
    found = numbers(server)
    assert set(found) >= traffic.answered, "lost"
    assert set(found) <= traffic.asked
    assert set(found.values()) == {1}, "filed twice"
    assert len(traffic.answered) > 3 * ROUNDS
    user, password = server.user, server.password
    assert server.stop() == 0
    assert_sound(server.data, user, password)
    assert "Traceback" not in server.errors()
