"""Modified UTF-7 (RFC 3501 section 5.1.3), strict both ways; Maildir++ names folders in it, too. Pure."""

from __future__ import annotations

import binascii
import re

_SHIFTED = re.compile(rb"&([A-Za-z0-9+,]*)-")
_DIRECT = re.compile(rb"[\x20-\x25\x27-\x7e]*\Z")
_TO_SHIFT = re.compile("[^\x20-\x7e]+|&")
_ENCODED_UNIT = 2


def _decode_shifted(text: bytes) -> str:
    """One base64 run of UTF-16BE; the encoding must be the only possible one.

    Raises:
        ValueError: bits left over, unpaired surrogates, or ASCII that needs no shifting.
    """
    padded = text.replace(b",", b"/") + b"=" * (-len(text) % 4)
    raw = binascii.a2b_base64(padded, strict_mode=True)
    if binascii.b2a_base64(raw, newline=False).rstrip(b"=") != text.replace(b",", b"/"):
        raise ValueError("base64 is not canonical")
    if len(raw) % _ENCODED_UNIT:
        raise ValueError("half a character")
    name = raw.decode("utf-16-be")
    if any("\x20" <= char <= "\x7e" for char in name):
        raise ValueError("printable ASCII is shifted")
    return name


def decode(wire: bytes) -> str:
    """The text that ``wire`` stands for.

    Raises:
        ValueError: not modified UTF-7; the text of the error says nothing of the content.
    """
    out: list[str] = []
    at = 0
    after_shift = False
    while at < len(wire):
        matched = _SHIFTED.match(wire, at)
        if matched is None:
            stop = wire.find(b"&", at)
            stop = len(wire) if stop < 0 else stop
            if stop == at or not _DIRECT.match(wire[at:stop]):
                raise ValueError("not modified UTF-7")
            out.append(wire[at:stop].decode("ascii"))
            at, after_shift = stop, False
            continue
        if not matched.group(1):
            out.append("&")
            after_shift = False
        else:
            # RFC 3501 section 5.1.3: "-&" that ends one run only to begin another is superfluous.
            if after_shift:
                raise ValueError("superfluous shift")
            out.append(_decode_shifted(matched.group(1)))
            after_shift = True
        at = matched.end()
    return "".join(out)


def _shift(matched: re.Match[str]) -> str:
    text = matched.group()
    if text == "&":
        return "&-"
    raw = binascii.b2a_base64(text.encode("utf-16-be"), newline=False)
    return "&" + raw.rstrip(b"=").replace(b"/", b",").decode("ascii") + "-"


def encode(name: str) -> bytes:
    """``name`` in modified UTF-7.

    Raises:
        ValueError: ``name`` holds a lone surrogate.
    """
    return _TO_SHIFT.sub(_shift, name).encode("ascii")
