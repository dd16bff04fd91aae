"""Parts that are nothing but a header: the tree around them can be stored and read back."""

from __future__ import annotations

import itertools

import pytest

from mailstore import mime

OUTER = b"Content-Type: multipart/%b; boundary=b\r\n\r\n--b\r\n%b--b--\r\n"
INNER = (
    b"Subject: only a header\r\n",
    b"Content-Type: message/rfc822\r\n\r\nSubject: only a header\r\n",
    b"Content-Type: message/rfc822\r\n\r\nContent-Type: message/rfc822\r\n\r\nSubject: x\r\n",
    b"Content-Type: multipart/mixed; boundary=c\r\n\r\n--c\r\nSubject: only a header\r\n",
    b"Content-Type: multipart/mixed; boundary=c\r\n\r\n--c\r\nContent-Type: message/rfc822\r\n\r\nX: y\r\n",
)


@pytest.mark.parametrize(
    ("kind", "inner", "ends"), list(itertools.product([b"mixed", b"digest"], INNER, [b"\r\n", b"\n"]))
)
def test_a_part_without_a_body(kind: bytes, inner: bytes, ends: bytes) -> None:
    """A delimiter right behind a header leaves every part inside the one around it."""
    data = (OUTER % (kind, inner)).replace(b"\r\n", ends)
    tree = mime.scan(data)
    assert mime.dump(mime.load(mime.dump(tree))) == mime.dump(tree)
    part = mime.resolve(tree, mime.SectionSpec((1,)))
    assert isinstance(part, mime.Span)
    assert part.end <= data.rindex(b"--b--")
