"""Bytes to text in whatever charset a message names. Never raises, never runs a non-text codec."""

import codecs
import encodings.aliases
import re
from collections.abc import Iterator

# Python's codecs that are no charsets: they would decompress, execute escapes or read host names.
# ASCII is here because it is what is claimed where nothing is known: 8-bit bytes decide for themselves.
_NO_CHARSET = frozenset(
    (
        "ascii",
        "base64_codec",
        "bz2_codec",
        "hex_codec",
        "idna",
        "mbcs",
        "oem",
        "punycode",
        "quopri_codec",
        "raw_unicode_escape",
        "rot_13",
        "undefined",
        "unicode_escape",
        "uu_codec",
        "zlib_codec",
    )
)
# Charsets that Python knows by their own name only.
_WITHOUT_ALIAS = (
    "cp720",
    "cp737",
    "cp856",
    "cp874",
    "cp875",
    "cp1006",
    "koi8_r",
    "koi8_t",
    "koi8_u",
    "mac_arabic",
    "mac_croatian",
    "mac_farsi",
    "mac_romanian",
    "utf_8_sig",
)
# What is sent under these names is often the larger charset (WHATWG Encoding, section 4.2).
_LARGER = {"gb2312": "gb18030", "gbk": "gb18030", "shift_jis": "cp932", "euc_kr": "cp949"}
_PIECE_BYTES = 32 * 1024
"""Bytes of long text decoded in one call, because other threads are blocked meanwhile."""
_NAME_SEPARATOR = re.compile(r"[^a-z0-9]+")


def _known() -> dict[str, str]:
    names = dict(encodings.aliases.aliases)
    names.update({module: module for module in encodings.aliases.aliases.values()})
    names.update({module: module for module in _WITHOUT_ALIAS})
    return {
        alias: _LARGER.get(module, module) for alias, module in names.items() if module not in _NO_CHARSET
    }


_CODECS = _known()


def _codec(charset: str) -> str | None:
    """Python's name of the charset. Unknown names never reach ``codecs``, whose cache only grows."""
    if len(charset) > 40:
        return None
    name = _NAME_SEPARATOR.sub("_", charset.lower()).strip("_")
    return _CODECS.get(name) or _CODECS.get(name.removeprefix("x_"))


def codec_of(charset: str) -> str | None:
    """Python's name of a charset that is asked for by name, None when unknown; strict decoding is safe."""
    return "ascii" if charset.lower() in {"ascii", "us-ascii"} else _codec(charset)


def decode(value: bytes, charset: str | None) -> str:
    """``value`` as text; what the charset cannot express becomes U+FFFD.

    Without a charset, with an unknown one or US-ASCII, UTF-8 if the bytes are that, else ISO 8859-1.
    """
    codec = _codec(charset) if charset else None
    if codec is None:
        return _undeclared(value)
    text = value.decode(codec, "replace")
    # UTF-7 can spell lone surrogates, which no other encoder accepts.
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace") if codec == "utf_7" else text


def decode_pieces(value: bytes, charset: str | None) -> Iterator[str]:
    """As ``decode``, in pieces, for long text: some codecs take a second for bytes without a character."""
    codec = _codec(charset) if charset else None
    if codec is None or len(value) <= _PIECE_BYTES:
        yield decode(value, charset)
        return
    # Of UTF-7 Python's decoder would go back to the beginning of a run of base64 with every piece.
    decoder = None if codec == "utf_7" else codecs.getincrementaldecoder(codec)("replace")
    at = 0
    while at < len(value):
        stop = at + _PIECE_BYTES
        if decoder is None and stop < len(value):
            # "+" begins such a run.
            shift = value.rfind(b"+", at + 1, stop)
            stop = stop if shift < 0 else shift
        try:
            text = decode(value[at:stop], charset) if decoder is None else decoder.decode(value[at:stop])
        except UnicodeError:
            # No byte order mark, or an escape sequence that does not end: these codecs are quick.
            yield decode(value[at:], charset)
            return
        yield text
        at = stop
    yield "" if decoder is None else decoder.decode(b"", True)


def _undeclared(value: bytes) -> str:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError as error:
        # Text that was UTF-8 up to a character cut off at its end is UTF-8.
        cut = error.end == len(value) and error.reason == "unexpected end of data"
        if cut and not value[: error.start].isascii():
            return value[: error.start].decode("utf-8") + "\ufffd"
        return value.decode("latin-1")
