"""A node is lost with everything on it: another one takes its accounts from the bucket, and it comes back."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from running import SEALBOX, answer_of, eventually
from stores_world import BUCKET, fresh_prefix
from two_nodes import ANN, BOB, MESSAGE, Cluster, More, Node

from tests import postgresql as postgresql_server
from tests.postgresql import PostgreSql
from tests.r2_server import ACCESS_KEY_ID, SECRET_ACCESS_KEY, R2Server

pytestmark = pytest.mark.integration

BUSY = 5
OTHERS = [f"user{number}@localhost" for number in range(3)]
LEASE_S = {"a": 3600.0, "b": 15.0}


@dataclass
class World:
    """Node b has the accounts of BOB and OTHERS, and snapshots in a bucket."""

    cluster: Cluster
    private_key: Path

    def recover(self) -> list[str]:
        """The command on node a."""
        words = ("node", "recover", "b", "--private-key", self.private_key, "--json")
        return [*SEALBOX, *map(str, words), "--config", str(self.cluster.a.config)]

    def at_a(self) -> int:
        """Accounts that node a has by now."""
        listed: list[dict[str, str]] = self.cluster.a.cli("account", "list")["accounts"]  # type: ignore[assignment]  # JSON
        return sum(one["node"] == "a" for one in listed)

    def folders(self) -> int:
        """Folders of accounts on the disk of node a."""
        return len(list(self.cluster.a.server.data.glob("accounts/??/*")))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, r2: R2Server) -> Iterator[World]:
    """Both serve."""
    postgresql_server.require()
    folder, prefix = tmp_path_factory.mktemp("lost"), fresh_prefix()
    answer_of("backup", "keygen", "--private", str(folder / "private"), "--public", str(folder / "public"))
    keys = f'access_key_id = "{ACCESS_KEY_ID}"\nsecret_access_key = "{SECRET_ACCESS_KEY}"\n'
    (folder / "s3.toml").write_text(keys)

    def more(name: str) -> More:
        backup = (
            f'[backup]\nstore = "s3://{BUCKET}/{prefix}/{name}"\nendpoint = "{r2.endpoint}"\n'
            f'credentials = "{folder}/s3.toml"\npublic_key = "{folder}/public"\n'
        )
        return More(settings=backup)

    database = PostgreSql()
    cluster: Cluster | None = None
    try:
        cluster = Cluster(folder, database.start(), lease_s=LEASE_S, more={name: more(name) for name in "ab"})
        for name in OTHERS:
            cluster.b.add(name)
        yield World(cluster, folder / "private")
    finally:
        for node in cluster.nodes.values() if cluster is not None else ():
            if node.server.process is not None:
                node.server.stop()
        database.stop()


def has_everything_stored(node: Node) -> bool:
    """After a run; one that began while the node had no lease yet has taken nothing."""
    node.cli("backup", "run")
    found = node.cli("backup", "status")
    return not found["without_snapshot"] and not found["waiting_segments"]


def test_a_lost_node_is_recovered_by_another_whatever_is_killed(world: World) -> None:
    """Not before its lease is over; mail for those that are not there yet is put off, nothing comes twice."""
    a, b = world.cluster.a, world.cluster.b
    assert b.replies(BOB, *OTHERS) == [250] * 4
    assert b.count(BOB) == 1
    eventually(lambda: has_everything_stored(b), 60.0)
    alive = subprocess.run(world.recover(), capture_output=True, check=False)
    assert (alive.returncode, b"has renewed its lease, so it serves" in alive.stderr) == (BUSY, True)
    b.server.kill()
    assert a.replies(BOB, ANN) == [451, 250]
    for step in range(4):
        before = world.folders()
        running = subprocess.Popen(world.recover(), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        # One more folder is there, or in the last round it is done.
        eventually(lambda seen=before, one=running: world.folders() > seen or one.poll() is not None, 60.0)
        if step < 3:
            running.send_signal(signal.SIGKILL)
        out, err = running.communicate(timeout=120)
        assert step < 3 or running.returncode == 0, (out, err)
    assert world.at_a() == 1 + 1 + len(OTHERS)
    assert [a.count(one) for one in (BOB, *OTHERS)] == [1] * 4
    assert a.replies(BOB, *OTHERS) == [250] * 4
    assert [a.count(one) for one in (BOB, *OTHERS)] == [2] * 4
    a.cli("backup", "run")


def test_a_lost_node_that_comes_back_opens_nothing_and_passes_mail_on(world: World) -> None:
    """Also when it may serve again: all of its accounts are elsewhere."""
    a, b = world.cluster.a, world.cluster.b
    before, folders = a.count(BOB), sorted(b.server.data.glob("accounts/??/*/mail.db"))
    b.start()
    eventually(lambda: "node b was marked as lost" in b.server.errors())
    assert "[UNAVAILABLE]" in b.login_error(BOB)
    assert b.replies(BOB) == [250]
    assert a.count(BOB) == before + 1
    a.cli("node", "add", "b", f"127.0.0.1:{b.port}", "--again")
    eventually(lambda: "node b: its lease is renewed" in b.server.errors())
    assert "[UNAVAILABLE]" in b.login_error(BOB)
    b.add("new@localhost")
    assert a.replies("new@localhost", message=MESSAGE) == [250]
    assert b.count("new@localhost") == 1
    assert set(folders) <= set(b.server.data.glob("accounts/??/*/mail.db"))
