"""What is read from and written to the tables of a directory in PostgreSQL, row by row.

No row is believed: each is opened with the key, at its own place, and has to say what it was looked up by.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

from mailstore.address import Address, require_address
from mailstore.damage import GUIDE, POSTGRESQL_SECTION, is_news
from mailstore.directory.doors import doors_of, doors_value
from mailstore.directory.interface import (
    NO_LIMITS,
    AccountRecord,
    Alias,
    Contents,
    DomainLimits,
    Node,
    NodeLease,
)
from mailstore.directory.pg_connection import Row, Txn
from mailstore.directory.pg_schema import SETTINGS_TABLE, settings_place
from mailstore.directory.sealing import Place, Sealer, account_of, account_value, limits_of, limits_value
from mailstore.errors import (
    AccountExists,
    DatabaseDamaged,
    DirectoryNotEmpty,
    DomainFull,
    DomainInUse,
    NodeGenerationPast,
    NodeInUse,
    NodeIsLost,
    NodeNotLost,
    NodeServes,
    NoSuchAccount,
    NoSuchDomain,
    NoSuchNode,
)
from mailstore.keys import AccountId, Header

log = logging.getLogger("sealbox.directory")

DOMAIN, ACCOUNT, ADDRESS, NODE = "domain", "account", "address", "node"
_CHANNEL = "sealbox_"

_ACCOUNT_COLUMNS = "a.id, a.key_id, a.changed, a.sealed, d.id, d.key_id, d.changed, d.sealed"
_ACCOUNT = f"SELECT {_ACCOUNT_COLUMNS} FROM sealbox_account a JOIN sealbox_domain d ON d.id = a.domain"  # noqa: S608 - text of ours
_BY_ADDRESS = (
    f"SELECT w.id, w.key_id, w.changed, w.sealed, {_ACCOUNT_COLUMNS} FROM sealbox_address w"  # noqa: S608 - text of ours
    " JOIN sealbox_account a ON a.id = w.account JOIN sealbox_domain d ON d.id = a.domain"
)
_DECOY = ("a", "a" * 2000, "a")
"""As long as address, record and domain are, sealed."""

_SEALED_COLUMNS = 4
"""Row id, key id, number of the change, what is sealed."""


def channel(sealer: Sealer) -> str:
    """The name under which changes of this directory are told."""
    return _CHANNEL + sealer.directory_id.hex()


def account_row(sealer: Sealer, account_id: AccountId) -> bytes:
    """What an account's row is named by."""
    return sealer.hashed(ACCOUNT, account_id)


def read_news(told: str) -> tuple[int, bytes]:
    """Number of the change, and the row of the account that has changed; empty if it may be any."""
    number, _, row = told.partition(" ")
    try:
        return int(number), bytes.fromhex(row)
    except ValueError:
        return 0, b""


def change(txn: Txn, sealer: Sealer, fn: Callable[..., Any], *args: Any) -> Any:
    """``fn(change, *args)``, alone among all nodes; what it has changed gets a number, and is told."""
    [(changes,)] = txn.rows("SELECT changes FROM sealbox_directory FOR UPDATE")
    found = Change(txn, sealer, int(changes) + 1)
    result = fn(found, *args)
    if txn.has_written:
        txn.run("UPDATE sealbox_directory SET changes = %s", (found.number,))
        told = f"{found.number} {found.whose.hex()}"
        txn.rows("SELECT pg_notify(%s, %s)", (channel(sealer), told))
    return result


