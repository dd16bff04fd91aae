"""Where nodes take what a proxy in front of them passes on, and to which it is sent with a login."""

import ipaddress
import logging
import time
from collections.abc import Mapping
from dataclasses import asdict

from mailstore.directory.interface import Directory, Doors

log = logging.getLogger("sealbox.nodes")

_TELL_AGAIN_S = 60.0
_tell_from_s: dict[tuple[str | None, str], float] = {}


def is_port(text: str) -> bool:
    """Whether this is the number of one."""
    return text.isascii() and text.isdecimal() and 0 < int(text[:6]) < 65536


def is_door(text: str) -> bool:
    """Whether this is an address and a port: a proxy connects without asking for names."""
    host, _, port = text.rpartition(":")
    is_v6 = host.startswith("[") and host.endswith("]")
    try:
        (ipaddress.IPv6Address if is_v6 else ipaddress.IPv4Address)(host[1:-1] if is_v6 else host)
    except ValueError:
        return False
    return "%" not in host and is_port(port)  # a zone (RFC 4007) means something on one machine alone


def doors_value(doors: Doors) -> dict[str, str]:
    """Those that a node has, as they are sealed, exported and shown; nothing where it has none."""
    return {name: place for name, place in asdict(doors).items() if place is not None}


def doors_of(value: Mapping[str, object]) -> Doors:
    """The doors among the entries of ``value``. Raises ValueError."""
    found = {name: value[name] for name in asdict(Doors()) if name in value}
    if not all(isinstance(place, str) for place in found.values()):
        raise ValueError
    return Doors(**{name: str(place) for name, place in found.items()})


def door_for(directory: Directory, name: bytes, protocol: str) -> str | None:
    """Where a proxy is sent with a login by this name (IP:PORT); None, told in the log, where the node has no
    such door.

    ``protocol`` is a field of :class:`Doors`. A name that nobody has is on some node, too. Blocks. Raises
    StoreError.
    """
    # For every name, so that each takes as long.
    seeming = directory.seeming_node(name)
    record = directory.login(name)
    node = seeming if record is None or record.node is None else record.node
    doors = next((one.doors for one in directory.nodes() if one.name == node), Doors())
    found = doors_value(doors).get(protocol)
    if found is None:
        _tell(node, protocol)
    return found


def _tell(node: str | None, protocol: str) -> None:
    """Once in a while: anybody may try to log in there."""
    now_s = time.monotonic()
    if now_s < _tell_from_s.get((node, protocol), now_s):
        return
    _tell_from_s[node, protocol] = now_s + _TELL_AGAIN_S
    log.error(
        "a proxy cannot be sent to node %s with a login for %s: see 'sealbox node add --help', --%s",
        *(node or "-", protocol, protocol),
    )
