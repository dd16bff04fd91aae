"""CRLF in messages (RFC 5322 section 2.1), LF in the files of Unix: from one to the other, and back. Pure."""

from __future__ import annotations

import re

_BARE_LF = re.compile(rb"(?<!\r)\n")


def to_crlf(data: bytes) -> bytes:
    """``data`` with CRLF wherever a line ended with LF alone; nothing else is changed."""
    if data.count(b"\n") == data.count(b"\r\n"):
        return data
    return _BARE_LF.sub(b"\r\n", data)


def to_lf(data: bytes) -> bytes | None:
    """``data`` with LF for CRLF; None when :func:`to_crlf` could not undo it, as with a bare LF in it."""
    shorter = data.replace(b"\r\n", b"\n")
    return shorter if to_crlf(shorter) == data else None