class Rows:
    """Questions. Any may raise DatabaseDamaged: a row is not what was written there."""

    def __init__(self, txn: Txn, sealer: Sealer) -> None:
        self._txn = txn
        self._sealer = sealer
        self._domains: dict[tuple[Any, ...], Any] = {}

    def _opened(self, table: str, row: Sequence[Any]) -> Any:
        row_id, key_id, changed, sealed = row
        try:
            if bytes(key_id) == self._sealer.key_id:
                return self._sealer.open(Place(table, bytes(row_id), int(changed)), bytes(sealed))
        except ValueError:
            pass
        raise self._damaged(table, row_id)

    def _damaged(self, table: str, row_id: bytes) -> DatabaseDamaged:
        what = f"row {bytes(row_id).hex()[:16]} of sealbox_{table}"
        if is_news(what):
            log.error(
                'directory: the %s is not what was written there: see %s, "%s"',
                *(what, GUIDE, POSTGRESQL_SECTION),
            )
        return DatabaseDamaged("a row of the directory is damaged")

    def _record(self, row: Row) -> AccountRecord:
        value = self._opened(ACCOUNT, row[:_SEALED_COLUMNS])
        # Thousands of accounts are of one domain, which is opened once for a listing.
        its_row = tuple(row[_SEALED_COLUMNS:])
        domain = self._domains.get(its_row)
        if domain is None:
            domain = self._domains[its_row] = self._opened(DOMAIN, its_row)
        record = account_of(value, domain["quota_bytes"])
        if record.name.rpartition("@")[2] != domain["name"]:
            raise self._damaged(ACCOUNT, row[0])
        return record

    def by_id(self, account_id: AccountId) -> AccountRecord | None:
        """The account with this id."""
        row = self._txn.one(f"{_ACCOUNT} WHERE a.id = %s", (account_row(self._sealer, account_id),))
        return None if row is None else self._record(row)

    def by_login(self, name: str) -> AccountRecord | None:
        """As :meth:`by_address`, but an address that nobody has costs as much as another."""
        record = self.by_address(name)
        if record is None:
            self._open_decoy()
        return record

    def by_address(self, address: str) -> AccountRecord | None:
        """The account that an address leads to."""
        row = self._txn.one(f"{_BY_ADDRESS} WHERE w.id = %s", (self._sealer.hashed(ADDRESS, address),))
        if row is None:
            return None
        value = self._opened(ADDRESS, row[:_SEALED_COLUMNS])
        record = self._record(row[_SEALED_COLUMNS:])
        if (value["address"], value["account"]) != (address, record.account_id):
            raise self._damaged(ADDRESS, row[0])
        return record

    def _open_decoy(self) -> None:
        """Open what a record takes to open."""
        for value in _DECOY:
            place = Place(ADDRESS, b"", 0)
            self._sealer.open(place, self._sealer.seal(place, value))

    def accounts(self) -> list[AccountRecord]:
        """All accounts by name. Sorted here: PostgreSQL cannot read the names."""
        found = [self._record(row) for row in self._txn.many(_ACCOUNT)]
        return sorted(found, key=lambda record: record.name)

    def aliases(self, account_id: AccountId | None) -> list[Alias]:
        """Addresses that are no names of accounts, of one account or of all."""
        if account_id is None:
            records: Iterable[AccountRecord] = self.accounts()
        else:
            record = self.by_id(account_id)
            records = () if record is None else (record,)
        return self._aliases(account_id, records)

    def _aliases(self, account_id: AccountId | None, records: Iterable[AccountRecord]) -> list[Alias]:
        names = {str(record.account_id): record.name for record in records}
        values = self._addresses(account_id)
        found = [(value["address"], names[value["account"]]) for value in values]
        return [Alias(*one) for one in sorted(found) if one[0] != one[1]]

    def _addresses(self, account_id: AccountId | None) -> Iterator[Any]:
        query = "SELECT id, key_id, changed, sealed FROM sealbox_address"
        if account_id is None:
            rows = self._txn.many(query)
        else:
            row = account_row(self._sealer, account_id)
            rows = iter(self._txn.rows(f"{query} WHERE account = %s", (row,)))
        return (self._opened(ADDRESS, row) for row in rows)

    def domains(self) -> dict[str, DomainLimits]:
        """All domains with their limits."""
        rows = self._txn.many("SELECT id, key_id, changed, sealed FROM sealbox_domain")
        values = [self._opened(DOMAIN, row) for row in rows]
        return {value["name"]: limits_of(value) for value in values}

    def default_domain(self) -> str | None:
        """The domain of a login name without one."""
        [row] = self._txn.rows("SELECT ''::bytea, key_id, changed, sealed FROM sealbox_directory")
        found: str | None = self._opened(SETTINGS_TABLE, row)["default_domain"]
        return found

    def largest_pop3_login_delay_s(self) -> int:
        """The greatest of those accounts that have one of their own."""
        rows = self._txn.many(f"{_ACCOUNT} WHERE a.has_delay")
        return max((self._record(row).pop3.login_delay_s or 0 for row in rows), default=0)

    def nodes(self, lost: bool = True) -> list[Node]:
        """All nodes by name; without those that are marked as lost, unless ``lost``."""
        query = "SELECT id, key_id, changed, sealed FROM sealbox_node"
        rows = self._txn.many(query if lost else f"{query} WHERE NOT is_lost")
        values = [self._opened(NODE, row) for row in rows]
        nodes = (Node(value["name"], value["address"], doors_of(value)) for value in values)
        return sorted(nodes, key=lambda one: one.name)

    def leases(self) -> list[NodeLease]:
        """The leases of all nodes by name."""
        query = (
            "SELECT id, key_id, changed, sealed, is_lost, extract(epoch FROM leased_until)::float8,"
            " extract(epoch FROM leased_until - clock_timestamp())::float8 FROM sealbox_node"
        )
        found = [
            NodeLease(self._opened(NODE, sealed)["name"], until_s, left_s, is_lost)
            for *sealed, is_lost, until_s, left_s in self._txn.many(query)
        ]
        return sorted(found, key=lambda one: one.name)

    def contents(self) -> Contents:
        """Everything."""
        accounts = self.accounts()
        ids = {record.name: record.account_id for record in accounts}
        aliases = [(alias.address, ids[alias.account_name]) for alias in self._aliases(None, accounts)]
        return Contents.of(self.default_domain(), self.domains(), accounts, aliases, self.nodes())


