"""Logins while the disk is full: an answer for each, and no process ends by SIGBUS."""

from __future__ import annotations

import multiprocessing
import os
import smtplib
import subprocess
from collections.abc import Callable, Iterator
from multiprocessing.queues import Queue
from pathlib import Path

import pytest
from imap_wire import connect, session
from running import SEALBOX, Server, eventually
from small_disks import KINDS, fill, free_bytes, small_disk

from mailstore.directory import directory_of
from mailstore.engine import Database, DatabaseKey, close_all, open_connection
from mailstore.errors import StoreError
from mailstore.room import ROOM_TO_OPEN_BYTES, ROOM_TO_WRITE_BYTES

pytestmark = [pytest.mark.crash, pytest.mark.integration]

KEY = DatabaseKey(bytes(32), bytes(16))
ENOUGH_KIB = 512
FREE_KIB = (*range(0, 132, 4), ENOUGH_KIB)
PASSWORD = "a password that is long enough"
NAMES = tuple(f"user{number}@example.org" for number in range(2))
SETTINGS = "\n[store]\nclose_grace_s = 0.0\nfiling_wait_s = 60.0\n"
BALLAST_BYTES = 2 * 1024 * 1024
"""What is taken away to make room again."""

BODY = b"\r\n\r\n" + os.urandom(30_000).hex().encode() + b"\r\n"


def open_and_write(path: Path) -> None:
    """A connection that reads and writes."""
    opened: list[Database] = []
    try:
        opened.append(open_connection(path, KEY))
        opened[0].read(0, lambda txn: txn.rows("SELECT * FROM here"))
        opened[0].write(0, lambda txn: txn.run("INSERT INTO here VALUES(1)"))
    finally:
        close_all(opened)


def look_into(root: Path) -> None:
    """A question to the directory."""
    directory = directory_of(root, bytes(32))
    try:
        directory.accounts()
    finally:
        directory.close()


def answer(work: Callable[[Path], None], path: Path) -> str:
    """What becomes of it."""
    try:
        work(path)
    except StoreError as error:
        return type(error).__name__
    return "done"


def try_all(disk: Path, told: Queue[tuple[int, str, str]]) -> None:
    """Open both kinds of database with ever more room; in a process that may die of it."""
    for free_kib in FREE_KIB:
        fill(disk, free_kib * 1024)
        opened = answer(open_and_write, disk / "mail.db")
        fill(disk, free_kib * 1024)
        told.put((free_kib, opened, answer(look_into, disk)))


@pytest.mark.parametrize("kind", KINDS)
def test_no_database_is_opened_into_a_page_that_the_disk_does_not_have(tmp_path: Path, kind: str) -> None:
    """Whatever is free, it is opened or the disk is said to be full; the process lives."""
    with small_disk(tmp_path, kind) as disk:
        first = open_connection(disk / "mail.db", KEY)
        first.write(0, lambda txn: txn.run("CREATE TABLE here(x)"))
        close_all([first])
        look_into(disk)
        context = multiprocessing.get_context("spawn")
        told: Queue[tuple[int, str, str]] = context.Queue()
        child = context.Process(target=try_all, args=(disk, told))
        child.start()
        child.join()
        assert child.exitcode == 0
        answers = {free_kib: said for free_kib, *said in (told.get(timeout=60) for _ in FREE_KIB)}
        assert {one for said in answers.values() for one in said} == {"StorageFull", "done"}
        assert answers[0] == ["StorageFull"] * 2 and answers[ENOUGH_KIB] == ["done"] * 2


@pytest.fixture(params=KINDS)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    """A server on a small disk, what it says elsewhere; an account is closed as soon as nobody is in it."""
    with small_disk(tmp_path, request.param) as disk:
        (tmp_path / "data").symlink_to(disk)
        server = Server(tmp_path / "data", environment={"XDG_STATE_HOME": str(tmp_path / "state")}).start()
        try:
            for name in NAMES:
                server.cli("account", "add", name, "--password-stdin", stdin=PASSWORD + "\n")
            assert server.stop() == 0
            (disk / "ballast").write_bytes(bytes(BALLAST_BYTES))
            server.start_with(lambda text: text + SETTINGS)
            yield server
        finally:
            if server.process is not None:
                server.kill()


