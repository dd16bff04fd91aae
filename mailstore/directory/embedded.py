"""The directory in one SQLCipher file, ROOT/directory.db, opened with the server's key."""

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from queue import Empty, Full, LifoQueue
from typing import Any, TypeVar

from mailstore.address import (
    Address,
    read_address,
    read_domain,
    read_login_name,
    require_address,
    require_domain,
)
from mailstore.damage import DamagedDatabase
from mailstore.directory.embedded_schema import MIGRATIONS
from mailstore.directory.interface import AccountRecord, Alias, Contents, Directory, FileWatch, Recipient
from mailstore.durable import FILE_MODE, storage_errors
from mailstore.engine import WRITE_LOCK, Database, DatabaseKey, Row, Txn, Value, open_connection
from mailstore.errors import (
    AccountExists,
    Busy,
    DirectoryNotEmpty,
    DomainInUse,
    NoSuchAccount,
    NoSuchAddress,
    NoSuchDomain,
    StorageFailed,
    StorageFull,
    StoreError,
    TooNew,
)
from mailstore.keys import AccountId, PublicKey, ServerKeyLabel, derive
from mailstore.model import Pop3Settings
from mailstore.page_journal import identity
from mailstore.server_key import key_lock
from mailstore.server_rekeying import Rekeying

T = TypeVar("T")

DIRECTORY_FILE = "directory.db"
SCHEMA_VERSION = 3
IDLE_CONNECTIONS = 8
CACHE_KIB = 2000
"""Page cache of a connection."""

AUTOCHECKPOINT_PAGES = 1000
"""No snapshot copies this file, so SQLite may checkpoint it as usual, under no lock of ours."""

_OTHER_KEY = "server.key is not the one it was made with"
_KEY_BYTES = 32
_SALT_BYTES = 16

_DOMAIN_QUOTA = (
    "(SELECT domain.quota_bytes FROM address JOIN domain ON domain.name = address.domain"
    " WHERE address.name = account.name)"
)
_ACCOUNT = (
    f"SELECT id, name, public_key, header_generation, quota_bytes, created, disabled, {_DOMAIN_QUOTA},"  # noqa: S608 - text of ours
    " pop3_maildrop, pop3_retr_marks_seen, pop3_dele_to_trash, pop3_login_delay_s FROM account"
)


def has_embedded_directory(root: Path) -> bool:
    """Whether the data root has a directory. Raises OSError."""
    return (root / DIRECTORY_FILE).exists()


def embedded_directory(root: Path, server_key: bytes) -> Directory:
    """Open or create the directory of a data root.

    Raises DatabaseDamaged (also for another key), TooNew, StorageFailed, StorageFull, Busy.
    """
    return EmbeddedDirectory(root / DIRECTORY_FILE, server_key)


def rekeying_of_embedded(root: Path, old: bytes, new: bytes) -> Rekeying:
    """How the directory gets from one server's key to another."""
    path = root / DIRECTORY_FILE
    damage = DamagedDatabase(path, _OTHER_KEY)
    return Rekeying(path, _key_of(old), _key_of(new), SCHEMA_VERSION, damage)


def _key_of(server_key: bytes) -> DatabaseKey:
    return DatabaseKey(
        derive(server_key, ServerKeyLabel.DIRECTORY, _KEY_BYTES),
        derive(server_key, ServerKeyLabel.DIRECTORY_SALT, _SALT_BYTES),
    )


