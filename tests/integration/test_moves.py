"""Accounts that move between two servers, while they are in use."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
from move_cluster import ANN, BOB, SECRET, MovingCluster, Node
from running import SEALBOX, eventually

from mailstore.account import AccountPaths, shared_lock
from mailstore.directory import Phase
from tests import postgresql as postgresql_server
from tests.postgresql import PostgreSql

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MovingCluster]:
    """Both serve."""
    postgresql_server.require()
    database = PostgreSql()
    found: MovingCluster | None = None
    try:
        found = MovingCluster(tmp_path_factory.mktemp("moves"), database.start())
        yield found
    finally:
        for node in found.nodes.values() if found is not None else ():
            if node.server.process is not None:
                node.server.stop()
        database.stop()


def test_an_account_is_the_same_at_its_new_node(cluster: MovingCluster) -> None:
    """Octet for octet; and its old node passes mail for it on."""
    assert cluster.a.replies(ANN) == [250]
    assert cluster.a.count(ANN) == 1
    assert cluster.a.replies(ANN) == [250]  # waits
    folder = cluster.folder_of(cluster.a, ANN)
    answer = cluster.a.cli("account", "move", ANN, "b")
    assert (answer["node"], answer["node_generation"]) == ("b", 2)
    cluster.settled()
    there = cluster.folder_of(cluster.b, ANN)
    [aside] = (cluster.a.server.data / "replaced").iterdir()
    for name in ("keys", "mail.db"):
        assert (there / name).read_bytes() == (aside / name).read_bytes()
    assert {path.name for path in folder.iterdir()} == {"node", "lock", "keys.lock"}
    assert (folder / "node").read_text() == (there / "node").read_text() == "2\n"
    assert cluster.b.count(ANN) == 2
    assert "[UNAVAILABLE]" in cluster.a.login_error(ANN)
    assert cluster.a.replies(ANN) == [250]
    assert cluster.b.count(ANN) == 3


def state(node: Node, who: str) -> dict[str, object]:
    """All that a client knows of an INBOX."""
    client = node.server.imap(who, SECRET)
    status = client.status("INBOX", "(UIDVALIDITY UIDNEXT MESSAGES HIGHESTMODSEQ)")[1]
    client.select("INBOX", readonly=True)
    rows = client.fetch("1:*", "(UID FLAGS MODSEQ BODY.PEEK[])")[1]
    found: dict[str, object] = {"status": status, "rows": rows, "names": client.lsub()[1]}
    client.logout()
    return found


def test_a_session_ends_and_finds_everything_as_it_was(cluster: MovingCluster) -> None:
    """UIDVALIDITY, UIDs, MODSEQ, flags, subscriptions; whoever is in IDLE hears BYE."""
    source = cluster.owner(BOB)
    target = cluster.other(source)
    assert source.replies(BOB) == source.replies(BOB) == [250]
    client = source.server.imap(BOB, SECRET)
    client.create("Kept")
    client.subscribe("Kept")
    client.select("INBOX")
    client.store("1", "+FLAGS", r"(\Flagged $Important)")
    client.logout()
    before = state(source, BOB)
    idle = source.server.imap(BOB, SECRET)
    idle.select("INBOX")
    idle.send(b"x IDLE\r\n")
    source.cli("account", "move", BOB, target.name)
    while not (line := idle.readline()).startswith(b"* BYE"):
        assert line, "it ended without a word"
    idle.shutdown()
    assert state(target, BOB) == before
    cluster.settled()


class Sender(threading.Thread):
    """Brings one message after the other to an account, in turn by way of both nodes."""

    def __init__(self, cluster: MovingCluster, who: str) -> None:
        super().__init__()
        self._cluster, self._who = cluster, who
        self.answered: list[int] = []
        self.others: set[int] = set()
        self.ending = threading.Event()

    def run(self) -> None:
        """Until it is to end."""
        number = 0
        while not self.ending.is_set():
            number += 1
            node = (self._cluster.a, self._cluster.b)[number % 2]
            message = f"Subject: number {number}\r\n\r\nx\r\n".encode()
            [code] = node.replies(self._who, message=message)
            if code == 250:
                self.answered.append(number)
            else:
                self.others.add(code)


def subjects(node: Node, who: str) -> list[bytes]:
    """Of all messages."""
    client = node.server.imap(who, SECRET)
    client.select("INBOX", readonly=True)
    rows = client.fetch("1:*", "(BODY.PEEK[HEADER.FIELDS (SUBJECT)])")[1]
    client.logout()
    return [row[1].strip() for row in rows if isinstance(row, tuple)]


def test_nothing_that_was_answered_250_is_lost_while_the_account_goes_back_and_forth(
    cluster: MovingCluster,
) -> None:
    """Everything else was put off."""
    sender = Sender(cluster, ANN)
    sender.start()
    try:
        for _ in range(4):
            source = cluster.owner(ANN)
            source.cli("account", "move", ANN, cluster.other(source).name)
            before = len(sender.answered)
            eventually(lambda before=before: len(sender.answered) > before, 60)
    finally:
        sender.ending.set()
        sender.join()
    assert sender.others <= {451}
    found = subjects(cluster.owner(ANN), ANN)
    assert {b"Subject: number %d" % number for number in sender.answered} <= set(found)
    cluster.settled()


@contextmanager
def stopped(process: int) -> Iterator[None]:
    """It does nothing meanwhile."""
    os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGCONT)


VICTIMS = [
    "the command",
    "the snapshot process of the source",
    "that of the target",
    "the source",
    "the target",
]


@pytest.mark.parametrize("victim", VICTIMS)
@pytest.mark.parametrize("at", ["it copies", "it is closed"])
def test_whoever_is_killed_the_account_is_at_one_node(cluster: MovingCluster, victim: str, at: str) -> None:
    """And has its mail. The target is stopped when it would copy, and a lock keeps the account here."""
    source = cluster.owner(BOB)
    target = cluster.other(source)
    before = state(source, BOB)
    paths = AccountPaths(cluster.folder_of(source, BOB))
    held = stopped(cluster.snapshot_process(target)) if at == "it copies" else shared_lock(paths)
    with held:
        command = cluster.begin_move(BOB, source, target)
        if at == "it copies":
            eventually(lambda: cluster.phase(BOB) is Phase.COPYING, 60)
        else:
            eventually(paths.moving.exists, 60)
        assert command.poll() is None
        match victim:
            case "the command":
                command.kill()
            case "the snapshot process of the source":
                os.kill(cluster.snapshot_process(source), signal.SIGKILL)
            case "that of the target":
                os.kill(cluster.snapshot_process(target), signal.SIGKILL)
            case "the source":
                source.server.kill()
            case _:
                target.server.kill()
    if victim in ("the source", "the target"):
        (source if victim == "the source" else target).start()
    said, errors = command.communicate(timeout=200)
    cluster.settled()
    owner = cluster.owner(BOB)
    assert state(owner, BOB) == before
    assert "[UNAVAILABLE]" in cluster.other(owner).login_error(BOB)
    if command.returncode == 0:
        assert json.loads(said)["node"] == owner.name == target.name
    elif victim != "the command":
        assert b"stays here" in errors and owner is source


def refused(node: Node, *arguments: str) -> tuple[int, str]:
    """Exit code and sentence of a command."""
    words = [*SEALBOX, *arguments, "--config", str(node.config)]
    done = subprocess.run(words, capture_output=True, timeout=60, check=False)
    return done.returncode, done.stderr.decode()


def test_what_cannot_be_is_said(cluster: MovingCluster) -> None:
    """Before anything is done."""
    source = cluster.owner(BOB)
    target = cluster.other(source)
    for words, code, sentence in (
        ((BOB, "c"), 3, "there is no such node"),
        ((BOB, source.name), 3, "the account is on that node"),
        (("nobody@localhost", target.name), 3, "there is no such account"),
        ((BOB, "--cancel"), 3, "this account is not being moved"),
        ((BOB,), 3, "give a node"),
    ):
        found, said = refused(source, "account", "move", *words)
        assert (found, sentence in said) == (code, True), said
    found, said = refused(target, "account", "move", BOB, source.name)
    assert found == 3 and "another node has this account" in said