class Change(Rows):
    """Changes, inside :func:`change`."""

    def __init__(self, txn: Txn, sealer: Sealer, number: int) -> None:
        super().__init__(txn, sealer)
        self.number = number
        self.whose = b""
        """The row of the one account that is concerned."""

    def _sealed(self, table: str, row_id: bytes, value: object) -> tuple[bytes, int, bytes]:
        sealer = self._sealer
        return sealer.key_id, self.number, sealer.seal(Place(table, row_id, self.number), value)

    def fill(self, contents: Contents) -> bool:
        """Put everything into an empty directory; False if it is there already. Raises DirectoryNotEmpty."""
        here = self.contents()
        if here == contents:
            return False
        if here.domains or here.accounts or here.nodes:
            raise DirectoryNotEmpty
        for node in contents.nodes:
            self.put_node(node)
        self._txn.run_many(
            "INSERT INTO sealbox_domain VALUES (%s, %s, %s, %s)",
            (self._domain_values(name, limits) for name, limits in contents.domains),
        )
        self._txn.run_many(_INSERT_ACCOUNT, (self._account_values(record) for record in contents.accounts))
        names = ((record.name, record.account_id, True) for record in contents.accounts)
        aliases = ((address, owner, False) for address, owner in contents.aliases)
        self._txn.run_many(
            _INSERT_ADDRESS,
            (
                self._address_values(require_address(text), owner, is_name)
                for text, owner, is_name in chain(names, aliases)
            ),
        )
        self._set_default(contents.default_domain)
        return True

    def add_account(self, record: AccountRecord, domain: str) -> None:
        """Raises AccountExists, DomainFull, NoSuchNode."""
        address = require_address(record.name)
        self._require_node(record.node)
        self._require_free(address.full)
        self.ensure_domain(domain)
        self._require_room(domain, self._limits(domain).accounts, True)
        self._txn.run(_INSERT_ACCOUNT, self._account_values(record))
        self._txn.run(_INSERT_ADDRESS, self._address_values(address, record.account_id, True))

    def remove_account(self, account_id: AccountId) -> None:
        """No error if it is gone."""
        self.whose = account_row(self._sealer, account_id)
        self._txn.run("DELETE FROM sealbox_account WHERE id = %s", (self.whose,))

    def update(self, account_id: AccountId, new: Callable[[AccountRecord], AccountRecord]) -> bool:
        """Whether there is such an account."""
        record = self.by_id(account_id)
        if record is None:
            return False
        changed = new(record)
        if changed != record:
            self.whose, _domain, has_delay, *sealed = self._account_values(changed)
            statement = (
                "UPDATE sealbox_account SET has_delay = %s, key_id = %s, changed = %s, sealed = %s"
                " WHERE id = %s"
            )
            self._txn.run(statement, (has_delay, *sealed, self.whose))
        return True

    def put_node(self, node: Node, again: bool = False) -> None:
        """Add a node, or put another record in the place of its own; lost it is until it is added again."""
        row = self._sealer.hashed(NODE, node.name)
        value = {"name": node.name, "address": node.address} | doors_value(node.doors)
        sealed = self._sealed(NODE, row, value)
        # Its lease stays: it may be serving.
        self._txn.run(
            "INSERT INTO sealbox_node (id, key_id, changed, sealed) VALUES (%s, %s, %s, %s)"
            " ON CONFLICT (id) DO UPDATE SET key_id = EXCLUDED.key_id, changed = EXCLUDED.changed,"
            " sealed = EXCLUDED.sealed, is_lost = sealbox_node.is_lost AND NOT %s",
            (row, *sealed, again),
        )

    def remove_node(self, name: str) -> None:
        """Raises NoSuchNode, NodeInUse."""
        if any(record.node == name for record in self.accounts()):
            raise NodeInUse
        row = self._sealer.hashed(NODE, name)
        if self._txn.run("DELETE FROM sealbox_node WHERE id = %s", (row,)) == 0:
            raise NoSuchNode

    def set_node(self, account_id: AccountId, node: str, generation: int) -> None:
        """Raises NoSuchAccount, NoSuchNode, NodeGenerationPast."""

        def given(record: AccountRecord) -> AccountRecord:
            self._require_node(node)
            if generation <= record.node_generation:
                raise NodeGenerationPast
            return replace(record, node=node, node_generation=generation)

        if not self.update(account_id, given):
            raise NoSuchAccount

    def begin_lease(self, name: str, lease_s: float) -> None:
        """Raises NoSuchNode."""
        self._require_node(name)
        begun = (
            "UPDATE sealbox_node SET leased_until = clock_timestamp() + %s * interval '1 second'"
            " WHERE id = %s AND leased_until IS NULL"
        )
        self._txn.run(begun, (lease_s, self._sealer.hashed(NODE, name)))

    def mark_lost(self, name: str) -> None:
        """Raises NoSuchNode, NodeServes."""
        self._require_node(name)
        # One that is not known is not over: the row may be younger than the lease.
        lost = (
            "UPDATE sealbox_node SET is_lost = true, times_lost = times_lost + 1"
            " WHERE id = %s AND leased_until < clock_timestamp()"
        )
        # The row is locked: a node that renews its lease meanwhile is seen to have done so, or is refused.
        if self._txn.run(lost, (self._sealer.hashed(NODE, name),)) == 0:
            raise NodeServes

    def take_from_lost(self, account_id: AccountId, lost: str, node: str, header: Header) -> None:
        """Raises NoSuchAccount, NoSuchNode, NodeNotLost, NodeGenerationPast."""
        self._require_node(node)
        row = self._sealer.hashed(NODE, lost)
        if self._txn.one("SELECT 1 FROM sealbox_node WHERE id = %s AND is_lost", (row,)) is None:
            raise NodeNotLost

        def taken(record: AccountRecord) -> AccountRecord:
            if record.node != lost:
                raise NodeGenerationPast
            return replace(
                record,
                node=node,
                node_generation=record.node_generation + 1,
                public_key=header.public_key,
                header_generation=header.generation,
            )

        if not self.update(account_id, taken):
            raise NoSuchAccount

    def add_alias(self, address: Address, account_id: AccountId) -> None:
        """Raises NoSuchAccount, NoSuchDomain, AccountExists, DomainFull."""
        if self.by_id(account_id) is None:
            raise NoSuchAccount
        self._require_domain(address.domain)
        self._require_free(address.full)
        self._require_room(address.domain, self._limits(address.domain).aliases, False)
        self._txn.run(_INSERT_ADDRESS, self._address_values(address, account_id, False))

    def remove_alias(self, address: str) -> bool:
        """Whether there was such an alias."""
        record = self.by_address(address)
        if record is None or record.name == address:
            return False
        self.whose = account_row(self._sealer, record.account_id)
        row = self._sealer.hashed(ADDRESS, address)
        return self._txn.run("DELETE FROM sealbox_address WHERE id = %s", (row,)) > 0

    def ensure_domain(self, name: str) -> None:
        """Add a domain that is not there."""
        if self._has_domain(name):
            return
        self._txn.run(
            "INSERT INTO sealbox_domain VALUES (%s, %s, %s, %s)", self._domain_values(name, NO_LIMITS)
        )
        if self.default_domain() is None:
            self._set_default(name)

    def limit_domain(self, name: str, changed: Mapping[str, int | None]) -> DomainLimits:
        """What the domain may have from now on. Raises NoSuchDomain."""
        self._require_domain(name)
        limits = replace(self._limits(name), **changed)
        row_id, *sealed = self._domain_values(name, limits)
        statement = "UPDATE sealbox_domain SET key_id = %s, changed = %s, sealed = %s WHERE id = %s"
        self._txn.run(statement, (*sealed, row_id))
        return limits

    def remove_domain(self, name: str) -> None:
        """Raises NoSuchDomain, DomainInUse."""
        self._require_domain(name)
        row = self._sealer.hashed(DOMAIN, name)
        if self._txn.one("SELECT 1 FROM sealbox_address WHERE domain = %s", (row,)) is not None:
            raise DomainInUse
        self._txn.run("DELETE FROM sealbox_domain WHERE id = %s", (row,))
        if self.default_domain() == name:
            self._set_default(None)

    def set_default_domain(self, name: str) -> None:
        """Raises NoSuchDomain."""
        self._require_domain(name)
        self._set_default(name)

    def _set_default(self, name: str | None) -> None:
        place = settings_place(self.number)
        sealed = self._sealer.seal(place, {"default_domain": name})
        statement = "UPDATE sealbox_directory SET key_id = %s, changed = %s, sealed = %s"
        self._txn.run(statement, (self._sealer.key_id, self.number, sealed))

    def _has_domain(self, name: str) -> bool:
        row = self._sealer.hashed(DOMAIN, name)
        return self._txn.one("SELECT 1 FROM sealbox_domain WHERE id = %s", (row,)) is not None

    def _require_domain(self, name: str) -> None:
        if not self._has_domain(name):
            raise NoSuchDomain

    def _limits(self, name: str) -> DomainLimits:
        """Of a domain that is there."""
        query = "SELECT id, key_id, changed, sealed FROM sealbox_domain WHERE id = %s"
        [row] = self._txn.rows(query, (self._sealer.hashed(DOMAIN, name),))
        return limits_of(self._opened(DOMAIN, row))

    def _require_room(self, domain: str, most: int | None, is_name: bool) -> None:
        """For one more address. Raises DomainFull."""
        if most is None:
            return
        query = "SELECT count(*) FROM sealbox_address WHERE domain = %s AND is_name = %s"
        [(there,)] = self._txn.rows(query, (self._sealer.hashed(DOMAIN, domain), is_name))
        if there >= most:
            raise DomainFull("its domain has as many as it may have")

    def _require_node(self, name: str | None) -> None:
        if name is None:
            return
        row = self._sealer.hashed(NODE, name)
        if self._txn.one("SELECT 1 FROM sealbox_node WHERE id = %s", (row,)) is None:
            raise NoSuchNode

    def require_not_lost(self, name: str) -> None:
        """Raises NoSuchNode, NodeIsLost."""
        self._require_node(name)
        row = self._sealer.hashed(NODE, name)
        if self._txn.one("SELECT 1 FROM sealbox_node WHERE id = %s AND is_lost", (row,)) is not None:
            raise NodeIsLost

    def _require_free(self, address: str) -> None:
        if self.by_address(address) is not None:
            raise AccountExists

    def _domain_values(self, name: str, limits: DomainLimits) -> tuple[Any, ...]:
        row = self._sealer.hashed(DOMAIN, name)
        return row, *self._sealed(DOMAIN, row, {"name": name, **limits_value(limits)})

    def _account_values(self, record: AccountRecord) -> tuple[Any, ...]:
        row = account_row(self._sealer, record.account_id)
        domain = self._sealer.hashed(DOMAIN, record.name.rpartition("@")[2])
        has_delay = record.pop3.login_delay_s is not None
        return row, domain, has_delay, *self._sealed(ACCOUNT, row, account_value(record))

    def _address_values(self, address: Address, account_id: AccountId, is_name: bool) -> tuple[Any, ...]:
        row = self._sealer.hashed(ADDRESS, address.full)
        value = {"address": address.full, "account": str(account_id)}
        domain = self._sealer.hashed(DOMAIN, address.domain)
        return row, domain, account_row(self._sealer, account_id), is_name, *self._sealed(ADDRESS, row, value)


_INSERT_ACCOUNT = "INSERT INTO sealbox_account VALUES (%s, %s, %s, %s, %s, %s)"
_INSERT_ADDRESS = "INSERT INTO sealbox_address VALUES (%s, %s, %s, %s, %s, %s, %s)"