def log_in(server: Server, name: str) -> bytes:
    """The answer to a login, after which a mailbox is read and the account closed again."""
    with connect(server) as wire:
        answer = wire.command(f'LOGIN "{name}" "{PASSWORD}"'.encode())
        if answer.status != b"OK":
            return answer.tagged.partition(b" ")[2]
        assert wire.command(b"SELECT INBOX").status == b"OK"
        assert wire.command(b"FETCH 1 (FLAGS BODY.PEEK[])").status == b"OK"
        wire.command(b"LOGOUT")
    return b"OK"


def fill_with_mail(server: Server) -> None:
    """Mail until no more is taken."""
    refused = 0
    while refused < 3:
        try:
            server.deliver(b"Subject: more" + BODY, to=NAMES[0])
        except smtplib.SMTPResponseException as error:
            assert error.smtp_code == 452
            refused += 1


def assert_in_and_deleting(server: Server) -> None:
    """Everybody gets in, with waiting mail too; nothing is added, and what is there can be deleted."""
    assert [log_in(server, name) for name in NAMES * 2] == [b"OK"] * 4
    with session(server, user=NAMES[0], password=PASSWORD) as wire:
        while (appended := wire.append(b"INBOX", b"Subject: one more" + BODY)).status == b"OK":
            pass
        assert appended.tagged.endswith(b"NO [UNAVAILABLE] try again later")
        # At the latest when the log of what was filed and appended has been copied back.
        eventually(lambda: wire.command(b"STORE 2 +FLAGS (\\Deleted)").status == b"OK")
        assert wire.command(b"EXPUNGE").status == b"OK"


def assert_nobody_ends(server: Server, disk: Path) -> None:
    """Something else takes the rest: sessions go on reading, logins are let in or told to try later."""

    def logins(free_kib: int) -> list[bytes]:
        fill(disk, free_kib * 1024)
        answers = [log_in(server, name) for name in NAMES]
        assert set(answers) <= {b"OK", b"NO [UNAVAILABLE] try again later"}
        return answers

    with session(server, user=NAMES[0], password=PASSWORD) as wire:
        # An account that is still closing lets in without opening anything, and gives room back in the end.
        eventually(lambda: logins(0)[1] != b"OK")
        for free_kib in (0, 12, 20, 28, 40, 60, 90, 130):
            logins(free_kib)
            assert wire.command(b"FETCH 1 (FLAGS BODY.PEEK[])").status == b"OK"
        (disk / "filler").unlink()
        (disk / "ballast").unlink()
        assert [log_in(server, name) for name in NAMES] == [b"OK"] * 2


def assert_start(server: Server, disk: Path) -> None:
    """Without room the answer says which disk is full; with a little the server starts and lets in."""
    assert server.stop() == 0
    fill(disk, 0)
    serve = [*SEALBOX, "serve", "--config", str(server.data.parent / f"{server.data.name}.toml")]
    refused = subprocess.run(serve, capture_output=True, timeout=60, check=False)
    assert refused.returncode == 6
    assert b"sealbox: the disk is full: make room" in refused.stderr
    assert b"(the data: %s, 0 KiB free)" % bytes(disk) in refused.stderr
    fill(disk, 2 * ROOM_TO_OPEN_BYTES)
    server.start_with(lambda text: text + SETTINGS)
    assert log_in(server, NAMES[1]) == b"OK"


def test_a_full_disk_lets_in_and_ends_nobody_and_is_named(server: Server) -> None:
    """Mail leaves room to log in and delete; where others take it, the log says whose login fails."""
    for name in NAMES:
        server.deliver(b"Subject: first" + BODY, to=name)
        assert log_in(server, name) == b"OK"
    workers = server.workers()
    disk = server.data.resolve()
    fill_with_mail(server)
    assert free_bytes(disk) > 2 * ROOM_TO_WRITE_BYTES
    assert_in_and_deleting(server)
    assert f"new mail is refused: the disk is full ({disk}, " in server.errors()
    assert_nobody_ends(server, disk)
    assert server.workers() == workers
    told = server.errors()
    assert f"mail.db: the disk is full ({disk}, " in told
    assert not [word for word in ("OperationalError", "Traceback", "example.org") if word in told]
    assert_start(server, disk)
    assert server.stop() == 0