class EmbeddedDirectory:
    """See :class:`Directory`, also for its methods. Outside this package nobody names this class."""

    def __init__(self, path: Path, server_key: bytes) -> None:
        """As :func:`embedded_directory`."""
        self._path = path
        self._key = _key_of(server_key)
        self._damage = DamagedDatabase(path, _OTHER_KEY)
        self._idle: LifoQueue[Database] = LifoQueue(IDLE_CONNECTIONS)
        self._held = ExitStack()
        self._held.enter_context(key_lock(path.parent))
        try:
            with storage_errors():
                # SQLite gives the WAL the mode of the main file, so the file is made before SQLite can.
                if not path.exists():
                    path.touch(mode=FILE_MODE)
            if self._read(_version) != SCHEMA_VERSION:
                self._write(_migrate)
        except BaseException:
            with suppress(StoreError):
                self.close()
            raise

    def close(self) -> None:
        """See :class:`Directory`."""
        while True:
            try:
                self._idle.get_nowait().close()
            except Empty:
                self._held.close()
                return

    def version(self) -> Hashable:
        """See :class:`Directory`."""
        with storage_errors():
            return identity(self._path), identity(self._path.with_name(f"{DIRECTORY_FILE}-wal"))

    def on_change(self, watch: FileWatch, callback: Callable[[], None]) -> None:
        """See :class:`Directory`."""
        # This lock is released after each commit, when others can see the change.
        watch.watch(self._path.parent, (WRITE_LOCK,), lambda _changed: callback())

    def resolve(self, address: str | bytes) -> Recipient | None:
        """See :class:`Directory`."""
        wanted = read_address(address)
        return None if wanted is None else self._read(_recipient, wanted)

    def login(self, name: str | bytes) -> AccountRecord | None:
        """See :class:`Directory`."""
        return self._read(_by_login_name, name)

    def login_name(self, name: str | bytes) -> str | None:
        """See :class:`Directory`."""
        return self._read(_login_name, name)

    def account(self, account_id: AccountId) -> AccountRecord | None:
        """See :class:`Directory`."""
        return self._read(_account, account_id)

    def accounts(self) -> list[AccountRecord]:
        """See :class:`Directory`."""
        return self._read(_accounts)

    def add_account(self, record: AccountRecord) -> None:
        """See :class:`Directory`."""
        self._write(_add_account, record, require_address(record.name))

    def remove_account(self, account_id: AccountId) -> None:
        """See :class:`Directory`."""
        self._write(_run, "DELETE FROM account WHERE id = ?", (account_id,))

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
        return self._read(_largest_pop3_login_delay_s)

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
        return self._read(_aliases, account_id)

    def add_alias(self, address: str, account_id: AccountId) -> None:
        """See :class:`Directory`."""
        self._write(_add_alias, require_address(address), account_id)

    def remove_alias(self, address: str) -> None:
        """See :class:`Directory`."""
        wanted = read_address(address)
        statement = "DELETE FROM address WHERE name = ?1 AND name NOT IN (SELECT name FROM account)"
        if wanted is None or self._write(_run, statement, (wanted.full,)) == 0:
            raise NoSuchAddress

    def domains(self) -> list[str]:
        """See :class:`Directory`."""
        return self._read(_domains)

    def add_domain(self, domain: str) -> None:
        """See :class:`Directory`."""
        self._write(_ensure_domain, require_domain(domain))

    def set_domain_quota(self, domain: str, quota_bytes: int | None) -> None:
        """See :class:`Directory`."""
        statement = "UPDATE domain SET quota_bytes = ? WHERE name = ?"
        if self._write(_run, statement, (quota_bytes, read_domain(domain))) == 0:
            raise NoSuchDomain

    def domain_quotas(self) -> dict[str, int]:
        """See :class:`Directory`."""
        return self._read(_domain_quotas)

    def remove_domain(self, domain: str) -> None:
        """See :class:`Directory`."""
        self._write(_remove_domain, read_domain(domain))

    def default_domain(self) -> str | None:
        """See :class:`Directory`."""
        return self._read(_setting, "default_domain")

    def set_default_domain(self, domain: str) -> None:
        """See :class:`Directory`."""
        self._write(_set_default_domain, read_domain(domain))

    def contents(self) -> Contents:
        """See :class:`Directory`."""
        return self._read(_contents)

    def fill(self, contents: Contents) -> bool:
        """See :class:`Directory`."""
        return self._write(_fill, contents)

    def _read(self, fn: Callable[..., T], *args: Any) -> T:
        with self._connection() as database:
            return database.read(0, fn, *args)

    def _write(self, fn: Callable[..., T], *args: Any) -> T:
        with self._connection() as database:
            return database.write(0, fn, *args)

    def _update(self, statement: str, *values: Value) -> None:
        if self._write(_run, statement, values) == 0:
            raise NoSuchAccount

    @contextmanager
    def _connection(self) -> Iterator[Database]:
        try:
            database = self._idle.get_nowait()
        except Empty:
            database = open_connection(
                self._path,
                self._key,
                cache_kib=CACHE_KIB,
                autocheckpoint_pages=AUTOCHECKPOINT_PAGES,
                damage=self._damage,
            )
        try:
            yield database
        except (Busy, StorageFull, StorageFailed):
            with suppress(StoreError):
                database.close()  # its state is unknown, so nobody else may get it
            raise
        except BaseException:
            self._give_back(database)  # refused, and rolled back
            raise
        self._give_back(database)

    def _give_back(self, database: Database) -> None:
        try:
            self._idle.put_nowait(database)
        except Full:
            database.close()


