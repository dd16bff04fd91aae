"""How directories of before get to know nodes, and what is restored on one."""

from __future__ import annotations

from dataclasses import replace

from directory_worlds import ANN, JOE, record

from backup.catalogue import Server
from backup.take_over import restore_server
from mailstore.account import init_root, open_directory
from mailstore.directory import Node, call_node, pg_schema
from mailstore.directory.postgresql import PostgresDirectory, make_in
from mailstore.limits import DirectoryLimits

KEY = bytes(range(32))
LIMITS = DirectoryLimits(connect_timeout_s=60.0, query_timeout_s=60.0)


def test_tables_of_version_1_are_migrated(postgresql, monkeypatch):
    """Accounts of before are on no node, until one claims them."""
    url = postgresql.new_place()
    monkeypatch.setattr(pg_schema, "MIGRATIONS", pg_schema.MIGRATIONS[:1])
    monkeypatch.setattr(pg_schema, "SCHEMA_VERSION", 1)
    make_in(url, KEY, LIMITS)
    directory = PostgresDirectory(url, KEY, LIMITS)
    directory.add_account(record())
    directory.close()
    monkeypatch.undo()
    make_in(url, KEY, LIMITS)
    directory = PostgresDirectory(url, KEY, LIMITS)
    assert (directory.account(JOE), directory.nodes()) == (record(), [])
    directory.put_node(Node("a", "192.0.2.1:24"))
    directory.set_node(JOE, "a", 1)
    assert directory.resolve("joe@example.org").node == "a"
    directory.close()


def test_a_copy_of_the_database_names_no_node(postgresql):
    """Neither in the row of the node nor in those of its accounts."""
    url = postgresql.new_place()
    make_in(url, KEY, LIMITS)
    directory = PostgresDirectory(url, KEY, LIMITS)
    directory.add_account(record())
    directory.put_node(Node("northern", "northern.example.org:24"))
    directory.set_node(JOE, "northern", 1)
    directory.close()
    assert b"northern" not in postgresql.dump(url)


def test_a_server_that_is_restored_on_a_node_has_its_accounts_there(tmp_path):
    """Under a generation after that of the snapshots; accounts that the directory knows stay."""
    init_root(tmp_path)
    directory = open_directory(tmp_path)
    for name in "ab":
        directory.put_node(Node(name, "192.0.2.1:24"))
    ann = replace(record(ANN, "ann@example.org"), node="b", node_generation=9)
    directory.add_account(ann)
    call_node(tmp_path, "a")
    joe = replace(record(), node="b", node_generation=4)
    key = (tmp_path / "server.key").read_text().strip()
    restore_server(
        tmp_path,
        Server(
            accounts={JOE: joe, ANN: ann},
            domains=["example.org"],
            default_domain="example.org",
            server_key=bytes.fromhex(key),
        ),
    )
    call_node(tmp_path, None)
    found = {one.account_id: (one.node, one.node_generation) for one in directory.accounts()}
    assert found == {JOE: ("a", 5), ANN: ("b", 9)}
    directory.close()
