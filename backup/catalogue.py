"""The server's own stream: directory, server key, configuration, and the newest segment of every account.

FORMAT.md section 6. Records are compared by hash, so a segment holds only what changed.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from backup.errors import SegmentDamaged
from backup.former_keys import FormerKey, decode_former
from backup.segment import SegmentName, StreamId
from mailstore.directory import AccountRecord, Directory, DomainLimits
from mailstore.keys import AccountId, PublicKey
from mailstore.model import Pop3Settings
from mailstore.names import mailbox_name
from mailstore.server_key import FORMER_KEYS_NOTE

_ACCOUNT = "account/"


def stream_of_server(public_key: PublicKey) -> StreamId:
    """The server's stream under a backup key (FORMAT.md section 2)."""
    return StreamId(hashlib.sha256(b"sealbox/1/server-stream\0" + public_key).hexdigest()[:32])


@dataclass(frozen=True, slots=True)
class Head:
    """The newest segment of an account's stream."""

    stream: StreamId
    sequence: int
    sha256: bytes = field(repr=False)
    signed_from: int | None = None
    """The first segment of the stream that is signed, and so are all later ones; None: none is."""


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """What is needed to rebuild the server, besides the accounts' own streams."""

    directory: Directory
    server_key: bytes = field(repr=False)
    configuration: str = field(repr=False)
    notes: Mapping[str, str] = field(default_factory=dict, repr=False)


def records_of(facts: ServerFacts) -> dict[str, bytes]:
    """The records that describe the server now, each as JSON. Raises StoreError."""
    directory = facts.directory
    accounts = directory.accounts()
    ids = {account.name: account.account_id for account in accounts}
    plain: dict[str, Any] = {
        "aliases": {alias.address: ids[alias.account_name] for alias in directory.aliases()},
        "domains": directory.domains(),
        "default_domain": directory.default_domain(),
        "server_key": facts.server_key.hex(),
        "configuration": facts.configuration,
    }
    if facts.notes:
        plain["notes"] = dict(facts.notes)
    plain |= _limits_tree(directory.domain_limits())
    for account in accounts:
        plain[_ACCOUNT + account.account_id] = (
            {
                "name": account.name,
                "public_key": base64.b64encode(account.public_key).decode("ascii"),
                "header_generation": account.header_generation,
                "quota_bytes": account.quota_bytes,
                "created": account.created,
                "disabled": account.disabled,
            }
            | _pop3_tree(account.pop3)
            | _node_tree(account)
        )
    return {name: json.dumps(value, sort_keys=True).encode("utf-8") for name, value in plain.items()}


def _limits_tree(limits: Mapping[str, DomainLimits]) -> dict[str, object]:
    """Nothing where no domain is limited, as below."""
    quotas = {domain: one.quota_bytes for domain, one in limits.items() if one.quota_bytes is not None}
    numbers = {
        domain: {"accounts": one.accounts, "aliases": one.aliases}
        for domain, one in limits.items()
        if one.accounts is not None or one.aliases is not None
    }
    return ({"domain_quotas": quotas} if quotas else {}) | ({"domain_numbers": numbers} if numbers else {})


def _pop3_tree(settings: Pop3Settings) -> dict[str, object]:
    """Nothing for the defaults, so that the records of most accounts do not change."""
    return {} if settings == Pop3Settings() else {"pop3": asdict(settings)}


def _node_tree(account: AccountRecord) -> dict[str, object]:
    """Nothing where no node has a name, as above."""
    if account.node is None and not account.node_generation:
        return {}
    return {"node": account.node, "node_generation": account.node_generation}


def digest_of(value: bytes) -> bytes:
    """The hash by which a record is remembered."""
    return hashlib.sha256(value).digest()


def changed_records(
    records: Mapping[str, bytes], known: Mapping[str, bytes], *, full: bool
) -> dict[str, bytes | None]:
    """Records to be written; None for those that are gone."""
    if full:
        return dict(records)
    fresh: dict[str, bytes | None] = {
        name: value for name, value in records.items() if digest_of(value) != known.get(name)
    }
    return fresh | dict.fromkeys(name for name in known if name not in records)


