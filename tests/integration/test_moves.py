"""Accounts that move between two servers, while they are in use."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from move_cluster import ANN, MovingCluster

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
