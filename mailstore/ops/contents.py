"""Everything in a database as one checksum for each table, to compare a copy with what it was made from."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from mailstore.engine import Row, Txn


@dataclass(frozen=True, slots=True)
class TableContents:
    """How many rows a table has, and the SHA-256 of all their values in order."""

    rows: int
    digest: bytes


class _Digest:
    """Takes rows in."""

    def __init__(self) -> None:
        self.rows = 0
        self.hash = hashlib.sha256()

    def take(self, row: Row) -> None:
        """One more row; each value with its type and length, so that no two rows look alike."""
        self.rows += 1
        for value in row:
            raw = value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")
            self.hash.update(b"%s %d " % (type(value).__name__.encode("ascii"), len(raw)))
            self.hash.update(raw)


def contents(txn: Txn) -> dict[str, TableContents]:
    """Every table, the schema and the version; reads all of it, with one row in memory at a time."""
    found = {
        "sqlite_schema": _of(txn, "SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY type, name")
    }
    for name, has_rowid in txn.rows(
        "SELECT name, NOT wr FROM pragma_table_list"
        " WHERE schema = 'main' AND type = 'table' AND name <> 'sqlite_schema' ORDER BY name"
    ):
        quoted = '"' + name.replace('"', '""') + '"'
        if not has_rowid:
            query = f"SELECT * FROM {quoted} ORDER BY {_primary_key(txn, name)}"
        elif name.startswith("sqlite_"):
            query = f"SELECT * FROM {quoted} ORDER BY 1, 2"  # SQLite's own numbers of these rows mean nothing
        else:
            query = f"SELECT rowid, * FROM {quoted} ORDER BY rowid"
        found[name] = _of(txn, query)
    version = _Digest()
    version.take(txn.rows("PRAGMA user_version")[0])
    found["user_version"] = TableContents(version.rows, version.hash.digest())
    return found


def _primary_key(txn: Txn, table: str) -> str:
    columns = txn.rows("SELECT name FROM pragma_table_info(?) WHERE pk ORDER BY pk", (table,))
    return ", ".join('"' + name.replace('"', '""') + '"' for (name,) in columns)


def _of(txn: Txn, query: str) -> TableContents:
    taken = _Digest()
    txn.each(taken.take, query)
    return TableContents(taken.rows, taken.hash.digest())
