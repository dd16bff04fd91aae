"""Names and addresses of the nodes that share a directory, and where a name that nobody has seems to be."""

import hmac
import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from mailstore.address import read_domain
from mailstore.directory.doors import doors_value, is_door, is_port
from mailstore.directory.interface import AccountRecord, Node
from mailstore.errors import NodeNameInvalid

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_IPV4 = re.compile(r"[0-9]{1,3}(\.[0-9]{1,3}){3}")
_IPV6 = re.compile(r"\[[0-9a-f:.]{2,45}\]")


_names: dict[Path, str] = {}
"""What the configuration calls the servers of data roots; all others have no name."""


def call_node(root: Path, name: str | None) -> None:
    """Say how the server of a data root is called from now on in this process."""
    if name is None:
        _names.pop(root.resolve(), None)
    else:
        _names[root.resolve()] = name


def node_name(root: Path) -> str | None:
    """What :func:`call_node` has said; None for a server that shares its directory with nobody."""
    # Servers without a name are spared the look at the file system.
    return _names.get(root.resolve()) if _names else None


def is_elsewhere(root: Path, record: AccountRecord) -> bool:
    """Whether the directory gives the account to another server than that of a data root."""
    return record.node is not None and record.node != node_name(root)


def given_to_this(root: Path, record: AccountRecord) -> AccountRecord:
    """The record of an account that begins, or begins anew, on the server of a data root."""
    mine = node_name(root)
    if mine is None and not record.node_generation:
        return record
    return replace(record, node=mine, node_generation=record.node_generation + 1)


def is_node_name(text: str) -> bool:
    """Whether a node may be called so: one label of a domain name, in lower case, as certificates have it."""
    return _NAME.fullmatch(text) is not None


def require_node(node: Node) -> Node:
    """The same. Raises NodeNameInvalid."""
    host, colon, port = node.address.rpartition(":")
    is_host = _IPV6.fullmatch(host) is not None or (host.isascii() and _is_host_name(host))
    if not (is_node_name(node.name) and colon and is_host and is_port(port)):
        raise NodeNameInvalid
    if not all(map(is_door, doors_value(node.doors).values())):
        raise NodeNameInvalid
    return node


def _is_host_name(host: str) -> bool:
    """One label, a name with several, or an IPv4 address."""
    return is_node_name(host) or read_domain(host) == host or _IPV4.fullmatch(host) is not None


def seeming_node(key: bytes, nodes: Iterable[Node], login_name: str | None) -> str | None:
    """See ``Directory.seeming_node``. A node more or less moves as few names as it can."""
    said = b"" if login_name is None else login_name.encode("utf-8", "replace")
    names = [node.name.encode("ascii") for node in nodes]
    if not names:
        return None
    return max(names, key=lambda name: hmac.digest(key, name + b"\0" + said, "sha256")).decode("ascii")
