"""A node that does not reach PostgreSQL: it serves for as long as its lease, and not a moment longer."""

from __future__ import annotations

import imaplib
import signal
from collections.abc import Iterator

import pytest
from running import Server, eventually
from two_nodes import ANN, BOB, SECRET, Cluster, Node

from tests import postgresql as postgresql_server
from tests.postgresql import PostgreSql

pytestmark = pytest.mark.integration

QUICK = "connect_timeout_s = 2\nquery_timeout_s = 0.5\nretry_max_s = 0.5"
"""How soon it is noticed that PostgreSQL is away, and back."""

OVER = "its lease is over"


class World:
    """Node a has a lease of seconds, node b one of hours."""

    def __init__(self, cluster: Cluster, database: PostgreSql) -> None:
        self.cluster, self.database = cluster, database
        self.a, self.b = cluster.a, cluster.b


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Both serve."""
    postgresql_server.require()
    database = PostgreSql()
    found: Cluster | None = None
    try:
        folder = tmp_path_factory.mktemp("leases")
        found = Cluster(folder, database.start(), QUICK, {"a": 10.0, "b": 3600.0})
        yield World(found, database)
    finally:
        for node in found.nodes.values() if found is not None else ():
            if node.server.process is not None:
                node.server.stop()
        database.stop()


def idle(server: Server, who: str) -> imaplib.IMAP4:
    """A session that waits for news."""
    client = server.imap(who, SECRET)
    client.select("INBOX")
    client.send(b"i IDLE\r\n")
    assert client.readline() == b"+ idling\r\n"
    return client


def is_open(node: Node, who: str) -> bool:
    """Whether a login succeeds; one that does not is put off, not refused."""
    client = imaplib.IMAP4_SSL(
        "127.0.0.1", node.server.info["imaps"], ssl_context=node.server.tls(), timeout=60
    )
    with client:
        try:
            client.login(who, SECRET)
        except imaplib.IMAP4.error as error:
            assert "[UNAVAILABLE]" in str(error)
            return False
        return True


@pytest.mark.parametrize("how", [signal.SIGSTOP, signal.SIGKILL])
def test_a_node_that_is_cut_off_falls_silent_and_comes_back(world: World, how: signal.Signals) -> None:
    """Its sessions are told BYE, logins and mail are put off; the node with time left serves on."""
    eventually(lambda: is_open(world.a, ANN))
    assert is_open(world.b, BOB)
    eventually(lambda: world.a.replies(ANN) == [250])
    assert world.b.replies(BOB) == [250]
    waiting, before = idle(world.a.server, ANN), world.a.server.errors().count(OVER)
    if how is signal.SIGSTOP:
        world.database.signal(how)
    else:
        world.database.kill()
    try:
        said = b""
        while line := waiting.readline():  # until the server has ended the session
            said += line
        waiting.shutdown()
        assert b"* BYE" in said
        eventually(lambda: world.a.server.errors().count(OVER) > before)
        assert not is_open(world.a, ANN)
        assert world.a.replies(ANN) == [451]
        assert is_open(world.b, BOB)
        assert world.b.replies(BOB) == [250]
    finally:
        if how is signal.SIGSTOP:
            world.database.signal(signal.SIGCONT)
        else:
            world.database.start()
    eventually(lambda: is_open(world.a, ANN))
    eventually(lambda: world.a.replies(ANN) == [250])


def test_a_node_that_the_directory_does_not_have_serves_nobody(world: World) -> None:
    """Its log says what to do, and it need not be started again."""
    name = world.a.config.read_text()
    assert world.a.server.stop() == 0
    world.a.config.write_text(name.replace('name = "a"', 'name = "c"'))
    world.a.start()
    eventually(lambda: "run 'sealbox node add c HOST:PORT'" in world.a.server.errors())
    assert not is_open(world.a, ANN)
    world.a.cli("node", "add", "c", "127.0.0.1:1")
    eventually(lambda: "node c: its lease is renewed" in world.a.server.errors())
    assert world.a.server.stop() == 0
    world.a.config.write_text(name)
    world.a.start()
    world.a.cli("node", "remove", "c")
    eventually(lambda: is_open(world.a, ANN))
