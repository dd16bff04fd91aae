"""What a read costs, in instructions of SQLite's virtual machine: the same on every machine."""

from __future__ import annotations

from collections.abc import Callable

from mailstore.engine import Database
from mailstore.open_account import OpenAccount
from tests.unit.store.store_world import now


def steps(account: OpenAccount, fn: Callable[..., object], *args: object) -> int:
    """Instructions that a read transaction with ``fn(txn, *args)`` takes."""
    count = 0

    def counted() -> int:
        nonlocal count
        count += 1
        return 0

    def run(database: Database) -> None:
        database._connection.set_progress_handler(counted, 1)
        try:
            database.read(0, fn, *args)
        finally:
            database._connection.set_progress_handler(None, 1)

    now(account._rest._databases.readers.run(run))
    return count