def _version(txn: Txn) -> int:
    version = int(txn.value("PRAGMA user_version"))
    if version > SCHEMA_VERSION:
        raise TooNew
    return version


def _migrate(txn: Txn) -> None:
    # Read again inside the transaction: another process may have been faster.
    for statement in filter(str.strip, ";".join(MIGRATIONS[_version(txn) :]).split(";")):
        txn.run(statement)
    txn.run(f"PRAGMA user_version = {SCHEMA_VERSION}")


def _run(txn: Txn, statement: str, values: Sequence[Value]) -> int:
    return txn.run(statement, values)


def _recipient(txn: Txn, wanted: Address) -> Recipient | None:
    query = (
        f"SELECT id, name, public_key, quota_bytes, disabled, {_DOMAIN_QUOTA} FROM account"  # noqa: S608 - text of ours
        " WHERE id = (SELECT account_id FROM address WHERE name = ?)"
    )
    # An address registered with a + takes precedence over the rule for details.
    for name, hint in ((wanted.full, None), (wanted.base, wanted.detail or None)):
        row = txn.one(query, (name,))
        if row is not None:
            return Recipient(AccountId(row[0]), row[1], PublicKey(row[2]), hint, row[3], bool(row[4]), row[5])
    return None


def _login_name(txn: Txn, name: str | bytes) -> str | None:
    return read_login_name(name, _setting(txn, "default_domain"))


def _by_login_name(txn: Txn, name: str | bytes) -> AccountRecord | None:
    row = txn.one(f"{_ACCOUNT} WHERE name = ?", (_login_name(txn, name),))
    if row is None:
        # A name that nobody has costs what reading a record costs.
        for other in txn.rows(f"{_ACCOUNT} ORDER BY id LIMIT 1"):
            _record(other)
        return None
    return _record(row)


def _account(txn: Txn, account_id: AccountId) -> AccountRecord | None:
    row = txn.one(f"{_ACCOUNT} WHERE id = ?", (account_id,))
    return None if row is None else _record(row)


def _accounts(txn: Txn) -> list[AccountRecord]:
    return [_record(row) for row in txn.rows(f"{_ACCOUNT} ORDER BY name")]


def _add_account(txn: Txn, record: AccountRecord, address: Address) -> None:
    _require_free(txn, address.full)
    _ensure_domain(txn, address.domain)
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
    txn.run("INSERT INTO account VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", values)
    _insert_address(txn, address, record.account_id)


def _insert_address(txn: Txn, address: Address, account_id: AccountId) -> None:
    txn.run("INSERT INTO address VALUES (?, ?, ?)", (address.full, address.domain, account_id))


def _largest_pop3_login_delay_s(txn: Txn) -> int:
    # The condition is that of the index, so this reads one row of it however many accounts there are.
    query = "SELECT max(pop3_login_delay_s) FROM account WHERE pop3_login_delay_s IS NOT NULL"
    return int(txn.value(query) or 0)


