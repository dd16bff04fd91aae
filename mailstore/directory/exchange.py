"""A directory as lines of JSON, to be carried from one kind to the other.

FORMAT.md section 17 is the specification. The first line counts what follows, so that a file cut short is
noticed; nothing is believed of what a file holds.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from mailstore.address import read_address, read_domain
from mailstore.directory.doors import doors_of, doors_value
from mailstore.directory.interface import AccountRecord, Contents, DomainLimits, Node
from mailstore.directory.nodes import require_node
from mailstore.directory.sealing import account_of, account_value, limits_of, limits_value
from mailstore.errors import ExportInvalid, NodeNameInvalid
from mailstore.keys import AccountId

KIND, VERSIONS = "sealbox directory", (1, 2, 3, 4)
_ACCOUNT_ID = re.compile(r"[0-9a-f]{32}")


def lines_of(contents: Contents) -> Iterator[str]:
    """The lines, each with its end."""
    head: dict[str, Any] = {
        "kind": KIND,
        "version": _version(contents),
        "domains": len(contents.domains),
        "accounts": len(contents.accounts),
        "aliases": len(contents.aliases),
        "default_domain": contents.default_domain,
    }
    if _has_nodes(contents):
        head["nodes"] = len(contents.nodes)
    yield _line(head)
    for name, limits in contents.domains:
        yield _line({"domain": name, **limits_value(limits)})
    for node in contents.nodes:
        yield _line({"node": node.name, "address": node.address} | doors_value(node.doors))
    for record in contents.accounts:
        yield _line({"account": account_value(record)})
    for address, account_id in contents.aliases:
        yield _line({"alias": address, "account_id": account_id})


def _version(contents: Contents) -> int:
    """The least: a program that would lose something is told so by it."""
    if any(limits.accounts is not None or limits.aliases is not None for _, limits in contents.domains):
        return 4
    if any(doors_value(node.doors) for node in contents.nodes):
        return 3
    return 2 if _has_nodes(contents) else 1


def _has_nodes(contents: Contents) -> bool:
    return bool(contents.nodes) or any(record.node_generation for record in contents.accounts)


def _line(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n"


def read_lines(lines: Iterable[str]) -> Contents:
    """The contents that such lines describe. Raises ExportInvalid."""
    numbered = enumerate(lines, 1)
    number = 1
    try:
        head = json.loads(next(numbered)[1])
        if head["kind"] != KIND or head["version"] not in VERSIONS:
            raise ExportInvalid("its first line is not that of an export")
        read = _Reading()
        for number, line in numbered:  # noqa: B007 - the message below names it
            read.take(json.loads(line))
        return read.finished(head)
    except StopIteration:
        raise ExportInvalid("it is empty") from None
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError, NodeNameInvalid):
        raise ExportInvalid(f"line {number} is not what an export has there") from None


class _Reading:
    def __init__(self) -> None:
        self._domains: dict[str, DomainLimits] = {}
        self._accounts: dict[AccountId, AccountRecord] = {}
        self._nodes: dict[str, Node] = {}
        self._aliases: dict[str, AccountId] = {}
        self._addresses: set[str] = set()

    def take(self, value: dict[str, Any]) -> None:
        """One line. Raises ValueError, KeyError, TypeError."""
        match value:
            case {"domain": str(name)}:
                limits = limits_of(value)
                _require(read_domain(name) == name and name not in self._domains)
                _require((limits.accounts or 0) >= 0 and (limits.aliases or 0) >= 0)
                self._domains[name] = limits
            case {"node": str(name), "address": str(address)}:
                _require(name not in self._nodes)
                self._nodes[name] = require_node(Node(name, address, doors_of(value)))
            case {"account": dict(fields)}:
                record = account_of(fields, None)
                _require(_ACCOUNT_ID.fullmatch(record.account_id) is not None)
                _require(record.account_id not in self._accounts and record.node_generation >= 0)
                _require(record.node is None or record.node in self._nodes)
                self._take_address(record.name)
                self._accounts[record.account_id] = record
            case {"alias": str(address), "account_id": str(owner)}:
                _require(owner in self._accounts)
                self._take_address(address)
                self._aliases[address] = AccountId(owner)
            case _:
                raise ValueError

    def _take_address(self, text: str) -> None:
        address = read_address(text)
        _require(address is not None and address.full == text and text not in self._addresses)
        _require(address is not None and address.domain in self._domains)
        self._addresses.add(text)

    def finished(self, head: dict[str, Any]) -> Contents:
        """All of it, if that is what the first line has announced."""
        counts = len(self._domains), len(self._accounts), len(self._aliases), len(self._nodes)
        announced = head["domains"], head["accounts"], head["aliases"], head.get("nodes", 0)
        if counts != announced:
            raise ExportInvalid("it has fewer or more lines than the first one says: it was cut short")
        default = head["default_domain"]
        _require(default is None or default in self._domains)
        return Contents.of(
            default, self._domains, self._accounts.values(), self._aliases.items(), self._nodes.values()
        )


def _require(is_true: bool) -> None:
    if not is_true:
        raise ValueError
