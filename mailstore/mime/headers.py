"""Header blocks: where fields are, what they hold, and which of them a client asked for.

Lines end in LF or CRLF. Obsolete syntax (white space before the colon, RFC 5322 section 4.5) is
accepted; a line that is no field belongs to nothing and is passed over.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache

from mailstore.mime.limits import DEFAULT_LIMITS, MimeLimits

_LINE_FEED = 0x0A
_FIELD_NAME = re.compile(rb"([!-9;-~]++)[ \t]*+:")
# A new line that begins with white space continues the field (RFC 5322 section 2.2.3).
_FIELD_END = re.compile(rb"\n(?![ \t])")
_PATTERNS_KEPT = 64
"""Compiled patterns cached for sets of names that clients ask for repeatedly."""
_BLANK_LINE = re.compile(rb"\n\r?\n")
_QUICK_BYTES, _QUICK_NAMES = 64 * 1024, 64
"""Up to these sizes, one pattern searches a header for all names: fast, but it blocks other threads."""


@dataclass(frozen=True, slots=True)
class HeaderField:
    """One field of a header block; the offsets are those of the raw value, folding included."""

    name: bytes
    start: int
    value_start: int
    value_end: int


def header_end(data: bytes, start: int, end: int) -> int:
    """Where the header that begins at ``start`` ends, its blank line included (RFC 5322 2.1).

    Without a blank line before ``end`` everything is header.
    """
    if start == 0 or data[start - 1] != _LINE_FEED:
        if data.startswith(b"\n", start, end):
            return start + 1
        if data.startswith(b"\r\n", start, end):
            return start + 2
        found = _BLANK_LINE.search(data, start, end)
    else:
        # The line feed before ``start`` lets an empty first line match as well.
        found = _BLANK_LINE.search(data, start - 1, end)
    return found.end() if found else end


def unfold(raw: bytes) -> bytes:
    """The value of a field without its folding and without white space around it (RFC 5322 2.2.3)."""
    if b"\n" in raw:
        raw = raw.replace(b"\r\n", b"").replace(b"\n", b"")
    raw = raw.strip(b" \t\r")
    return raw.replace(b"\r", b" ") if b"\r" in raw else raw


def fields(data: bytes, limits: MimeLimits = DEFAULT_LIMITS) -> list[HeaderField]:
    """The fields of the header block ``data`` in their order, at most ``max_header_fields``."""
    found: list[HeaderField] = []
    position, end = 0, min(len(data), limits.max_header_bytes)
    while position < end and len(found) < limits.max_header_fields:
        stop = _FIELD_END.search(data, position, end)
        line_end = stop.start() if stop else end
        name = _FIELD_NAME.match(data, position, line_end)
        if name:
            value_end = line_end - 1 if data.endswith(b"\r", name.end(), line_end) else line_end
            found.append(HeaderField(name[1], position, name.end(), value_end))
        position = line_end + 1
    return found


def field_pattern(names: bytes) -> re.Pattern[bytes]:
    """A pattern for ``collect`` out of field names joined by ``|``, all in lower case."""
    return re.compile(rb"\n((?i:" + names + rb"))[ \t]*:")


def collect(
    header: bytes, pattern: re.Pattern[bytes], limits: MimeLimits = DEFAULT_LIMITS
) -> dict[bytes, list[bytes]]:
    """Unfolded values of the fields that ``pattern`` names, by lower-case name, in their order."""
    # The pattern starts with a line feed because that lets the search skip whole lines at a time.
    block = b"\n" + header[: limits.max_header_bytes]
    values: dict[bytes, list[bytes]] = {}
    for count, match in enumerate(pattern.finditer(block)):
        if count >= limits.max_header_fields:
            break
        stop = _FIELD_END.search(block, match.end())
        value = unfold(block[match.end() : stop.start() if stop else len(block)])
        values.setdefault(match[1].lower(), []).append(value)
    return values


def header_fields(data: bytes, names: Collection[bytes], *, invert: bool = False) -> bytes:
    """What BODY[HEADER.FIELDS (names)] sends of the header block ``data`` (RFC 3501 section 6.4.5).

    The fields are byte for byte as stored and in their order; names match in any case. With
    ``invert`` all others are sent (HEADER.FIELDS.NOT), with lines that are no field. The blank line
    that always ends the answer is CRLF.
    """
    if invert or len(data) > _QUICK_BYTES or len(names) > _QUICK_NAMES:
        kept = _fields_one_by_one(data, {name.lower() for name in names}, invert)
    else:
        # Behind the blank line nothing is a field.
        data = data[: header_end(data, 0, len(data))]
        data = b"\n" + data
        found = _fields_named(tuple(names)).findall(data)
        kept = [field + b"\n" for field in found]
        # Only a field at the very end can be without its line feed.
        if found and data.endswith(b"\n" + found[-1]):
            kept[-1] = found[-1]
    if kept and not kept[-1].endswith(b"\n"):
        kept.append(b"\r\n")
    kept.append(b"\r\n")
    return b"".join(kept)


@lru_cache(maxsize=_PATTERNS_KEPT)
def _fields_named(names: tuple[bytes, ...]) -> re.Pattern[bytes]:
    """Fields of these names in any case, folding included, their last line feed not; never backtracks.

    The pattern starts with a line feed because that lets the search skip whole lines at a time.
    """
    either = b"|".join(map(re.escape, sorted({name.lower() for name in names}))) or b"(?!)"
    return re.compile(rb"\n((?i:" + either + rb")[ \t]*+:[^\n]*+(?:\n[ \t][^\n]*+)*+)")


def _fields_one_by_one(data: bytes, names: set[bytes], invert: bool) -> list[bytes]:
    """The fields of these names, or the others, of a header of any size, without blocking other threads."""
    kept: list[bytes] = []
    position, end = 0, len(data)
    while position < end:
        if data.startswith((b"\n", b"\r\n"), position):
            break
        stop = _FIELD_END.search(data, position)
        after = stop.end() if stop else end
        name = _FIELD_NAME.match(data, position, after)
        if (name is not None and name[1].lower() in names) is not invert:
            kept.append(data[position:after])
        position = after
    return kept
