"""What a database that others run may see of a directory: keyed hashes, and sealed rows.

FORMAT.md section 16 is the specification. A row's place, number of change and key are authenticated with it,
so that rows can be neither exchanged nor altered.
"""

import base64
import hmac
import json
import os
from dataclasses import dataclass, field
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from mailstore.directory.interface import AccountRecord, DomainLimits
from mailstore.keys import AccountId, KeyLabel, PublicKey, RandomBytes, derive
from mailstore.model import Pop3Settings
from mailstore.names import mailbox_name

CLUSTER_KEY_BYTES = 32
KEY_ID_BYTES = 8
DIRECTORY_ID_BYTES = 16
_NONCE_BYTES = 12
_PADDED_TO = 128
"""Sealed rows are multiples of this long, so that lengths do not tell addresses apart."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a sealed row is: its table, its keyed hash, and the number of the change that wrote it."""

    table: str
    row: bytes = field(repr=False)
    changed: int


class Sealer:
    """The keys of one directory, derived from the key that all nodes of a server share."""

    def __init__(
        self, cluster_key: bytes, directory_id: bytes = b"", random: RandomBytes = os.urandom
    ) -> None:
        """``directory_id`` tells directories under one key apart."""
        self.key_id = derive(cluster_key, KeyLabel.DIRECTORY_KEY_ID, KEY_ID_BYTES)
        self._lookup = derive(cluster_key, KeyLabel.DIRECTORY_LOOKUP, CLUSTER_KEY_BYTES)
        self._rows = AESGCM(derive(cluster_key, KeyLabel.DIRECTORY_ROWS, CLUSTER_KEY_BYTES))
        self.directory_id = directory_id
        self.nodes = derive(cluster_key, KeyLabel.DIRECTORY_NODES, CLUSTER_KEY_BYTES)
        """For ``seeming_node``."""
        self._random = random

    def hashed(self, table: str, name: str) -> bytes:
        """The keyed hash by which a name is looked up in a table."""
        said = b"\0".join((self.directory_id.hex().encode(), table.encode(), name.encode("utf-8")))
        return hmac.digest(self._lookup, said, "sha256")

    def seal(self, place: Place, value: object) -> bytes:
        """What the row at ``place`` holds, sealed."""
        text = json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
        padded = text.ljust(-(-len(text) // _PADDED_TO) * _PADDED_TO)
        nonce = self._random(_NONCE_BYTES)
        return nonce + self._rows.encrypt(nonce, padded, self._bound(place))

    def open(self, place: Place, sealed: bytes) -> Any:
        """What :meth:`seal` was given. Raises ValueError: it was not sealed there, or with another key."""
        nonce, rest = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
        try:
            return json.loads(self._rows.decrypt(nonce, rest, self._bound(place)))
        except InvalidTag:
            raise ValueError("the row does not belong there") from None

    def _bound(self, place: Place) -> bytes:
        head = b"sealbox/1/directory-row\0" + self.key_id + self.directory_id + place.table.encode() + b"\0"
        return head + place.changed.to_bytes(8, "big") + place.row


def limits_value(limits: DomainLimits) -> dict[str, Any]:
    """A domain's limits as they are sealed and exported; how many it may have only where that is limited."""
    numbers = {"accounts": limits.accounts, "aliases": limits.aliases}
    set_ones = {what: number for what, number in numbers.items() if number is not None}
    return {"quota_bytes": limits.quota_bytes, **set_ones}


def limits_of(value: dict[str, Any]) -> DomainLimits:
    """The limits that :func:`limits_value` describes. Raises ValueError, KeyError, TypeError."""
    return DomainLimits(
        _number(value["quota_bytes"]), _number(value.get("accounts")), _number(value.get("aliases"))
    )


def account_value(record: AccountRecord) -> dict[str, Any]:
    """A record as it is sealed and exported; not what it has from its domain."""
    pop3 = record.pop3
    return {
        "id": str(record.account_id),
        "name": record.name,
        "public_key": base64.b64encode(record.public_key).decode("ascii"),
        "header_generation": record.header_generation,
        "quota_bytes": record.quota_bytes,
        "created": record.created,
        "disabled": record.disabled,
        "pop3": {
            "maildrop": pop3.maildrop,
            "retr_marks_seen": pop3.retr_marks_seen,
            "dele_to_trash": pop3.dele_to_trash,
            "login_delay_s": pop3.login_delay_s,
        },
    } | _node_value(record)


def _node_value(record: AccountRecord) -> dict[str, Any]:
    """Nothing where no node has a name, so that exports are those of earlier programs."""
    if record.node is None and not record.node_generation:
        return {}
    return {"node": record.node, "node_generation": record.node_generation}


def account_of(value: dict[str, Any], domain_quota_bytes: int | None) -> AccountRecord:
    """The record that :func:`account_value` describes. Raises ValueError, KeyError, TypeError."""
    pop3 = value["pop3"]
    return AccountRecord(
        AccountId(str(value["id"])),
        str(value["name"]),
        PublicKey(base64.b64decode(value["public_key"], validate=True)),
        int(value["header_generation"]),
        _number(value["quota_bytes"]),
        int(value["created"]),
        bool(value["disabled"]),
        Pop3Settings(
            mailbox_name(str(pop3["maildrop"])),
            bool(pop3["retr_marks_seen"]),
            bool(pop3["dele_to_trash"]),
            _number(pop3["login_delay_s"]),
        ),
        domain_quota_bytes,
        None if value.get("node") is None else str(value["node"]),
        int(value.get("node_generation", 0)),
    )


def _number(value: Any) -> int | None:
    return None if value is None else int(value)
