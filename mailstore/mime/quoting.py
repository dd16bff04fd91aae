"""Strings in the form in which IMAP carries them (RFC 3501 section 4.3)."""

import re
from collections.abc import Iterable

from mailstore.mime.part import Parameters

# Anything else needs a literal: 8-bit bytes, CR, LF. NUL is never sent (RFC 3501 section 9, CHAR8).
_QUOTABLE = re.compile(rb"[\x01-\x09\x0b\x0c\x0e-\x7f]*")
_NEEDS_ESCAPE = re.compile(rb'["\\]')
_QUOTED_MAX_BYTES = 1_000


def string(value: bytes) -> bytes:
    """``value`` as a quoted string where that is legal and below 1,000 bytes, else as a literal.

    NUL bytes are left out: neither form can carry them.
    """
    if len(value) < _QUOTED_MAX_BYTES and _QUOTABLE.fullmatch(value):
        if b'"' in value or b"\\" in value:
            value = _NEEDS_ESCAPE.sub(rb"\\\g<0>", value)
        return b'"%b"' % value
    if b"\0" in value:
        return string(value.replace(b"\0", b""))
    return b"{%d}\r\n%b" % (len(value), value)


def nstring(value: bytes | None) -> bytes:
    """``value`` as a string, or NIL if there is none."""
    return b"NIL" if value is None else string(value)


def parameter_list(params: Parameters) -> bytes:
    """Attributes and values in turn as a parenthesized list, or NIL (body-fld-param)."""
    if not params:
        return b"NIL"
    return b"(%b)" % b" ".join([string(item) for pair in params for item in pair])


def string_list(values: Iterable[bytes]) -> bytes:
    """NIL, one string, or a parenthesized list of strings (body-fld-lang)."""
    strings = [string(value) for value in values]
    if len(strings) == 1:
        return strings[0]
    return b"(%b)" % b" ".join(strings) if strings else b"NIL"
