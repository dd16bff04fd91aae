"""The directory: which address belongs to which account. No mail, no secret of a user.

:class:`Directory` is the interface; :class:`EmbeddedDirectory` keeps it in ROOT/directory.db, an
SQLCipher file opened with the server's key. Its methods block: call them in threads. Any number of
threads and processes may use one file at once.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, Full, LifoQueue
from typing import Any, Protocol

from sqlcipher3 import dbapi2 as sqlcipher

from mailstore.address import read_address, read_domain, read_login_name, require_address, require_domain
from mailstore.damage import tell_directory
from mailstore.durable import FILE_MODE, storage_errors
from mailstore.errors import (
    AccountExists,
    Busy,
    DatabaseDamaged,
    DomainInUse,
    NoSuchAccount,
    NoSuchAddress,
    NoSuchDomain,
    StorageFailed,
    StorageFull,
    TooNew,
)
from mailstore.keys import AccountId, KeyLabel, PublicKey, derive
from mailstore.model import Pop3Settings
from mailstore.room import is_full, require_room_to_open

# Connections and rows are Any below: sqlcipher3 ships no type information.
SCHEMA_VERSION = 2
BUSY_TIMEOUT_MS = 30_000
IDLE_CONNECTIONS = 8
_KEY_BYTES = 32
_SALT_BYTES = 16

_VERSION_1 = """
CREATE TABLE setting (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE domain (name TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;
CREATE TABLE account (
    id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, public_key BLOB NOT NULL,
    header_generation INTEGER NOT NULL, quota_bytes INTEGER, created INTEGER NOT NULL,
    disabled INTEGER NOT NULL DEFAULT 0) STRICT, WITHOUT ROWID;
CREATE TABLE address (
    name TEXT PRIMARY KEY, domain TEXT NOT NULL REFERENCES domain(name),
    account_id TEXT NOT NULL REFERENCES account(id) ON DELETE CASCADE) STRICT, WITHOUT ROWID;
CREATE INDEX address_domain ON address(domain);
CREATE INDEX address_account ON address(account_id);
"""
_VERSION_2 = """
ALTER TABLE account ADD COLUMN pop3_maildrop TEXT NOT NULL DEFAULT 'INBOX';
ALTER TABLE account ADD COLUMN pop3_retr_marks_seen INTEGER NOT NULL DEFAULT 0;
ALTER TABLE account ADD COLUMN pop3_dele_to_trash INTEGER NOT NULL DEFAULT 0;
ALTER TABLE account ADD COLUMN pop3_login_delay_s INTEGER;
CREATE INDEX account_login_delay ON account(pop3_login_delay_s) WHERE pop3_login_delay_s IS NOT NULL;
"""
_MIGRATIONS = (_VERSION_1, _VERSION_2)
"""What leads to each version from the one before; never edited later."""

_ACCOUNT = (
    "SELECT id, name, public_key, header_generation, quota_bytes, created, disabled, pop3_maildrop,"
    " pop3_retr_marks_seen, pop3_dele_to_trash, pop3_login_delay_s FROM account"
)


@dataclass(frozen=True, slots=True)
class AccountRecord:
    """What the directory knows about an account. ``name`` is its primary address; times in epoch s."""

    account_id: AccountId
    name: str = field(repr=False)
    public_key: PublicKey = field(repr=False)
    header_generation: int
    quota_bytes: int | None
    created: int
    disabled: bool
    pop3: Pop3Settings = field(default_factory=Pop3Settings)


@dataclass(frozen=True, slots=True)
class Recipient:
    """Where mail for an address goes. ``mailbox_hint`` is the detail of user+detail@domain."""

    account_id: AccountId
    public_key: PublicKey = field(repr=False)
    mailbox_hint: str | None = field(repr=False)
    quota_bytes: int | None
    disabled: bool


@dataclass(frozen=True, slots=True)
class Alias:
    """A further address of an account."""

    address: str = field(repr=False)
    account_name: str = field(repr=False)


class Directory(Protocol):
    """What the rest of the program asks a directory; every method blocks and may raise StorageFailed."""

    def resolve(self, address: str | bytes) -> Recipient | None:
        """The account that mail for ``address`` goes to, None if there is none; never raises for odd text."""

    def login(self, name: str | bytes) -> AccountRecord | None:
        """The account whose name a client gave, None if there is none; never raises for odd text."""

    def account(self, account_id: AccountId) -> AccountRecord | None:
        """The record of one account."""

    def accounts(self) -> list[AccountRecord]:
        """All accounts, sorted by name."""

    def add_account(self, record: AccountRecord) -> None:
        """Add an account, its name as an address, and its domain. Raises AccountExists, AddressInvalid."""

    def remove_account(self, account_id: AccountId) -> None:
        """Remove an account and its addresses; no error if it is gone already."""

    def set_disabled(self, account_id: AccountId, disabled: bool) -> None:
        """Lock or unlock an account. Raises NoSuchAccount."""

    def set_quota(self, account_id: AccountId, quota_bytes: int | None) -> None:
        """Set the storage limit, None for none. Raises NoSuchAccount."""

    def set_pop3(self, account_id: AccountId, settings: Pop3Settings) -> None:
        """Set how the account uses POP3, from its next login on. Raises NoSuchAccount."""

    def largest_pop3_login_delay_s(self) -> int:
        """The greatest ``Pop3Settings.login_delay_s`` of any account; 0 when none has its own."""

    def advance_header_generation(self, account_id: AccountId, generation: int) -> None:
        """Remember that a header of this generation exists; never goes backwards."""

    def set_header(self, account_id: AccountId, public_key: PublicKey, generation: int) -> None:
        """Take the word of a restored header, backwards too. Raises NoSuchAccount."""

    def aliases(self, account_id: AccountId | None = None) -> list[Alias]:
        """Addresses other than account names, sorted; of one account if given."""

    def add_alias(self, address: str, account_id: AccountId) -> None:
        """Add an address. Raises AddressInvalid, NoSuchDomain, AccountExists, NoSuchAccount."""

    def remove_alias(self, address: str) -> None:
        """Remove an address that is not an account's name. Raises NoSuchAddress."""

    def domains(self) -> list[str]:
        """All domains, sorted."""

    def add_domain(self, domain: str) -> None:
        """Add a domain; no error if it is there. The first one becomes the default. Raises AddressInvalid."""

    def remove_domain(self, domain: str) -> None:
        """Remove a domain that no address uses. Raises NoSuchDomain, DomainInUse."""

    def default_domain(self) -> str | None:
        """The domain of a login name without one."""

    def set_default_domain(self, domain: str) -> None:
        """Choose it among the domains. Raises NoSuchDomain."""


class EmbeddedDirectory:
    """The directory in one SQLCipher file; see :class:`Directory` for its methods."""

    def __init__(self, path: Path, server_key: bytes) -> None:
        """Open or create ``path``. Raises StorageFailed (wrong key, damage), TooNew."""
        self._path = path
        key = derive(server_key, KeyLabel.DIRECTORY, _KEY_BYTES)
        self._raw_key = (key + derive(server_key, KeyLabel.DIRECTORY_SALT, _SALT_BYTES)).hex()
        self._idle: LifoQueue[Any] = LifoQueue(IDLE_CONNECTIONS)
        with storage_errors():
            # SQLite gives the WAL the mode of the main file, so the file is made before SQLite can.
            path.touch(mode=FILE_MODE)
        with self._change() as connection:
            _create_or_check(connection)

    def close(self) -> None:
        """Close the idle connections; the object may not be used afterwards."""
        while True:
            try:
                self._idle.get_nowait().close()
            except Empty:
                return

    def resolve(self, address: str | bytes) -> Recipient | None:
        """See :class:`Directory`."""
        wanted = read_address(address)
        if wanted is None:
            return None
        query = (
            "SELECT id, public_key, quota_bytes, disabled FROM account"
            " WHERE id = (SELECT account_id FROM address WHERE name = ?)"
        )
        with self._read() as connection:
            # An address registered with its + goes before the rule for details.
            for name, hint in ((wanted.full, None), (wanted.base, wanted.detail or None)):
                row = connection.execute(query, (name,)).fetchone()
                if row is not None:
                    return Recipient(AccountId(row[0]), PublicKey(row[1]), hint, row[2], bool(row[3]))
        return None

    def login(self, name: str | bytes) -> AccountRecord | None:
        """See :class:`Directory`."""
        with self._read() as connection:
            wanted = read_login_name(name, _setting(connection, "default_domain"))
            row = connection.execute(f"{_ACCOUNT} WHERE name = ?", (wanted,)).fetchone()
            if row is None:
                # A name that nobody has costs what reading a record costs.
                for other in connection.execute(f"{_ACCOUNT} ORDER BY id LIMIT 1"):
                    _record(other)
        return None if row is None else _record(row)

    def account(self, account_id: AccountId) -> AccountRecord | None:
        """See :class:`Directory`."""
        with self._read() as connection:
            row = connection.execute(f"{_ACCOUNT} WHERE id = ?", (account_id,)).fetchone()
        return None if row is None else _record(row)

    def accounts(self) -> list[AccountRecord]:
        """See :class:`Directory`."""
        with self._read() as connection:
            return [_record(row) for row in connection.execute(f"{_ACCOUNT} ORDER BY name")]

    def add_account(self, record: AccountRecord) -> None:
        """See :class:`Directory`."""
        address = require_address(record.name)
        values = (
            record.account_id,
            address.full,
            record.public_key,
            record.header_generation,
            record.quota_bytes,
            record.created,
            int(record.disabled),
            *_pop3_columns(record.pop3),
        )
        with self._change() as connection:
            _require_free(connection, address.full)
            _ensure_domain(connection, address.domain)
            connection.execute("INSERT INTO account VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", values)
            connection.execute(
                "INSERT INTO address VALUES (?, ?, ?)", (address.full, address.domain, record.account_id)
            )

    def remove_account(self, account_id: AccountId) -> None:
        """See :class:`Directory`."""
        with self._change() as connection:
            connection.execute("DELETE FROM account WHERE id = ?", (account_id,))

    def set_disabled(self, account_id: AccountId, disabled: bool) -> None:
        """See :class:`Directory`."""
        self._update("UPDATE account SET disabled = ? WHERE id = ?", int(disabled), account_id)

    def set_quota(self, account_id: AccountId, quota_bytes: int | None) -> None:
        """See :class:`Directory`."""
        self._update("UPDATE account SET quota_bytes = ? WHERE id = ?", quota_bytes, account_id)

    def set_pop3(self, account_id: AccountId, settings: Pop3Settings) -> None:
        """See :class:`Directory`."""
        statement = (
            "UPDATE account SET pop3_maildrop = ?, pop3_retr_marks_seen = ?, pop3_dele_to_trash = ?,"
            " pop3_login_delay_s = ? WHERE id = ?"
        )
        self._update(statement, *_pop3_columns(settings), account_id)

    def largest_pop3_login_delay_s(self) -> int:
        """See :class:`Directory`."""
        # The condition is that of the index, so this reads one row of it however many accounts there are.
        query = "SELECT max(pop3_login_delay_s) FROM account WHERE pop3_login_delay_s IS NOT NULL"
        with self._read() as connection:
            return int(connection.execute(query).fetchone()[0] or 0)

    def advance_header_generation(self, account_id: AccountId, generation: int) -> None:
        """See :class:`Directory`."""
        statement = "UPDATE account SET header_generation = max(header_generation, ?) WHERE id = ?"
        self._update(statement, generation, account_id)

    def set_header(self, account_id: AccountId, public_key: PublicKey, generation: int) -> None:
        """See :class:`Directory`."""
        statement = "UPDATE account SET public_key = ?, header_generation = ? WHERE id = ?"
        self._update(statement, public_key, generation, account_id)

    def aliases(self, account_id: AccountId | None = None) -> list[Alias]:
        """See :class:`Directory`."""
        query = (
            "SELECT address.name, account.name FROM address JOIN account ON account.id = account_id"
            " WHERE address.name <> account.name AND (?1 IS NULL OR account_id = ?1) ORDER BY address.name"
        )
        with self._read() as connection:
            return [Alias(*row) for row in connection.execute(query, (account_id,))]

    def add_alias(self, address: str, account_id: AccountId) -> None:
        """See :class:`Directory`."""
        wanted = require_address(address)
        with self._change() as connection:
            if connection.execute("SELECT 1 FROM account WHERE id = ?", (account_id,)).fetchone() is None:
                raise NoSuchAccount
            if not _has_domain(connection, wanted.domain):
                raise NoSuchDomain
            _require_free(connection, wanted.full)
            connection.execute(
                "INSERT INTO address VALUES (?, ?, ?)", (wanted.full, wanted.domain, account_id)
            )

    def remove_alias(self, address: str) -> None:
        """See :class:`Directory`."""
        wanted = read_address(address)
        statement = "DELETE FROM address WHERE name = ?1 AND name NOT IN (SELECT name FROM account)"
        with self._change() as connection:
            if wanted is None or connection.execute(statement, (wanted.full,)).rowcount == 0:
                raise NoSuchAddress

    def domains(self) -> list[str]:
        """See :class:`Directory`."""
        with self._read() as connection:
            return [row[0] for row in connection.execute("SELECT name FROM domain ORDER BY name")]

    def add_domain(self, domain: str) -> None:
        """See :class:`Directory`."""
        name = require_domain(domain)
        with self._change() as connection:
            _ensure_domain(connection, name)

    def remove_domain(self, domain: str) -> None:
        """See :class:`Directory`."""
        name = read_domain(domain)
        with self._change() as connection:
            if name is None or not _has_domain(connection, name):
                raise NoSuchDomain
            if connection.execute("SELECT 1 FROM address WHERE domain = ?", (name,)).fetchone():
                raise DomainInUse
            connection.execute("DELETE FROM domain WHERE name = ?", (name,))
            connection.execute("DELETE FROM setting WHERE name = 'default_domain' AND value = ?", (name,))

    def default_domain(self) -> str | None:
        """See :class:`Directory`."""
        with self._read() as connection:
            return _setting(connection, "default_domain")

    def set_default_domain(self, domain: str) -> None:
        """See :class:`Directory`."""
        name = read_domain(domain)
        with self._change() as connection:
            if name is None or not _has_domain(connection, name):
                raise NoSuchDomain
            connection.execute("INSERT OR REPLACE INTO setting VALUES ('default_domain', ?)", (name,))

    def _update(self, statement: str, *values: object) -> None:
        with self._change() as connection:
            if connection.execute(statement, values).rowcount == 0:
                raise NoSuchAccount

    @contextmanager
    def _change(self) -> Iterator[Any]:
        with self._read() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
                # Tell those who watch the file, now that they can see what has changed.
                with suppress(OSError):
                    os.utime(self._path)
            except BaseException:
                # A failed COMMIT may have ended the transaction already.
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    @contextmanager
    def _read(self) -> Iterator[Any]:
        with _translated(self._path):
            try:
                connection = self._idle.get_nowait()
            except Empty:
                connection = _open(self._path, self._raw_key)
            try:
                yield connection
            except sqlcipher.Error:
                connection.close()  # Whatever state it is in, nobody shall inherit it.
                raise
            except BaseException:
                self._give_back(connection)
                raise
            self._give_back(connection)

    def _give_back(self, connection: Any) -> None:
        try:
            self._idle.put_nowait(connection)
        except Full:
            connection.close()


def _open(path: Path, raw_key: str) -> Any:
    with storage_errors():
        require_room_to_open(path)
    connection = sqlcipher.connect(str(path), isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA cipher_log_level = NONE")
        connection.execute(f"PRAGMA key = \"x'{raw_key}'\"")
        connection.execute("PRAGMA cipher_hmac_algorithm = HMAC_SHA256")
        connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
        connection.execute("PRAGMA temp_store = MEMORY")
        connection.execute("PRAGMA secure_delete = ON")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA journal_mode = WAL").fetchone()
        connection.execute("PRAGMA synchronous = FULL")
    except BaseException:
        connection.close()
        raise
    return connection


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    # Driver texts can quote statements and values, so they are not carried along.
    try:
        yield
    except sqlcipher.Error as error:
        code = getattr(error, "sqlite_errorcode", 0)
        match code & 0xFF:
            case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
                tell_directory(path, code)
                raise DatabaseDamaged from None
            case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
                raise Busy from None
            case sqlite3.SQLITE_FULL:
                raise StorageFull("the disk is full") from None
            case sqlite3.SQLITE_IOERR if is_full(path.parent):
                raise StorageFull("the disk is full") from None
            case _:
                raise StorageFailed from None


def _create_or_check(connection: Any) -> None:
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > SCHEMA_VERSION:
        raise TooNew
    if version < SCHEMA_VERSION:
        for statement in filter(str.strip, ";".join(_MIGRATIONS[version:]).split(";")):
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def _record(row: Any) -> AccountRecord:
    account_id, name, public_key, generation, quota_bytes, created, disabled, *pop3 = row
    maildrop, retr_marks_seen, dele_to_trash, login_delay_s = pop3
    return AccountRecord(
        AccountId(account_id),
        name,
        PublicKey(public_key),
        generation,
        quota_bytes,
        created,
        bool(disabled),
        Pop3Settings(maildrop, bool(retr_marks_seen), bool(dele_to_trash), login_delay_s),
    )


def _pop3_columns(settings: Pop3Settings) -> tuple[str, int, int, int | None]:
    return (
        settings.maildrop,
        int(settings.retr_marks_seen),
        int(settings.dele_to_trash),
        settings.login_delay_s,
    )


def _setting(connection: Any, name: str) -> str | None:
    row = connection.execute("SELECT value FROM setting WHERE name = ?", (name,)).fetchone()
    return None if row is None else str(row[0])


def _has_domain(connection: Any, name: str) -> bool:
    return connection.execute("SELECT 1 FROM domain WHERE name = ?", (name,)).fetchone() is not None


def _ensure_domain(connection: Any, name: str) -> None:
    if _has_domain(connection, name):
        return
    connection.execute("INSERT INTO domain VALUES (?)", (name,))
    connection.execute("INSERT OR IGNORE INTO setting VALUES ('default_domain', ?)", (name,))


def _require_free(connection: Any, address: str) -> None:
    if connection.execute("SELECT 1 FROM address WHERE name = ?", (address,)).fetchone() is not None:
        raise AccountExists
