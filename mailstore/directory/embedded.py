"""The directory in one SQLCipher file, ROOT/directory.db, opened with the server's key."""

from collections.abc import Callable, Hashable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from queue import Empty, Full, LifoQueue
from typing import Any, TypeVar

from mailstore.address import (
    read_address,
    read_domain,
    require_address,
    require_domain,
)
from mailstore.damage import DamagedDatabase
from mailstore.directory import embedded_rows as rows
from mailstore.directory.embedded_schema import MIGRATIONS
from mailstore.directory.interface import (
    NO_LIMITS,
    AccountRecord,
    Alias,
    Contents,
    Directory,
    DomainLimits,
    FileWatch,
    Node,
    NodeLease,
    Recipient,
)
from mailstore.directory.nodes import require_node, seeming_node
from mailstore.durable import FILE_MODE, storage_errors
from mailstore.engine import WRITE_LOCK, Database, DatabaseKey, Txn, Value, open_connection
from mailstore.errors import (
    Busy,
    DirectoryNotShared,
    NoSuchAccount,
    NoSuchAddress,
    StorageFailed,
    StorageFull,
    StoreError,
    TooNew,
)
from mailstore.keys import AccountId, Header, KeyLabel, PublicKey, ServerKeyLabel, derive
from mailstore.model import Pop3Settings
from mailstore.page_journal import identity
from mailstore.server_key import key_lock
from mailstore.server_rekeying import Rekeying

T = TypeVar("T")

DIRECTORY_FILE = "directory.db"
SCHEMA_VERSION = 6
IDLE_CONNECTIONS = 8
CACHE_KIB = 2000
"""Page cache of a connection."""

AUTOCHECKPOINT_PAGES = 1000
"""No snapshot copies this file, so SQLite may checkpoint it as usual, under no lock of ours."""

_OTHER_KEY = "server.key is not the one it was made with"
_KEY_BYTES = 32
_SALT_BYTES = 16


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
        cluster_key = derive(server_key, ServerKeyLabel.DIRECTORY_CLUSTER, _KEY_BYTES)
        self._nodes_key = derive(cluster_key, KeyLabel.DIRECTORY_NODES, _KEY_BYTES)
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
        return None if wanted is None else self._read(rows.recipient, wanted)

    def login(self, name: str | bytes) -> AccountRecord | None:
        """See :class:`Directory`."""
        return self._read(rows.by_login_name, name)

    def login_name(self, name: str | bytes) -> str | None:
        """See :class:`Directory`."""
        return self._read(rows.login_name, name)

    def account(self, account_id: AccountId) -> AccountRecord | None:
        """See :class:`Directory`."""
        return self._read(rows.account, account_id)

    def settled_account(self, account_id: AccountId) -> AccountRecord | None:
        """See :class:`Directory`. Nothing is committed here after its caller was told that it failed."""
        return self.account(account_id)

    def accounts(self) -> list[AccountRecord]:
        """See :class:`Directory`."""
        return self._read(rows.accounts)

    def add_account(self, record: AccountRecord) -> None:
        """See :class:`Directory`."""
        self._write(rows.add_account, record, require_address(record.name))

    def remove_account(self, account_id: AccountId) -> None:
        """See :class:`Directory`."""
        self._write(rows.run, "DELETE FROM account WHERE id = ?", (account_id,))

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
        self._update(statement, *rows.pop3_columns(settings), account_id)

    def largest_pop3_login_delay_s(self) -> int:
        """See :class:`Directory`."""
        return self._read(rows.largest_pop3_login_delay_s)

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
        return self._read(rows.aliases, account_id)

    def add_alias(self, address: str, account_id: AccountId) -> None:
        """See :class:`Directory`."""
        self._write(rows.add_alias, require_address(address), account_id)

    def remove_alias(self, address: str) -> None:
        """See :class:`Directory`."""
        wanted = read_address(address)
        statement = "DELETE FROM address WHERE name = ?1 AND name NOT IN (SELECT name FROM account)"
        if wanted is None or self._write(rows.run, statement, (wanted.full,)) == 0:
            raise NoSuchAddress

    def domains(self) -> list[str]:
        """See :class:`Directory`."""
        return sorted(self._read(rows.domains))

    def add_domain(self, domain: str) -> None:
        """See :class:`Directory`."""
        self._write(rows.ensure_domain, require_domain(domain))

    def limit_domain(self, domain: str, **changed: int | None) -> DomainLimits:
        """See :class:`Directory`."""
        return self._write(rows.limit_domain, read_domain(domain), changed)

    def domain_limits(self) -> dict[str, DomainLimits]:
        """See :class:`Directory`."""
        found = self._read(rows.domains)
        return {name: limits for name, limits in sorted(found.items()) if limits != NO_LIMITS}

    def remove_domain(self, domain: str) -> None:
        """See :class:`Directory`."""
        self._write(rows.remove_domain, read_domain(domain))

    def default_domain(self) -> str | None:
        """See :class:`Directory`."""
        return self._read(rows.setting, "default_domain")

    def set_default_domain(self, domain: str) -> None:
        """See :class:`Directory`."""
        self._write(rows.set_default_domain, read_domain(domain))

    def nodes(self) -> list[Node]:
        """See :class:`Directory`."""
        return self._read(rows.nodes)

    def put_node(self, node: Node, *, again: bool = False) -> None:
        """See :class:`Directory`."""
        self._write(rows.put_node, require_node(node))

    def remove_node(self, name: str) -> None:
        """See :class:`Directory`."""
        self._write(rows.remove_node, name)

    def set_node(self, account_id: AccountId, node: str, generation: int) -> None:
        """See :class:`Directory`."""
        self._write(rows.set_node, account_id, node, generation)

    def leases(self) -> list[NodeLease]:
        """See :class:`Directory`."""
        return []

    def begin_lease(self, name: str, lease_s: float) -> None:
        """See :class:`Directory`."""
        raise DirectoryNotShared

    def mark_lost(self, name: str) -> None:
        """See :class:`Directory`."""
        raise DirectoryNotShared

    def take_from_lost(self, account_id: AccountId, lost: str, node: str, header: Header) -> None:
        """See :class:`Directory`."""
        raise DirectoryNotShared

    def seeming_node(self, name: str | bytes) -> str | None:
        """See :class:`Directory`."""
        return seeming_node(self._nodes_key, self.nodes(), self.login_name(name))

    def contents(self) -> Contents:
        """See :class:`Directory`."""
        return self._read(rows.everything)

    def fill(self, contents: Contents) -> bool:
        """See :class:`Directory`."""
        return self._write(rows.fill, contents)

    def _read(self, fn: Callable[..., T], *args: Any) -> T:
        with self._connection() as database:
            return database.read(0, fn, *args)

    def _write(self, fn: Callable[..., T], *args: Any) -> T:
        with self._connection() as database:
            return database.write(0, fn, *args)

    def _update(self, statement: str, *values: Value) -> None:
        if self._write(rows.run, statement, values) == 0:
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
