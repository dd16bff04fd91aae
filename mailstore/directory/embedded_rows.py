"""What is read from and written to the embedded directory, inside a transaction."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from mailstore.address import Address, read_login_name, require_address
from mailstore.directory.interface import (
    NO_LIMITS,
    AccountRecord,
    Alias,
    Contents,
    DomainLimits,
    Doors,
    Node,
    Recipient,
)
from mailstore.engine import Row, Txn, Value
from mailstore.errors import (
    AccountExists,
    DirectoryNotEmpty,
    DomainFull,
    DomainInUse,
    NodeGenerationPast,
    NodeInUse,
    NoSuchAccount,
    NoSuchDomain,
    NoSuchNode,
)
from mailstore.keys import AccountId, PublicKey
from mailstore.model import Pop3Settings

_DOMAIN_QUOTA = (
    "(SELECT domain.quota_bytes FROM address JOIN domain ON domain.name = address.domain"
    " WHERE address.name = account.name)"
)
_ACCOUNT = (
    f"SELECT id, name, public_key, header_generation, quota_bytes, created, disabled, {_DOMAIN_QUOTA},"  # noqa: S608 - text of ours
    " node, node_generation,"
    " pop3_maildrop, pop3_retr_marks_seen, pop3_dele_to_trash, pop3_login_delay_s FROM account"
)
_ADDRESSES = "SELECT count(*) FROM address JOIN account ON account.id = account_id WHERE address.domain = ?"
_ACCOUNTS_OF = f"{_ADDRESSES} AND address.name = account.name"
_ALIASES_OF = f"{_ADDRESSES} AND address.name <> account.name"


def run(txn: Txn, statement: str, values: Sequence[Value]) -> int:
    """Run a statement; how many rows it changed."""
    return txn.run(statement, values)


def recipient(txn: Txn, wanted: Address) -> Recipient | None:
    """See ``Directory.resolve``, without the reading of what a peer wrote."""
    query = (
        f"SELECT id, name, public_key, quota_bytes, disabled, {_DOMAIN_QUOTA}, node, node_generation"  # noqa: S608 - text of ours
        " FROM account WHERE id = (SELECT account_id FROM address WHERE name = ?)"
    )
    # An address registered with a + takes precedence over the rule for details.
    for name, hint in ((wanted.full, None), (wanted.base, wanted.detail or None)):
        row = txn.one(query, (name,))
        if row is not None:
            account_id, own, key, quota_bytes, disabled, *others = row
            found = AccountId(account_id), own, PublicKey(key), hint, quota_bytes, bool(disabled)
            return Recipient(*found, *others)
    return None


def login_name(txn: Txn, name: str | bytes) -> str | None:
    """See ``Directory``."""
    return read_login_name(name, setting(txn, "default_domain"))


def by_login_name(txn: Txn, name: str | bytes) -> AccountRecord | None:
    """See ``Directory.login``."""
    row = txn.one(f"{_ACCOUNT} WHERE name = ?", (login_name(txn, name),))
    if row is None:
        # A name that nobody has costs what reading a record costs.
        for other in txn.rows(f"{_ACCOUNT} ORDER BY id LIMIT 1"):
            _record(other)
        return None
    return _record(row)


def account(txn: Txn, account_id: AccountId) -> AccountRecord | None:
    """See ``Directory``."""
    row = txn.one(f"{_ACCOUNT} WHERE id = ?", (account_id,))
    return None if row is None else _record(row)


def accounts(txn: Txn) -> list[AccountRecord]:
    """See ``Directory``."""
    return [_record(row) for row in txn.rows(f"{_ACCOUNT} ORDER BY name")]


def add_account(txn: Txn, record: AccountRecord, address: Address) -> None:
    """See ``Directory``."""
    _require_node(txn, record.node)
    _require_free(txn, address.full)
    ensure_domain(txn, address.domain)
    _require_room(txn, address, _limits(txn, address.domain).accounts, _ACCOUNTS_OF)
    _insert_account(txn, record, address)


def _insert_account(txn: Txn, record: AccountRecord, address: Address) -> None:
    values = (
        record.account_id,
        address.full,
        record.public_key,
        record.header_generation,
        record.quota_bytes,
        record.created,
        int(record.disabled),
        *pop3_columns(record.pop3),
        record.node,
        record.node_generation,
    )
    txn.run("INSERT INTO account VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", values)
    _insert_address(txn, address, record.account_id)


def _insert_address(txn: Txn, address: Address, account_id: AccountId) -> None:
    txn.run("INSERT INTO address VALUES (?, ?, ?)", (address.full, address.domain, account_id))


def nodes(txn: Txn) -> list[Node]:
    """See ``Directory``."""
    query = "SELECT name, address, imap, pop3, submission FROM node ORDER BY name"
    return [Node(name, address, Doors(*doors)) for name, address, *doors in txn.rows(query)]


def put_node(txn: Txn, node: Node) -> None:
    """See ``Directory``."""
    doors = node.doors
    values = node.name, node.address, doors.imap, doors.pop3, doors.submission
    txn.run("INSERT OR REPLACE INTO node VALUES (?, ?, ?, ?, ?)", values)


def _require_node(txn: Txn, name: str | None) -> None:
    if name is not None and txn.one("SELECT 1 FROM node WHERE name = ?", (name,)) is None:
        raise NoSuchNode


def remove_node(txn: Txn, name: str) -> None:
    """See ``Directory``."""
    if txn.one("SELECT 1 FROM account WHERE node = ?", (name,)) is not None:
        raise NodeInUse
    if txn.run("DELETE FROM node WHERE name = ?", (name,)) == 0:
        raise NoSuchNode


def set_node(txn: Txn, account_id: AccountId, node: str, generation: int) -> None:
    """See ``Directory``."""
    record = account(txn, account_id)
    if record is None:
        raise NoSuchAccount
    _require_node(txn, node)
    if generation <= record.node_generation:
        raise NodeGenerationPast
    statement = "UPDATE account SET node = ?, node_generation = ? WHERE id = ?"
    txn.run(statement, (node, generation, account_id))


def largest_pop3_login_delay_s(txn: Txn) -> int:
    """See ``Directory``."""
    # The condition is that of the index, so this reads one row of it however many accounts there are.
    query = "SELECT max(pop3_login_delay_s) FROM account WHERE pop3_login_delay_s IS NOT NULL"
    return int(txn.value(query) or 0)


def aliases(txn: Txn, account_id: AccountId | None) -> list[Alias]:
    """See ``Directory``."""
    query = (
        "SELECT address.name, account.name FROM address JOIN account ON account.id = account_id"
        " WHERE address.name <> account.name AND (?1 IS NULL OR account_id = ?1) ORDER BY address.name"
    )
    return [Alias(*row) for row in txn.rows(query, (account_id,))]


def add_alias(txn: Txn, address: Address, account_id: AccountId) -> None:
    """See ``Directory``."""
    if account(txn, account_id) is None:
        raise NoSuchAccount
    if not _has_domain(txn, address.domain):
        raise NoSuchDomain
    _require_free(txn, address.full)
    _require_room(txn, address, _limits(txn, address.domain).aliases, _ALIASES_OF)
    _insert_address(txn, address, account_id)


def _require_room(txn: Txn, address: Address, most: int | None, counting: str) -> None:
    """For this address in its domain. Raises DomainFull."""
    if most is not None and int(txn.value(counting, (address.domain,))) >= most:
        raise DomainFull("its domain has as many as it may have")


def domains(txn: Txn) -> dict[str, DomainLimits]:
    """All domains with their limits."""
    rows = txn.rows("SELECT name, quota_bytes, accounts_max, aliases_max FROM domain")
    return {name: DomainLimits(*limits) for name, *limits in rows}


def _limits(txn: Txn, name: str) -> DomainLimits:
    row = txn.one("SELECT quota_bytes, accounts_max, aliases_max FROM domain WHERE name = ?", (name,))
    return NO_LIMITS if row is None else DomainLimits(*row)


def limit_domain(txn: Txn, name: str | None, changed: Mapping[str, int | None]) -> DomainLimits:
    """See ``Directory``."""
    if name is None or not _has_domain(txn, name):
        raise NoSuchDomain
    limits = replace(_limits(txn, name), **changed)
    statement = "UPDATE domain SET quota_bytes = ?, accounts_max = ?, aliases_max = ? WHERE name = ?"
    txn.run(statement, (limits.quota_bytes, limits.accounts, limits.aliases, name))
    return limits


def remove_domain(txn: Txn, name: str | None) -> None:
    """See ``Directory``."""
    if name is None or not _has_domain(txn, name):
        raise NoSuchDomain
    if txn.one("SELECT 1 FROM address WHERE domain = ?", (name,)) is not None:
        raise DomainInUse
    txn.run("DELETE FROM domain WHERE name = ?", (name,))
    txn.run("DELETE FROM setting WHERE name = 'default_domain' AND value = ?", (name,))


def set_default_domain(txn: Txn, name: str | None) -> None:
    """See ``Directory``."""
    if name is None or not _has_domain(txn, name):
        raise NoSuchDomain
    txn.run("INSERT OR REPLACE INTO setting VALUES ('default_domain', ?)", (name,))


def _record(row: Row) -> AccountRecord:
    account_id, name, public_key, generation, quota_bytes, created, disabled, domain_quota, *others = row
    node, node_generation, maildrop, retr_marks_seen, dele_to_trash, login_delay_s = others
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
        node,
        node_generation,
    )


def pop3_columns(settings: Pop3Settings) -> tuple[str, int, int, int | None]:
    """The values of the four columns, in their order."""
    return (
        settings.maildrop,
        int(settings.retr_marks_seen),
        int(settings.dele_to_trash),
        settings.login_delay_s,
    )


def setting(txn: Txn, name: str) -> str | None:
    """A setting, None if there is none."""
    found: str | None = txn.value("SELECT value FROM setting WHERE name = ?", (name,))
    return found


def _has_domain(txn: Txn, name: str) -> bool:
    return txn.one("SELECT 1 FROM domain WHERE name = ?", (name,)) is not None


def ensure_domain(txn: Txn, name: str) -> None:
    """Add a domain that is not there; the first is the default."""
    if _has_domain(txn, name):
        return
    txn.run("INSERT INTO domain (name) VALUES (?)", (name,))
    txn.run("INSERT OR IGNORE INTO setting VALUES ('default_domain', ?)", (name,))


def _require_free(txn: Txn, address: str) -> None:
    if txn.one("SELECT 1 FROM address WHERE name = ?", (address,)) is not None:
        raise AccountExists


def everything(txn: Txn) -> Contents:
    """See ``Directory.contents``."""
    query = (
        "SELECT address.name, account_id FROM address JOIN account ON account.id = account_id"
        " WHERE address.name <> account.name"
    )
    aliases = [(row[0], AccountId(row[1])) for row in txn.rows(query)]
    return Contents.of(setting(txn, "default_domain"), domains(txn), accounts(txn), aliases, nodes(txn))


def fill(txn: Txn, contents: Contents) -> bool:
    """See ``Directory``."""
    here = everything(txn)
    if here == contents:
        return False
    if here.domains or here.accounts or here.nodes:
        raise DirectoryNotEmpty
    for node in contents.nodes:
        put_node(txn, node)
    for name, limits in contents.domains:
        values = name, limits.quota_bytes, limits.accounts, limits.aliases
        txn.run("INSERT INTO domain VALUES (?, ?, ?, ?)", values)
    for record in contents.accounts:
        _require_node(txn, record.node)
        _insert_account(txn, record, require_address(record.name))
    for address, account_id in contents.aliases:
        _insert_address(txn, require_address(address), account_id)
    txn.run("DELETE FROM setting WHERE name = 'default_domain'")
    if contents.default_domain is not None:
        set_default_domain(txn, contents.default_domain)
    return True
