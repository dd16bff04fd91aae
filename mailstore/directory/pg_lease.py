"""A node's lease in PostgreSQL, by the one clock that all nodes ask.

Each renewal has a connection of its own: none is kept open for what comes once in minutes, and none that
hangs is in the way of logins.
"""

from __future__ import annotations

from collections.abc import Callable

from mailstore.directory import pg_schema
from mailstore.directory.pg_connection import Database, Txn
from mailstore.directory.pg_rows import NODE
from mailstore.errors import NodeIsLost, NoSuchNode
from mailstore.limits import DirectoryLimits


def lease_in(
    url: str, cluster_key: bytes, limits: DirectoryLimits, node: str, lease_s: float
) -> Callable[[], None]:
    """What renews the lease of ``node``, so that it lasts for at least ``lease_s`` seconds from the call on.

    It raises NoSuchNode, NodeIsLost; as :meth:`Database.write` does, and then it may have been renewed.
    """
    database = Database(url, limits, lambda _txn: None, tells=False)

    def work(txn: Txn) -> None:
        row = pg_schema.opened(txn, cluster_key).hashed(NODE, node)
        # Another process of the node may have been given more, by a configuration of before.
        renewed = txn.run(
            "UPDATE sealbox_node SET leased_until ="
            " greatest(leased_until, clock_timestamp() + %s * interval '1 second')"
            " WHERE id = %s AND NOT is_lost",
            (lease_s, row),
        )
        if renewed == 0:
            is_there = txn.one("SELECT 1 FROM sealbox_node WHERE id = %s", (row,)) is not None
            raise NodeIsLost if is_there else NoSuchNode

    return lambda: database.write(work, checked=False)


__all__ = ["lease_in"]