def _aliases(txn: Txn, account_id: AccountId | None) -> list[Alias]:
    query = (
        "SELECT address.name, account.name FROM address JOIN account ON account.id = account_id"
        " WHERE address.name <> account.name AND (?1 IS NULL OR account_id = ?1) ORDER BY address.name"
    )
    return [Alias(*row) for row in txn.rows(query, (account_id,))]


def _add_alias(txn: Txn, address: Address, account_id: AccountId) -> None:
    if _account(txn, account_id) is None:
        raise NoSuchAccount
    if not _has_domain(txn, address.domain):
        raise NoSuchDomain
    _require_free(txn, address.full)
    _insert_address(txn, address, account_id)


def _domains(txn: Txn) -> list[str]:
    return [row[0] for row in txn.rows("SELECT name FROM domain ORDER BY name")]


def _domain_quotas(txn: Txn) -> dict[str, int]:
    return dict(txn.rows("SELECT name, quota_bytes FROM domain WHERE quota_bytes IS NOT NULL"))


def _remove_domain(txn: Txn, name: str | None) -> None:
    if name is None or not _has_domain(txn, name):
        raise NoSuchDomain
    if txn.one("SELECT 1 FROM address WHERE domain = ?", (name,)) is not None:
        raise DomainInUse
    txn.run("DELETE FROM domain WHERE name = ?", (name,))
    txn.run("DELETE FROM setting WHERE name = 'default_domain' AND value = ?", (name,))


def _set_default_domain(txn: Txn, name: str | None) -> None:
    if name is None or not _has_domain(txn, name):
        raise NoSuchDomain
    txn.run("INSERT OR REPLACE INTO setting VALUES ('default_domain', ?)", (name,))


def _record(row: Row) -> AccountRecord:
    account_id, name, public_key, generation, quota_bytes, created, disabled, domain_quota, *pop3 = row
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
        domain_quota,
    )


def _pop3_columns(settings: Pop3Settings) -> tuple[str, int, int, int | None]:
    return (
        settings.maildrop,
        int(settings.retr_marks_seen),
        int(settings.dele_to_trash),
        settings.login_delay_s,
    )


def _setting(txn: Txn, name: str) -> str | None:
    found: str | None = txn.value("SELECT value FROM setting WHERE name = ?", (name,))
    return found


def _has_domain(txn: Txn, name: str) -> bool:
    return txn.one("SELECT 1 FROM domain WHERE name = ?", (name,)) is not None


def _ensure_domain(txn: Txn, name: str) -> None:
    if _has_domain(txn, name):
        return
    txn.run("INSERT INTO domain (name) VALUES (?)", (name,))
    txn.run("INSERT OR IGNORE INTO setting VALUES ('default_domain', ?)", (name,))


def _require_free(txn: Txn, address: str) -> None:
    if txn.one("SELECT 1 FROM address WHERE name = ?", (address,)) is not None:
        raise AccountExists


def _contents(txn: Txn) -> Contents:
    domains: dict[str, int | None] = dict(txn.rows("SELECT name, quota_bytes FROM domain"))
    query = (
        "SELECT address.name, account_id FROM address JOIN account ON account.id = account_id"
        " WHERE address.name <> account.name"
    )
    aliases = [(row[0], AccountId(row[1])) for row in txn.rows(query)]
    return Contents.of(_setting(txn, "default_domain"), domains, _accounts(txn), aliases)


def _fill(txn: Txn, contents: Contents) -> bool:
    here = _contents(txn)
    if here == contents:
        return False
    if here.domains or here.accounts:
        raise DirectoryNotEmpty
    for domain in contents.domains:
        txn.run("INSERT INTO domain VALUES (?, ?)", domain)
    for record in contents.accounts:
        _add_account(txn, record, require_address(record.name))
    for address, account_id in contents.aliases:
        _insert_address(txn, require_address(address), account_id)
    txn.run("DELETE FROM setting WHERE name = 'default_domain'")
    if contents.default_domain is not None:
        _set_default_domain(txn, contents.default_domain)
    return True
