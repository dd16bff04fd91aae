"""The header by which a proxy names its client: the PROXY protocol, versions 1 and 2. Sans I/O.

The specification is HAProxy's proxy-protocol.txt, sections 2.1 and 2.2. It is read octet by octet, so whoever
begins with anything else is refused at once, and nobody can have more of it kept than a header may have.
"""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass, field

V1_MAX_BYTES = 107
"""Section 2.1: the longest line that version 1 can have, with its CRLF."""

_V1_BEGIN = b"PROXY "
_V1_FIELDS = 4
"""Behind the family: addresses of client and proxy, and their ports."""
_V2_BEGIN = b"\r\n\r\n\x00\r\nQUIT\n"
_V2_HEAD = struct.Struct("!12sBBH")
_V2_LOCAL, _V2_PROXY = 0x20, 0x21
_V2_UNSPECIFIED = 0x00
_V2_ADDRESS_BYTES = {0x11: 4, 0x21: 16}
"""TCP over IPv4 and over IPv6: how long an address is."""
_PORTS_BYTES = 4


class HeaderInvalid(Exception):
    """What the peer has sent is no such header, or too long for one."""


@dataclass(frozen=True, slots=True)
class Header:
    """The client's address, None where the proxy speaks for itself; and what came behind the header."""

    address: str | None
    rest: bytes = field(repr=False)


class HeaderReader:
    """Reads one header. ``max_bytes`` bounds version 2; version 1 has a bound of its own."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._input = b""

    def feed(self, data: bytes) -> Header | None:
        """Add received octets; the header once it is complete. Raises HeaderInvalid."""
        self._input += data
        if _may_begin(self._input, _V1_BEGIN):
            return self._version_1()
        if _may_begin(self._input, _V2_BEGIN):
            return self._version_2()
        raise HeaderInvalid

    def _version_1(self) -> Header | None:
        line, end, rest = self._input[:V1_MAX_BYTES].partition(b"\r\n")
        if not end:
            if len(self._input) >= V1_MAX_BYTES:
                raise HeaderInvalid
            return None
        return Header(_address_in(line), rest + self._input[V1_MAX_BYTES:])

    def _version_2(self) -> Header | None:
        if len(self._input) < _V2_HEAD.size:
            return None
        _, command, family, length = _V2_HEAD.unpack_from(self._input)
        size, end = _V2_ADDRESS_BYTES.get(family), _V2_HEAD.size + length
        if command not in (_V2_LOCAL, _V2_PROXY) or end > self._max_bytes:
            raise HeaderInvalid
        if len(self._input) < end:
            return None
        said, rest = self._input[_V2_HEAD.size : end], self._input[end:]
        if command == _V2_LOCAL or family == _V2_UNSPECIFIED:
            return Header(None, rest)
        if size is None or len(said) < 2 * size + _PORTS_BYTES:
            raise HeaderInvalid
        return Header(str(ipaddress.ip_address(said[:size])), rest)


def _may_begin(received: bytes, begin: bytes) -> bool:
    return received.startswith(begin) or begin.startswith(received)


def _address_in(line: bytes) -> str | None:
    """The client's address in a line of version 1. Raises HeaderInvalid."""
    family, *fields = line.removeprefix(_V1_BEGIN).split(b" ")
    if family == b"UNKNOWN":
        return None
    kind = {b"TCP4": ipaddress.IPv4Address, b"TCP6": ipaddress.IPv6Address}.get(family)
    if kind is None or len(fields) != _V1_FIELDS:
        raise HeaderInvalid
    client, proxy, *ports = fields
    try:
        found, _ = (kind(text.decode("ascii")) for text in (client, proxy))
    except ValueError:
        raise HeaderInvalid from None
    if not all(port.isdigit() and int(port[:6]) < 65536 for port in ports) or b"%" in client:
        raise HeaderInvalid
    return str(found)
