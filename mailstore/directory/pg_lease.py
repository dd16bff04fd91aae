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
) -> Callable[[], int]:
    """What renews the lease of ``node``, so that it lasts for at least ``lease_s`` seconds from the call on.

    It says how often the node has been marked as lost. It raises NoSuchNode, NodeIsLost; as
    :meth:`Database.write` does, and then it may have been renewed.
    """
    database = Database(url, limits, lambda _txn: None, tells=False)

    def work(txn: Txn) -> int:
        row = pg_schema.opened(txn, cluster_key).hashed(NODE, node)
        # Another process of the node may have been given more, by a configuration of before.
        renewed = txn.run(
            "UPDATE sealbox_node SET leased_until ="
            " greatest(leased_until, clock_timestamp() + %s * interval '1 second')"
            " WHERE id = %s AND NOT is_lost",
            (lease_s, row),
        )
        found = txn.one("SELECT times_lost FROM sealbox_node WHERE id = %s", (row,))
        if found is None:
            raise NoSuchNode
        if renewed == 0:
            raise NodeIsLost
        return int(found[0])

    return lambda: int(database.write(work, checked=False))


__all__ = ["lease_in"]
