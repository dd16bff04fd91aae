"""PREVIEW (RFC 8970): short, plain, from whatever text there is."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailstore.mime import preview, scan
from mailstore.mime.preview import PREVIEW_CHARS


def of(data: bytes) -> str:
    """The preview of a message."""
    return preview(scan(data), data)


HTML = b"Content-Type: text/html\r\n\r\n<style>x{}</style><p>from <b>HTML</b></p>"
BOTH = (
    b'Content-Type: multipart/alternative; boundary="b"\r\n\r\n--b\r\n'
    + HTML
    + b"\r\n--b\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    + base64.b64encode("größer  \r\n\t und mehr".encode())
    + b"\r\n--b--\r\n"
)
ATTACHED = b"Content-Type: text/plain\r\nContent-Disposition: attachment\r\n\r\nnot this"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"Subject: x\r\n\r\nhello\r\n  world\r\n", "hello world"),
        (HTML, "from HTML"),
        (BOTH, "größer und mehr"),
        (ATTACHED, ""),
        (b"", ""),
        (b"Content-Type: image/png\r\n\r\n\x89PNG", ""),
        (b"\r\n" + b"a " * 500, ("a " * 500)[: PREVIEW_CHARS - 1]),
    ],
)
def test_previews(data: bytes, expected: str) -> None:
    """Plain text first, HTML else, attachments never, white space folded."""
    assert of(data) == expected


@given(st.binary(max_size=300))
def test_any_bytes(data: bytes) -> None:
    """Never raises, never too long, no control of lines in it."""
    found = of(b"Content-Type: text/html; charset=utf-16\r\n\r\n" + data)
    assert len(found) <= PREVIEW_CHARS and "\n" not in found and "\0" not in found
