"""The header of the PROXY protocol: both versions, in any pieces, and everything that is none."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.limits import ProxyLimits
from protocols.proxy_header import V1_MAX_BYTES, Header, HeaderInvalid, HeaderReader

MAX_BYTES = ProxyLimits().header_max_bytes
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
IPV4 = bytes((192, 0, 2, 7)) + bytes((192, 0, 2, 1)) + struct.pack("!HH", 4000, 143)
IPV6 = bytes.fromhex("20010db8" + "00" * 11 + "07") + bytes(16) + struct.pack("!HH", 4000, 143)


def version_2(family: int, said: bytes, command: int = 0x21) -> bytes:
    """A header of version 2."""
    return SIGNATURE + struct.pack("!BBH", command, family, len(said)) + said


GOOD = {
    b"PROXY TCP4 192.0.2.7 192.0.2.1 4000 143\r\n": "192.0.2.7",
    b"PROXY TCP4 192.0.2.7 192.0.2.1 0 65535\r\n": "192.0.2.7",
    b"PROXY TCP6 2001:DB8::7 2001:db8::1 4000 143\r\n": "2001:db8::7",
    b"PROXY TCP6 ::ffff:192.0.2.7 ::1 1 2\r\n": "::ffff:c000:207",
    b"PROXY UNKNOWN\r\n": None,
    b"PROXY UNKNOWN ffff::f 5 and what else there is\r\n": None,
    b"PROXY TCP6 " + b"ffff:" * 7 + b"ffff " + b"ffff:" * 7 + b"ffff 65535 65535\r\n": ":".join(["ffff"] * 8),
    version_2(0x11, IPV4): "192.0.2.7",
    version_2(0x11, IPV4 + b"\x04\0\x01x"): "192.0.2.7",
    version_2(0x21, IPV6): "2001:db8::7",
    version_2(0x21, IPV6.ljust(MAX_BYTES - 16)): "2001:db8::7",
    version_2(0x00, b""): None,
    version_2(0x11, IPV4, command=0x20): None,
    version_2(0x31, bytes(216), command=0x20): None,
}
REST = b"a LOGIN x y\r\n"


@pytest.mark.parametrize("said", GOOD)
def test_a_header_names_the_client(said: bytes) -> None:
    """In one piece with what comes behind it."""
    assert HeaderReader(MAX_BYTES).feed(said + REST) == Header(GOOD[said], REST)


@pytest.mark.parametrize("said", GOOD)
def test_a_header_comes_in_any_pieces(said: bytes) -> None:
    """Nothing is decided too early, and nothing of the rest is swallowed."""
    reader = HeaderReader(MAX_BYTES)
    for place in range(len(said) - 1):
        assert reader.feed(said[place : place + 1]) is None
    assert reader.feed(said[-1:] + REST) == Header(GOOD[said], REST)


BAD = (
    b"a LOGIN x y\r\n", b"P\r\n", b"PROXY\r\n", b"PROXY \r\n", b"PROXY TCP4\r\n", b"proxy UNKNOWN\r\n",
    b"PROXY TCP4 192.0.2.7 192.0.2.1 4000\r\n", b"PROXY TCP4 192.0.2.7 192.0.2.1 4000 143 5\r\n",
    b"PROXY TCP4  192.0.2.7 192.0.2.1 4000 143\r\n", b"PROXY TCP4 192.0.2.7 192.0.2.1 4000 143 \r\n",
    b"PROXY TCP4 2001:db8::7 2001:db8::1 4000 143\r\n", b"PROXY TCP6 192.0.2.7 192.0.2.1 4000 143\r\n",
    b"PROXY TCP4 192.0.2.256 192.0.2.1 4000 143\r\n", b"PROXY TCP4 192.0.2.7 nobody 4000 143\r\n",
    b"PROXY TCP4 192.0.2.7 192.0.2.1 -1 143\r\n", b"PROXY TCP4 192.0.2.7 192.0.2.1 4000 65536\r\n",
    b"PROXY TCP4 192.0.2.7 192.0.2.1 4000 x\r\n", b"PROXY TCP4 192.0.2.7 192.0.2.1 4000 \r\n",
    b"PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n", b"PROXY UDP4 192.0.2.7 192.0.2.1 4000 143\r\n",
    b"PROXY TCP4 \xff 192.0.2.1 4000 143\r\n", b"PROXY TCP4 192.0.2.7 192.0.2.1 4000 143\n" + b"x" * 100,
    b"PROXY UNKNOWN " + b"x" * (V1_MAX_BYTES - 15) + b"\r\n",
    b"PROXY " + b"x" * (V1_MAX_BYTES - 6),
    version_2(0x11, IPV4[:-1]), version_2(0x21, IPV4), version_2(0x12, IPV4), version_2(0x31, bytes(216)),
    version_2(0x11, IPV4, command=0x22), version_2(0x11, IPV4, command=0x11), version_2(0x11, b""),
    version_2(0x21, IPV6.ljust(MAX_BYTES - 15)), b"\r\n\r\n\0\r\nQUIT\r",
)  # fmt: skip


@pytest.mark.parametrize("said", BAD)
def test_anything_else_is_refused(said: bytes) -> None:
    """At once, and in pieces no later than when there is more than a header may have."""
    with pytest.raises(HeaderInvalid):
        HeaderReader(MAX_BYTES).feed(said)
    reader = HeaderReader(MAX_BYTES)
    with pytest.raises(HeaderInvalid):
        for place in range(len(said)):
            assert reader.feed(said[place : place + 1]) is None


@given(
    st.binary(max_size=700), st.sampled_from((b"", b"PROXY ", b"PROXY TCP4 ", SIGNATURE, SIGNATURE + b"\x21"))
)
def test_nobody_has_more_kept_than_a_header_may_have(said: bytes, begin: bytes) -> None:
    """Any octets are a header, the beginning of one, or refused."""
    reader = HeaderReader(MAX_BYTES)
    try:
        for octet in begin + said:
            if reader.feed(bytes((octet,))) is not None:
                return
    except HeaderInvalid:
        return
    assert len(begin + said) < MAX_BYTES
