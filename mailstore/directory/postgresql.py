"""The directory in PostgreSQL, for several nodes: everything that it holds is sealed under a key of theirs.

Whoever changes something first locks the one row of ``sealbox_directory``: changes of all nodes happen one
after the other, each sees what the one before it did, and has a number. Questions take no lock.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from threading import Lock
from typing import Any, TypeVar

from mailstore.address import read_address, read_domain, read_login_name, require_address, require_domain
from mailstore.directory import pg_rows, pg_schema
from mailstore.directory.interface import (
    NO_LIMITS,
    AccountRecord,
    Alias,
    Contents,
    DomainLimits,
    FileWatch,
    Node,
    NodeLease,
    Recipient,
)
from mailstore.directory.moves import Moves
from mailstore.directory.nodes import require_node, seeming_node
from mailstore.directory.pg_cache import Cache, Question
from mailstore.directory.pg_connection import Database, Listening, Txn, hosts_of
from mailstore.directory.pg_lease import lease_in
from mailstore.directory.pg_listener import Listener
from mailstore.directory.pg_moves import PostgresMoves
from mailstore.directory.pg_rows import Change, Rows
from mailstore.directory.sealing import Sealer
from mailstore.errors import DirectoryUnavailable, NoSuchAccount, NoSuchAddress, NoSuchDomain
from mailstore.keys import AccountId, Header, PublicKey
from mailstore.limits import DirectoryLimits
from mailstore.model import Pop3Settings

T = TypeVar("T")
log = logging.getLogger("sealbox.directory")

_ADDRESS, _ACCOUNT = "address", "account"
"""Questions that are remembered."""

_VERSION = "SELECT id, changes FROM sealbox_directory"


class PostgresDirectory:
    """See :class:`Directory`, also for its methods. Outside this package nobody names this class.

    While PostgreSQL is away, accounts that were asked for lately are answered from memory in a process that
    listens for changes; everything else raises DirectoryUnavailable.
    """

    def __init__(self, url: str, cluster_key: bytes, limits: DirectoryLimits) -> None:
        """Connects when first asked; then any method may raise DirectoryEmpty, DirectoryOutdated,
        DirectoryKeyWrong, TooNew."""
        self._cluster_key = cluster_key
        self._limits = limits
        self._database = Database(url, limits, self._check)
        self._sealer = Sealer(cluster_key)
        self._cache: Cache[AccountRecord] = Cache(limits.cached_records)
        self._listener: Listener | None = None
        self._callbacks: list[Callable[[], None]] = []
        self._lock = Lock()
        self._remembered: dict[str, Any] = {}
        self._has_asked = False
        self._first_version: Hashable = None

    def close(self) -> None:
        """See :class:`Directory`."""
        with self._lock:
            listener, self._listener = self._listener, None
            self._callbacks = []
        if listener is not None:
            listener.stop()
        self._database.close()

    def _check(self, txn: Txn) -> None:
        self._sealer = pg_schema.opened(txn, self._cluster_key)

    # -- news ------------------------------------------------------------------------------------

    def version(self) -> Hashable:
        """See :class:`Directory`. While PostgreSQL is away: what it was last."""
        found: Hashable = self._lasting("version", lambda: self._database.ask(_version))
        if self._first_version is None:
            self._first_version = found
        return found

    def on_change(self, watch: FileWatch, callback: Callable[[], None]) -> None:
        """See :class:`Directory`."""
        called = watch.from_any_thread(callback)
        with self._lock:
            self._callbacks.append(called)
            if self._listener is not None:
                return
            self._listener = Listener(self._listening, self._limits, self._heard)
        self._listener.start(self._seen)

    def _seen(self) -> Hashable:
        """The version that was seen before anything else; None if nothing can be out of date."""
        return False if self._has_asked else self._first_version

    def _listening(self) -> AbstractContextManager[Listening]:
        return self._database.listening(_VERSION, lambda: pg_rows.channel(self._sealer))

    def _heard(self, told: str) -> Hashable:
        changes, row = pg_rows.read_news(told)
        self._cache.changed(row)
        for callback in tuple(self._callbacks):
            callback()
        return self._sealer.directory_id, changes

    # -- asking ----------------------------------------------------------------------------------

    def resolve(self, address: str | bytes) -> Recipient | None:
        """See :class:`Directory`."""
        wanted = read_address(address)
        if wanted is None:
            return None
        # An address registered with a + takes precedence over the rule for details.
        record = self._at(wanted.full)
        if record is not None or wanted.detail is None:
            return None if record is None else _recipient(record, None)
        record = self._at(wanted.base)
        return None if record is None else _recipient(record, wanted.detail or None)

    def _at(self, address: str) -> AccountRecord | None:
        return self._known((_ADDRESS, address), lambda rows: rows.by_address(address))

    def login(self, name: str | bytes) -> AccountRecord | None:
        """See :class:`Directory`."""
        wanted = self.login_name(name)
        if wanted is None:
            return None
        record = self._known((_ADDRESS, wanted), lambda rows: rows.by_login(wanted))
        return record if record is not None and record.name == wanted else None

    def login_name(self, name: str | bytes) -> str | None:
        """See :class:`Directory`."""
        found = read_login_name(name, None)
        return read_login_name(name, self.default_domain()) if found is None else found

    def account(self, account_id: AccountId) -> AccountRecord | None:
        """See :class:`Directory`."""
        return self._known((_ACCOUNT, account_id), lambda rows: rows.by_id(account_id))

    def settled_account(self, account_id: AccountId) -> AccountRecord | None:
        """See :class:`Directory`. Every change locks one row until PostgreSQL has ended it."""
        found: AccountRecord | None = self._change(Change.by_id, account_id)
        return found

    def accounts(self) -> list[AccountRecord]:
        """See :class:`Directory`."""
        found: list[AccountRecord] = self._read(Rows.accounts)
        return found

    def aliases(self, account_id: AccountId | None = None) -> list[Alias]:
        """See :class:`Directory`."""
        found: list[Alias] = self._read(Rows.aliases, account_id)
        return found

    def domains(self) -> list[str]:
        """See :class:`Directory`."""
        return sorted(self._read(Rows.domains))

    def domain_limits(self) -> dict[str, DomainLimits]:
        """See :class:`Directory`."""
        found: dict[str, DomainLimits] = self._read(Rows.domains)
        return {name: limits for name, limits in sorted(found.items()) if limits != NO_LIMITS}

    def default_domain(self) -> str | None:
        """See :class:`Directory`. While PostgreSQL is away: what it was last."""
        return self._lasting("default domain", lambda: self._ask(Rows.default_domain))

    def largest_pop3_login_delay_s(self) -> int:
        """See :class:`Directory`. While PostgreSQL is away: what it was last."""
        found: int = self._lasting("delay", lambda: self._read(Rows.largest_pop3_login_delay_s))
        return found

    def nodes(self) -> list[Node]:
        """See :class:`Directory`. While PostgreSQL is away: those of last time."""
        found: list[Node] = self._lasting("nodes", lambda: self._read(Rows.nodes))
        return found

    def leases(self) -> list[NodeLease]:
        """See :class:`Directory`."""
        found: list[NodeLease] = self._read(Rows.leases)
        return found

    def seeming_node(self, name: str | bytes) -> str | None:
        """See :class:`Directory`."""
        nodes: list[Node] = self._lasting("seeming nodes", lambda: self._read(Rows.nodes, False))
        return seeming_node(self._sealer.nodes, nodes, self.login_name(name))

    def contents(self) -> Contents:
        """See :class:`Directory`."""
        found: Contents = self._read(Rows.contents)
        return found

    # -- changing --------------------------------------------------------------------------------

    def fill(self, contents: Contents) -> bool:
        """See :class:`Directory`."""
        return bool(self._change(Change.fill, contents))

    def add_account(self, record: AccountRecord) -> None:
        """See :class:`Directory`."""
        address = require_address(record.name)
        self._change(Change.add_account, replace(record, name=address.full), address.domain)

    def remove_account(self, account_id: AccountId) -> None:
        """See :class:`Directory`."""
        self._change(Change.remove_account, account_id)

    def set_disabled(self, account_id: AccountId, disabled: bool) -> None:
        """See :class:`Directory`."""
        self._update(account_id, lambda record: replace(record, disabled=disabled))

    def set_quota(self, account_id: AccountId, quota_bytes: int | None) -> None:
        """See :class:`Directory`."""
        self._update(account_id, lambda record: replace(record, quota_bytes=quota_bytes))

    def set_pop3(self, account_id: AccountId, settings: Pop3Settings) -> None:
        """See :class:`Directory`."""
        self._update(account_id, lambda record: replace(record, pop3=settings))

    def advance_header_generation(self, account_id: AccountId, generation: int) -> None:
        """See :class:`Directory`."""

        def advanced(record: AccountRecord) -> AccountRecord:
            return replace(record, header_generation=max(record.header_generation, generation))

        self._update(account_id, advanced)

    def set_header(self, account_id: AccountId, public_key: PublicKey, generation: int) -> None:
        """See :class:`Directory`."""
        self._update(
            account_id, lambda record: replace(record, public_key=public_key, header_generation=generation)
        )

    def add_alias(self, address: str, account_id: AccountId) -> None:
        """See :class:`Directory`."""
        self._change(Change.add_alias, require_address(address), account_id)

    def remove_alias(self, address: str) -> None:
        """See :class:`Directory`."""
        wanted = read_address(address)
        if wanted is None or not self._change(Change.remove_alias, wanted.full):
            raise NoSuchAddress

    def put_node(self, node: Node, *, again: bool = False) -> None:
        """See :class:`Directory`."""
        self._change(Change.put_node, require_node(node), again)

    def remove_node(self, name: str) -> None:
        """See :class:`Directory`."""
        self._change(Change.remove_node, name)

    def set_node(self, account_id: AccountId, node: str, generation: int) -> None:
        """See :class:`Directory`."""
        self._change(Change.set_node, account_id, node, generation)

    def moves(self) -> Moves:
        """See :class:`mailstore.directory.moves.Shared`."""
        return PostgresMoves(self._database, lambda: self._sealer)

    def begin_lease(self, name: str, lease_s: float) -> None:
        """See :class:`Directory`."""
        self._change(Change.begin_lease, name, lease_s)

    def mark_lost(self, name: str) -> None:
        """See :class:`Directory`."""
        self._change(Change.mark_lost, name)

    def take_from_lost(self, account_id: AccountId, lost: str, node: str, header: Header) -> None:
        """See :class:`Directory`."""
        self._change(Change.take_from_lost, account_id, lost, node, header)

    def add_domain(self, domain: str) -> None:
        """See :class:`Directory`."""
        self._change(Change.ensure_domain, require_domain(domain))

    def limit_domain(self, domain: str, **changed: int | None) -> DomainLimits:
        """See :class:`Directory`."""
        limits: DomainLimits = self._change(Change.limit_domain, _domain(domain), changed)
        return limits

    def remove_domain(self, domain: str) -> None:
        """See :class:`Directory`."""
        self._change(Change.remove_domain, _domain(domain))

    def set_default_domain(self, domain: str) -> None:
        """See :class:`Directory`."""
        self._change(Change.set_default_domain, _domain(domain))

    # -- how -------------------------------------------------------------------------------------

    def _ask(self, fn: Callable[[Rows], T]) -> T:
        """One question, which is one statement."""
        found: T = self._database.ask(lambda txn: fn(Rows(txn, self._sealer)))
        return found

    def _read(self, fn: Callable[..., Any], *args: Any) -> Any:
        return self._database.read(lambda txn: fn(Rows(txn, self._sealer), *args))

    def _change(self, fn: Callable[..., Any], *args: Any) -> Any:
        return self._database.write(lambda txn: pg_rows.change(txn, self._sealer, fn, *args))

    def _update(self, account_id: AccountId, change: Callable[[AccountRecord], AccountRecord]) -> None:
        if not self._change(Change.update, account_id, change):
            raise NoSuchAccount

    def _known(self, question: Question, fn: Callable[[Rows], AccountRecord | None]) -> AccountRecord | None:
        if self._database.is_away and (kept := self._cache.get(question)) is not None:
            return kept  # whether it is back, the one that listens finds out, and nobody waits for that
        since = self._cache.heard
        self._has_asked = True
        try:
            record = self._ask(fn)
        except DirectoryUnavailable:
            if (kept := self._cache.get(question)) is None:
                raise
            return kept
        if record is None:
            self._cache.drop(question)
        elif self._listener is not None:
            row = pg_rows.account_row(self._sealer, record.account_id)
            # Whoever got mail can log in, and the other way round.
            for answered in {question, (_ADDRESS, record.name), (_ACCOUNT, str(record.account_id))}:
                self._cache.keep(answered, row, record, since)
        return record

    def _lasting(self, what: str, fn: Callable[[], T]) -> T:
        """What is asked; while PostgreSQL is away, what it was last."""
        last: T
        is_known = what in self._remembered
        if is_known and self._database.is_away and self._listener is not None:
            last = self._remembered[what]  # as in _known
            return last
        try:
            found = fn()
        except DirectoryUnavailable:
            if not is_known:
                raise
            last = self._remembered[what]
            return last
        self._remembered[what] = found
        return found


def _version(txn: Txn) -> Hashable:
    [(directory_id, changes)] = txn.rows(_VERSION)
    return bytes(directory_id), int(changes)


def _domain(text: str) -> str:
    name = read_domain(text)
    if name is None:
        raise NoSuchDomain
    return name


def _recipient(record: AccountRecord, hint: str | None) -> Recipient:
    return Recipient(
        record.account_id,
        record.name,
        record.public_key,
        hint,
        record.quota_bytes,
        record.disabled,
        record.domain_quota_bytes,
        record.node,
        record.node_generation,
    )


def is_made_in(url: str, limits: DirectoryLimits) -> bool:
    """Whether the database has a directory. Raises StoreError."""
    with _unchecked(url, limits) as database:
        return pg_schema.is_made(database)


def make_in(url: str, cluster_key: bytes, limits: DirectoryLimits) -> None:
    """Create or migrate the directory. Raises DirectoryKeyWrong, TooNew, DirectoryRefused, StoreError."""
    with _unchecked(url, limits) as database:
        pg_schema.make(database, cluster_key)


@contextmanager
def _unchecked(url: str, limits: DirectoryLimits) -> Iterator[Database]:
    database = Database(url, limits, lambda _txn: None)
    try:
        yield database
    finally:
        database.close()


__all__ = ["PostgresDirectory", "hosts_of", "is_made_in", "lease_in", "make_in"]
