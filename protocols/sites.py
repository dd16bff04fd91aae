"""The site of a client, by which limits are counted. Pure."""

from __future__ import annotations

import ipaddress

_IPV6_SITE_BITS = 64
"""The prefix length: one customer controls all addresses of such a network."""


def site_of(address: str) -> str:
    """The address, or the network of an IPv6 address; empty for what is none (a Unix socket's peer)."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return ""
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        # A socket for both families shows IPv4 clients so (RFC 4291 section 2.5.5.2): no network of theirs.
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((int(parsed), _IPV6_SITE_BITS), strict=False))


def read_address(text: bytes) -> str:
    """An address in its usual form; empty for what is none (Postfix writes "unknown") or has a scope."""
    try:
        parsed = ipaddress.ip_address(text.decode("ascii"))
    except ValueError:
        return ""
    scoped = isinstance(parsed, ipaddress.IPv6Address) and parsed.scope_id is not None
    return "" if scoped else str(parsed)


def is_address(text: str) -> bool:
    """Whether ``text`` is an IP address, without a scope, which could be any text."""
    return read_address(text.encode("ascii", "replace")) != ""
