"""Fuzz targets of what a proxy in front says: the header that names its client, and nginx's questions."""

from __future__ import annotations

from protocols.limits import ProxyLimits
from protocols.proxy_header import HeaderInvalid, HeaderReader
from protocols.sites import is_address
from tests.fuzz.target import Target
from tests.fuzz.wire_targets import MAX_BYTES, talk
from tests.unit.auth_http.auth_http_world import World, answer_in, question

HEADER_MAX_BYTES = ProxyLimits().header_max_bytes
_V2 = b"\r\n\r\n\0\r\nQUIT\n"
_HEADERS = [
    b"PROXY TCP4 192.0.2.7 192.0.2.1 4000 143\r\na LOGIN x y\r\n",
    b"PROXY TCP6 2001:db8::7 ::1 1 65535\r\n",
    b"PROXY UNKNOWN\r\n",
    _V2 + b"\x21\x11\0\x0c" + bytes(range(12)) + b"rest",
    _V2 + b"\x21\x21\0\x24" + bytes(36),
    _V2 + b"\x20\0\0\0",
]
_HEADER_WORDS = (b"PROXY ", b"TCP4 ", b"TCP6 ", b"UNKNOWN", b"::1", b"%", b"\r\n", _V2, b"\x21\x11\0\x0c")
_QUESTION_WORDS = (b"Auth-User: ", b"Client-IP: ", b"Auth-Protocol: smtp", b"%00", b"GET ", b"\r\n\r\n")


def proxy_header(data: bytes) -> None:
    """At once and octet by octet the same; an address where there is one; no more kept than a header has."""
    said = data[:MAX_BYTES]
    whole, pieces = HeaderReader(HEADER_MAX_BYTES), HeaderReader(HEADER_MAX_BYTES)
    found, end = None, 0
    try:
        while found is None and end < len(said):
            found = pieces.feed(said[end : end + 1])
            end += 1
    except HeaderInvalid:
        try:
            whole.feed(said)
        except HeaderInvalid:
            return
        raise AssertionError("how the stream is cut has changed the answer") from None
    assert found is not None or len(said) < HEADER_MAX_BYTES
    at_once = whole.feed(said) if said else None
    if found is None:
        assert at_once is None
        return
    assert at_once is not None and (at_once.address, at_once.rest) == (found.address, said[end:])
    assert found.address is None or is_address(found.address)


def auth_http_session(data: bytes) -> None:
    """A question of nginx: whatever is answered is whole, and no name is asked for that is too long."""
    mode, data = (data[0] if data else 0), data[1:MAX_BYTES]
    world = World()
    heard = talk(world, world.connect(), data, in_pieces=mode % 2 == 1)
    if heard.startswith(b"HTTP/1.0 200 "):
        assert "Auth-Status" in answer_in(heard)
    else:
        assert not heard or heard[9:12] in (b"400", b"431", b"501")
    assert all(len(name) <= 30 for name, _ in world.asked)


PROXY_TARGETS = (
    Target("proxy_header", proxy_header, lambda: _HEADERS, _HEADER_WORDS),
    Target(
        "auth_http_session",
        auth_http_session,
        lambda: [b"\0" + question(), b"\1" + question()],
        _QUESTION_WORDS,
    ),
)