def encode(records: Mapping[str, bytes | None], heads: Mapping[str, Head | None]) -> bytes:
    """The content of ``server.json``."""
    tree: dict[str, Any] = {}
    accounts: dict[str, Any] = {}
    for name, value in records.items():
        place, key = (accounts, name.removeprefix(_ACCOUNT)) if name.startswith(_ACCOUNT) else (tree, name)
        place[key] = None if value is None else json.loads(value)
    if accounts:
        tree["accounts"] = accounts
    if heads:
        tree["heads"] = {account: head and _head_tree(head) for account, head in heads.items()}
    return json.dumps(tree, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode("utf-8")


def _head_tree(head: Head) -> dict[str, object]:
    tree = {"stream": head.stream, "sequence": head.sequence, "sha256": head.sha256.hex()}
    return tree if head.signed_from is None else {**tree, "signed_from": head.signed_from}


@dataclass(slots=True)
class Server:
    """The server as its stream describes it, segment after segment."""

    accounts: dict[str, AccountRecord] = field(default_factory=dict, repr=False)
    aliases: dict[str, AccountId] = field(default_factory=dict, repr=False)
    domains: list[str] = field(default_factory=list, repr=False)
    domain_quotas: dict[str, int] = field(default_factory=dict, repr=False)
    domain_numbers: dict[str, dict[str, int | None]] = field(default_factory=dict, repr=False)
    """How many accounts and aliases each may have."""

    default_domain: str | None = field(default=None, repr=False)
    server_key: bytes = field(default=b"", repr=False)
    notes: dict[str, str] = field(default_factory=dict, repr=False)
    later_keys: tuple[FormerKey, ...] = field(default=(), repr=False)
    """What is said of signing keys after the time that was asked for; anybody may have written that."""

    configuration: str = field(default="", repr=False)
    heads: dict[str, Head] = field(default_factory=dict, repr=False)
    gone: dict[str, AccountRecord] = field(default_factory=dict, repr=False)
    """Accounts that have been deleted since, as they were."""

    former: dict[str, list[Head]] = field(default_factory=dict, repr=False)
    """Heads of the earlier streams of accounts that began a new one, as after a --take-over; oldest first."""

    def apply(self, name: SegmentName, data: bytes) -> None:
        """Add the ``server.json`` of the next segment. Raises SegmentDamaged."""
        try:
            self._apply(json.loads(data))
        except (KeyError, TypeError, ValueError, AttributeError):
            raise SegmentDamaged(str(name), "its list of accounts cannot be read") from None

    def _apply(self, tree: dict[str, Any]) -> None:
        for account, entry in tree.get("accounts", {}).items():
            before = self.accounts.pop(account, None)
            if entry is not None:
                self.accounts[account] = _record(account, entry)
                self.gone.pop(account, None)
            elif before is not None:
                self.gone[account] = before
        for account, head in tree.get("heads", {}).items():
            if head is not None:
                last = self.heads.get(account)
                if last is not None and last.stream != head["stream"]:
                    self.former.setdefault(account, []).append(last)
                self.heads[account] = Head(
                    StreamId(head["stream"]),
                    int(head["sequence"]),
                    bytes.fromhex(head["sha256"]),
                    _number(head.get("signed_from")),
                )
        if "aliases" in tree:
            self.aliases = {address: AccountId(owner) for address, owner in tree["aliases"].items()}
        self.domains = tree.get("domains", self.domains)
        if "domain_quotas" in tree:
            quotas = tree["domain_quotas"] or {}
            self.domain_quotas = {domain: int(quota) for domain, quota in quotas.items()}
        if "domain_numbers" in tree:
            self.domain_numbers = {
                domain: {what: _number(one.get(what)) for what in ("accounts", "aliases")}
                for domain, one in (tree["domain_numbers"] or {}).items()
            }
        self.default_domain = tree.get("default_domain", self.default_domain)
        if "server_key" in tree:
            self.server_key = bytes.fromhex(tree["server_key"])
        if "notes" in tree:
            self.notes = {name: str(text) for name, text in (tree["notes"] or {}).items()}
            decode_former(self.notes.get(FORMER_KEYS_NOTE))  # refused as a whole, and not where it is used
        self.configuration = tree.get("configuration", self.configuration)

    def former_keys(self) -> tuple[FormerKey, ...]:
        """The signing keys that it has had before."""
        return decode_former(self.notes.get(FORMER_KEYS_NOTE))

    def find(self, wanted: str) -> AccountRecord | None:
        """An account by its id, its address or an alias; also one that was deleted."""
        everyone = self.gone | self.accounts
        owner = self.aliases.get(wanted)
        by_name = {record.name: record for record in everyone.values()}
        return everyone.get(wanted) or by_name.get(wanted) or (everyone.get(owner) if owner else None)


def _number(value: Any) -> int | None:
    return None if value is None else int(value)


def _record(account: str, entry: dict[str, Any]) -> AccountRecord:
    return AccountRecord(
        AccountId(account),
        str(entry["name"]),
        PublicKey(base64.b64decode(entry["public_key"], validate=True)),
        int(entry["header_generation"]),
        _number(entry["quota_bytes"]),
        int(entry["created"]),
        bool(entry["disabled"]),
        _pop3_settings(entry.get("pop3", {})),
        node=entry.get("node"),
        node_generation=int(entry.get("node_generation", 0)),
    )


def _pop3_settings(entry: dict[str, Any]) -> Pop3Settings:
    default = Pop3Settings()
    return Pop3Settings(
        mailbox_name(str(entry.get("maildrop", default.maildrop))),
        bool(entry.get("retr_marks_seen", default.retr_marks_seen)),
        bool(entry.get("dele_to_trash", default.dele_to_trash)),
        _number(entry.get("login_delay_s")),
    )
