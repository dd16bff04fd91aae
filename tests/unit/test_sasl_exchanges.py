"""SASL's strictness: what is no exchange, and that none shows its secret."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.sasl import LoginExchange, PlainExchange, SaslError, decode_response, encode_challenge


@pytest.mark.parametrize(
    "line",
    [b"=", b"A", b"AA", b"AA=", b"AAA", b"AB==", b"AA==AA==", b" AAAA", b"AAAA\n", b"A\xffAA", b"A" * 5000],
)
def test_base64_is_strict(line: bytes) -> None:
    """Only the canonical encoding is accepted (RFC 4648 section 3.5)."""
    with pytest.raises(SaslError):
        decode_response(line)


@given(st.binary(max_size=100))
def test_base64_round_trip(raw: bytes) -> None:
    """What we encode we decode."""
    assert decode_response(encode_challenge(raw)) == raw == base64.b64decode(encode_challenge(raw))


@pytest.mark.parametrize(
    "response", [b"", b"joe", b"\0joe", b"\0joe\0", b"\0\0pw", b"a\0joe\0pw", b"\0joe\0p\0w"]
)
def test_plain_needs_three_parts_and_no_other_identity(response: bytes) -> None:
    """RFC 4616 section 2; acting for somebody else is not offered."""
    with pytest.raises(SaslError):
        PlainExchange().respond(response)


def test_exchanges_yield_credentials_that_do_not_show() -> None:
    """Both mechanisms give name and secret, and neither is in a repr."""
    plain = PlainExchange().respond(b"joe\0joe\0pw")
    login = LoginExchange()
    assert login.challenge() == b"Username:"
    assert login.respond(b"joe") is None
    assert login.challenge() == b"Password:"
    assert login.respond(b"pw") == plain
    assert plain is not None
    assert (plain.name, plain.secret) == (b"joe", b"pw")
    assert "pw" not in repr(plain)
