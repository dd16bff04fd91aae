"""The tables of a directory in PostgreSQL, and how each version of them becomes the next."""

import os

from mailstore.directory.pg_connection import Database, Txn
from mailstore.directory.sealing import DIRECTORY_ID_BYTES, Place, Sealer
from mailstore.errors import DirectoryEmpty, DirectoryKeyWrong, DirectoryOutdated, TooNew

SCHEMA_VERSION = 5
_ADVISORY_LOCK = 0x5EA1B0C5
"""Whoever makes or migrates tables holds it until the end of the transaction."""

_SEALED = "key_id bytea NOT NULL, changed bigint NOT NULL, sealed bytea NOT NULL"
_VERSION_1 = f"""
CREATE TABLE sealbox_directory (
    single boolean PRIMARY KEY DEFAULT true CHECK (single), version integer NOT NULL, id bytea NOT NULL,
    changes bigint NOT NULL, {_SEALED});
CREATE TABLE sealbox_domain (id bytea PRIMARY KEY, {_SEALED});
CREATE TABLE sealbox_account (
    id bytea PRIMARY KEY, domain bytea NOT NULL REFERENCES sealbox_domain, has_delay boolean NOT NULL,
    {_SEALED});
CREATE TABLE sealbox_address (
    id bytea PRIMARY KEY, domain bytea NOT NULL REFERENCES sealbox_domain,
    account bytea NOT NULL REFERENCES sealbox_account ON DELETE CASCADE, is_name boolean NOT NULL, {_SEALED});
CREATE INDEX sealbox_account_domain ON sealbox_account (domain);
CREATE INDEX sealbox_account_delay ON sealbox_account (id) WHERE has_delay;
CREATE INDEX sealbox_address_domain ON sealbox_address (domain);
CREATE INDEX sealbox_address_account ON sealbox_address (account);
CREATE UNIQUE INDEX sealbox_address_name ON sealbox_address (account) WHERE is_name;
"""
_VERSION_2 = f"CREATE TABLE sealbox_node (id bytea PRIMARY KEY, {_SEALED});"
_VERSION_3 = f"""
CREATE TABLE sealbox_move (
    account bytea PRIMARY KEY REFERENCES sealbox_account ON DELETE CASCADE,
    touched timestamptz NOT NULL DEFAULT clock_timestamp(), {_SEALED});
"""
_VERSION_4 = """
ALTER TABLE sealbox_node ADD COLUMN leased_until timestamptz,
    ADD COLUMN is_lost boolean NOT NULL DEFAULT false;
"""
_VERSION_5 = "ALTER TABLE sealbox_node ADD COLUMN times_lost integer NOT NULL DEFAULT 0;"
MIGRATIONS = (_VERSION_1, _VERSION_2, _VERSION_3, _VERSION_4, _VERSION_5)
"""The statements that lead from each version to the next; never edited later."""

SETTINGS_TABLE = "directory"


def settings_place(changed: int) -> Place:
    """Where the one row of ``sealbox_directory`` is."""
    return Place(SETTINGS_TABLE, b"", changed)


def is_made(database: Database) -> bool:
    """Whether the database has a directory. Raises as :meth:`Database.read` does."""
    return bool(database.write(lambda txn: _version(txn) > 0, checked=False))


def make(database: Database, cluster_key: bytes) -> None:
    """Create or migrate the tables, where that is due.

    Raises DirectoryKeyWrong, TooNew, DirectoryRefused: the role may not create tables; as
    :meth:`Database.write` does.
    """
    database.write(_make, cluster_key, checked=False)


def _make(txn: Txn, cluster_key: bytes) -> None:
    # First: PostgreSQL remembers until the end of a transaction that a table was not there.
    txn.rows("SELECT pg_advisory_xact_lock(%s)", (_ADVISORY_LOCK,))
    version = _version(txn)
    if version > SCHEMA_VERSION:
        raise TooNew
    for statements in MIGRATIONS[version:]:
        txn.script(statements)
    if version == 0:
        directory_id = os.urandom(DIRECTORY_ID_BYTES)
        sealer = Sealer(cluster_key, directory_id)
        sealed = sealer.seal(settings_place(0), {"default_domain": None})
        statement = (
            "INSERT INTO sealbox_directory (version, id, changes, key_id, changed, sealed)"
            " VALUES (%s, %s, 0, %s, 0, %s)"
        )
        txn.run(statement, (SCHEMA_VERSION, directory_id, sealer.key_id, sealed))
    elif version < SCHEMA_VERSION:
        txn.run("UPDATE sealbox_directory SET version = %s", (SCHEMA_VERSION,))
    opened(txn, cluster_key)


def _version(txn: Txn) -> int:
    if txn.rows("SELECT to_regclass('sealbox_directory')")[0][0] is None:
        return 0
    found = txn.one("SELECT version FROM sealbox_directory")
    return 0 if found is None else int(found[0])


def opened(txn: Txn, cluster_key: bytes) -> Sealer:
    """The keys of the directory that is there.

    Raises DirectoryEmpty, DirectoryOutdated, TooNew, DirectoryKeyWrong.
    """
    version = _version(txn)
    if version > SCHEMA_VERSION:
        raise TooNew
    if version == 0:
        raise DirectoryEmpty
    if version < SCHEMA_VERSION:
        raise DirectoryOutdated
    [(directory_id, changed, sealed)] = txn.rows("SELECT id, changed, sealed FROM sealbox_directory")
    sealer = Sealer(cluster_key, bytes(directory_id))
    try:
        sealer.open(settings_place(changed), bytes(sealed))
    except ValueError:
        raise DirectoryKeyWrong from None
    return sealer
