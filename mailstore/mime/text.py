"""Decoding: encoded words, transfer encodings, charsets, file names (RFC 2047, 2045, 2231)."""

import binascii
import re
from collections.abc import Iterator

from mailstore.mime.charsets import decode, decode_pieces
from mailstore.mime.content import parameter
from mailstore.mime.html import html_to_text, visible_pieces
from mailstore.mime.limits import DEFAULT_LIMITS, MimeLimits
from mailstore.mime.part import Part

_ENCODED_WORD = re.compile(rb"=\?([^\s?*]{1,80})(?:\*[^\s?]{0,80})?\?([bBqQ])\?([^?]*)\?=")
_BASE64_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_NOT_BASE64 = bytes(byte for byte in range(256) if byte not in _BASE64_ALPHABET)


_PIECE_BYTES = 64 * 1024
"""Bytes decoded in one call, because other threads are blocked meanwhile."""
_ENCODED_SIZE = 4
"""How many times as long as what it stands for an encoded body is taken to be at most."""
_PADDED = (b" \r\n", b"\t\r\n", b" \n", b"\t\n")


def _base64(raw: bytes) -> bytes:
    """As many octets as there are; the first ``=`` ends the data (RFC 2045 section 6.8)."""
    end = raw.find(b"=")
    end = len(raw) if end < 0 else end
    decoded: list[bytes] = []
    digits = b""
    for at in range(0, end, _PIECE_BYTES):
        digits += raw[at : min(at + _PIECE_BYTES, end)].translate(None, _NOT_BASE64)
        whole = len(digits) - len(digits) % 4
        decoded.append(binascii.a2b_base64(digits[:whole]))
        digits = digits[whole:]
    if len(digits) > 1:
        decoded.append(binascii.a2b_base64(digits + b"=" * (4 - len(digits))))
    return b"".join(decoded)


def _quoted_printable(raw: bytes) -> bytes:
    """Without transport padding: white space that ends an encoded line (RFC 2045 section 6.7, rule 3)."""
    decoded: list[bytes] = []
    start, end = 0, len(raw)
    while start < end:
        stop = _line_end(raw, start)
        piece = raw[start:stop]
        if any(padded in piece for padded in _PADDED) or (stop == end and piece.endswith((b" ", b"\t"))):
            piece = b"\n".join([_without_padding(line) for line in piece.split(b"\n")])
        decoded.append(binascii.a2b_qp(piece))
        start = stop
    return b"".join(decoded)


def _without_padding(line: bytes) -> bytes:
    if line.endswith(b"\r"):
        return line[:-1].rstrip(b" \t") + b"\r"
    return line.rstrip(b" \t")


def _line_end(raw: bytes, start: int) -> int:
    """The end of the last line that is not too far from ``start``."""
    if len(raw) - start <= _PIECE_BYTES:
        return len(raw)
    stop = start + _PIECE_BYTES
    line_feed = raw.rfind(b"\n", start, stop)
    if line_feed >= 0:
        return line_feed + 1
    # Lines have 76 characters at most (rule 5). This one is cut, but not within "=3D".
    escape = raw.rfind(b"=", stop - 2, stop)
    return stop if escape < 0 else escape


def decode_words(value: bytes) -> str:
    """A header value as text: encoded words decoded, other 8-bit bytes taken as UTF-8 or ISO 8859-1.

    Never raises. White space between two encoded words is dropped (RFC 2047 section 6.2), and
    neighbours of one charset are joined first, since characters are often split between them.
    """
    if b"=?" not in value:
        return decode(value, None)
    kept: list[str] = []
    pending: list[bytes] = []
    charset, position = "", 0
    for word in _ENCODED_WORD.finditer(value):
        between = value[position : word.start()]
        position = word.end()
        new_charset = word[1].decode("latin-1").lower()
        blank = not between.strip(b" \t\r\n")
        if pending and not (blank and new_charset == charset):
            kept.append(decode(b"".join(pending), charset))
            pending = []
            if not blank:
                kept.append(decode(between, None))
        elif not pending:
            kept.append(decode(between, None))
        charset = new_charset
        content = word[3]
        pending.append(
            _base64(content)
            if word[2] in b"bB"
            else binascii.a2b_qp(content.replace(b" ", b"_"), header=True)
        )
    if pending:
        kept.append(decode(b"".join(pending), charset))
    kept.append(decode(value[position:], None))
    return "".join(kept)


def decode_body(part: Part, raw: bytes) -> bytes:
    """The body ``raw`` of ``part`` without its transfer encoding; broken input as far as it goes.

    An unknown encoding leaves the bytes as they are. Never raises.
    """
    match part.content.encoding:
        case b"base64":
            return _base64(raw)
        case b"quoted-printable":
            return _quoted_printable(raw)
        case _:
            return raw


def charset(part: Part) -> str | None:
    """The charset parameter of ``part``, None if it has none."""
    found = parameter(part.content.params, b"charset")
    return found[0].decode("latin-1") if found and found[0] else None


def filename(part: Part) -> str | None:
    """The file name a part suggests, None without one (RFC 2183 section 2.3; ``name`` as fallback).

    As sent: it may hold path separators and must not be used to create files.
    """
    disposition = part.content.disposition
    found = parameter(disposition.params, b"filename") if disposition else None
    if found is None:
        found = parameter(part.content.params, b"name")
    if found is None:
        return None
    value, named_charset = found
    # Encoded words are not allowed in parameters (RFC 2047 section 5) and frequent all the same.
    return decode(value, named_charset) if named_charset else decode_words(value)


def part_text(part: Part, raw: bytes, limits: MimeLimits = DEFAULT_LIMITS) -> str:
    """The text of the body ``raw`` of a text part: decoded, and for text/html without its markup.

    At most ``max_text_bytes`` of the decoded body are used. A part that is not text gives "".
    """
    if part.content.type != b"text":
        return ""
    text = "".join(_decoded_pieces(part, raw, limits))
    return html_to_text(text, limits.max_text_bytes) if part.content.subtype == b"html" else text


def is_text(part: Part) -> bool:
    """Whether search finds text in the body: that of a report (message/delivery-status ...) is text too."""
    return part.content.type == b"text" or (part.content.type == b"message" and part.message is None)


def text_pieces(part: Part, raw: bytes, limits: MimeLimits = DEFAULT_LIMITS) -> Iterator[str]:
    """What ``part_text`` gives, in pieces and with white space as it stands, for search; see ``is_text``."""
    if is_text(part):
        pieces = _decoded_pieces(part, raw, limits)
        if part.content.subtype == b"html":
            pieces = visible_pieces("".join(pieces), limits.max_text_bytes)
        yield from pieces


def encoded_bytes(part: Part, limits: MimeLimits = DEFAULT_LIMITS) -> int:
    """How many bytes of a part's body ``text_pieces`` looks at."""
    return min(part.body_end - part.body_start, _ENCODED_SIZE * limits.max_text_bytes)


def _decoded_pieces(part: Part, raw: bytes, limits: MimeLimits) -> Iterator[str]:
    raw = raw[: _ENCODED_SIZE * limits.max_text_bytes]
    return decode_pieces(decode_body(part, raw)[: limits.max_text_bytes], charset(part))
