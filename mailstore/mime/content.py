"""Content fields of a part header: type, parameters, disposition (RFC 2045, 2183, 2231).

What cannot be understood counts as absent: RFC 2045 section 5.2 then asks for text/plain.
"""

import re
from urllib.parse import unquote_to_bytes

from mailstore.mime.headers import collect, field_pattern
from mailstore.mime.limits import DEFAULT_LIMITS, MimeLimits
from mailstore.mime.part import Content, Disposition, Parameters

PLAIN_TEXT = Content(params=((b"charset", b"us-ascii"),))
DIGEST_MESSAGE = Content(type=b"message", subtype=b"rfc822")

_CONTENT_FIELDS = field_pattern(
    rb"content-(?:type|transfer-encoding|disposition|id|description|md5|language|location)"
)
_TYPE = re.compile(rb"([^\s/;\"]+)[ \t]*/[ \t]*([^\s/;\"=]+)")
_BETWEEN = re.compile(rb"[;\s]*")
# Possessive: a quoted string ends in one way only, and each way back would be remembered, 128 bytes a pair.
_PARAMETER = re.compile(rb'([^\s=;"]+)\s*=\s*(?:"([^"\\]*+(?:\\.[^"\\]*+)*+)"?|([^;]*))', re.S)
_COMMENT_MARK = re.compile(rb'[()"\\]')
_SEGMENT = re.compile(rb"\*([0-9]{1,4})(\*?)\Z")
_CONTINUED = re.compile(rb"(.+)\*(0|[1-9][0-9]{0,3})(\*?)\Z", re.S)
_NOT_ATTRIBUTE = re.compile(rb"[^!#$&+\-.0-9A-Z^_`a-z{|}~]")
_FREE_TEXT = (b"name", b"filename")


def without_comments(value: bytes) -> bytes:
    """``value`` with each RFC 822 comment outside quoted strings replaced by a space; linear time."""
    if b"(" not in value:
        return value
    kept: list[bytes] = []
    depth, start, position, quoted = 0, 0, 0, False
    while mark := _COMMENT_MARK.search(value, position):
        position = mark.end()
        sign = mark[0]
        if sign == b"\\":
            position += 1
        elif sign == b'"':
            quoted = quoted if depth else not quoted
        elif quoted:
            continue
        elif sign == b"(":
            if depth == 0:
                kept.append(value[start : mark.start()])
            depth += 1
        elif depth:
            depth -= 1
            start = position
    if depth == 0:
        kept.append(value[start:])
    return b" ".join(kept)


def unquote(value: bytes) -> bytes:
    """The content of a quoted string with its quoted pairs resolved (RFC 5322 section 3.2.4)."""
    if b"\\" not in value:
        return value
    # A substitution by pattern would keep a list of all pieces, forty times the text.
    plain = bytearray()
    position = 0
    # A backslash at the very end quotes nothing.
    while (mark := value.find(b"\\", position, len(value) - 1)) >= 0:
        plain += value[position:mark]
        plain.append(value[mark + 1])
        position = mark + 2
    return bytes(plain + value[position:])


def parameters(value: bytes, position: int, limits: MimeLimits = DEFAULT_LIMITS) -> Parameters:
    """The parameters in ``value`` from ``position`` on, as sent; RFC 2231 pieces stay apart."""
    found: list[tuple[bytes, bytes]] = []
    end = len(value)
    while len(found) < limits.max_parameters:
        gap = _BETWEEN.match(value, position)
        position = gap.end() if gap else position
        if position >= end:
            break
        match = _PARAMETER.match(value, position)
        if match is None:
            position = value.find(b";", position)
            if position < 0:
                break
            continue
        name, quoted, bare = match.groups()
        position = match.end()
        if quoted is not None:
            found.append((name, unquote(quoted)))
        elif name.lower() in _FREE_TEXT:
            # Unquoted file names with blanks are a common mistake worth forgiving.
            found.append((name, bare.strip()))
        else:
            words = bare.split(None, 1)
            found.append((name, words[0] if words else b""))
    return tuple(found)


def _decode_segment(value: bytes, first: bool, charset: list[str]) -> bytes:
    """One extended RFC 2231 value; the first one also names the charset."""
    if first and value.count(b"'") >= 2:
        name, _, value = value.split(b"'", 2)
        charset.append(name.decode("ascii", "replace"))
    return unquote_to_bytes(value)


def parameter(params: Parameters, name: bytes) -> tuple[bytes, str | None] | None:
    """A parameter put together from its RFC 2231 pieces: its bytes and the charset, if one is named.

    ``name`` is in lower case. The extended form wins over the plain one (RFC 6266 section 4.3 asks
    for the same); of a continued value the pieces up to the first gap count.
    """
    plain: bytes | None = None
    pieces: dict[int, tuple[bytes, bool]] = {}
    for sent_name, value in params:
        attribute = sent_name.lower()
        if attribute == name:
            plain = value if plain is None else plain
        elif attribute.startswith(name + b"*"):
            segment = _SEGMENT.match(attribute, len(name))
            if segment:
                pieces.setdefault(int(segment[1]), (value, bool(segment[2])))
            elif len(attribute) == len(name) + 1:
                pieces.setdefault(0, (value, True))
    if 0 not in pieces:
        return None if plain is None else (plain, None)
    charset: list[str] = []
    joined: list[bytes] = []
    while (piece := pieces.get(len(joined))) is not None:
        value, extended = piece
        joined.append(_decode_segment(value, not joined, charset) if extended else value)
    return b"".join(joined), charset[0] if charset else None


def _joined(name: bytes, pieces: dict[int, tuple[bytes, bool]]) -> tuple[bytes, bytes] | None:
    """One parameter from pieces 0, 1, 2 ... (value, whether extended); None where they are not that."""
    values = [pieces[number] for number in range(len(pieces)) if number in pieces]
    if len(values) < len(pieces):
        return None
    if not any(extended for _, extended in values):
        return name, b"".join([value for value, _ in values])
    if not values[0][1]:
        # Only the first piece can tell the charset.
        return None
    escaped = [
        value if extended else _NOT_ATTRIBUTE.sub(lambda octet: b"%%%02X" % ord(octet[0]), value)
        for value, extended in values
    ]
    return name + b"*", b"".join(escaped)


def continued(params: Parameters) -> Parameters:
    """``params`` with each continued value as one parameter, in the place of its first piece.

    RFC 2231 section 6 asks this of BODY and BODYSTRUCTURE. What is extended stays so, ``filename*``
    with charset and percent signs, whichever pieces were. Pieces with a gap, or beside another
    parameter that has the whole name already, stay as they are.
    """
    if not any(b"*" in name for name, _ in params):
        return params
    pieces: dict[bytes, dict[int, tuple[bytes, bool]]] = {}
    doubled = {name.lower() for name, _ in params}
    found = [_CONTINUED.match(name.lower()) for name, _ in params]
    for match, (_, value) in zip(found, params, strict=True):
        if match is not None:
            numbers = pieces.setdefault(match[1], {})
            if int(match[2]) in numbers:
                doubled.update((match[1], match[1] + b"*"))
            numbers[int(match[2])] = (value, bool(match[3]))
    whole = {name: joined for name, numbers in pieces.items() if (joined := _joined(name, numbers))}
    whole = {name: joined for name, joined in whole.items() if joined[0] not in doubled}
    result: list[tuple[bytes, bytes]] = []
    told: set[bytes] = set()
    for match, pair in zip(found, params, strict=True):
        if match is None or match[1] not in whole:
            result.append(pair)
        elif match[1] not in told:
            told.add(match[1])
            result.append(whole[match[1]])
    return tuple(result)


def _type(value: bytes, default: Content, limits: MimeLimits) -> tuple[bytes, bytes, Parameters]:
    # No answer can carry NUL, and a type that is told as text has to be one here, too.
    value = without_comments(value).replace(b"\0", b"")
    match = _TYPE.match(value)
    if match is None:
        return PLAIN_TEXT.type, PLAIN_TEXT.subtype, PLAIN_TEXT.params
    kind, subtype = match[1].lower(), match[2].lower()
    params = parameters(value, match.end(), limits) if b";" in value else ()
    if kind == b"multipart" and boundary(params) is None:
        # Without the parameter that makes it one it is no multipart: show what is there.
        return PLAIN_TEXT.type, PLAIN_TEXT.subtype, PLAIN_TEXT.params
    return kind, subtype, params


def _disposition(value: bytes, limits: MimeLimits) -> Disposition | None:
    value = without_comments(value)
    kind, mark, _ = value.partition(b";")
    kind = kind.strip().lower()
    if not kind:
        return None
    return Disposition(kind, parameters(value, len(value.partition(b";")[0]), limits) if mark else ())


def _token(value: bytes) -> bytes:
    words = without_comments(value).replace(b";", b" ").split(None, 1)
    return words[0].lower() if words else b"7bit"


def boundary(params: Parameters) -> bytes | None:
    """The boundary of a multipart, None if absent or empty (RFC 2046 section 5.1.1)."""
    found = parameter(params, b"boundary")
    # A boundary cannot end in white space; what is there was added on the way.
    return (found[0].rstrip() or None) if found else None


def parse_content(header: bytes, default: Content, limits: MimeLimits = DEFAULT_LIMITS) -> Content:
    """The Content fields of ``header``; without a Content-Type the type is that of ``default``."""
    values = collect(header, _CONTENT_FIELDS, limits)
    if not values:
        return default
    first = {name: found[0] for name, found in values.items()}
    sent_type = first.get(b"content-type")
    if sent_type is None:
        kind, subtype, params = default.type, default.subtype, default.params
    else:
        kind, subtype, params = _type(sent_type, default, limits)
    encoding = first.get(b"content-transfer-encoding")
    disposition = first.get(b"content-disposition")
    language = first.get(b"content-language", b"")
    location = first.get(b"content-location")
    return Content(
        kind,
        subtype,
        params,
        b"7bit" if encoding is None else _token(encoding),
        first.get(b"content-id"),
        first.get(b"content-description"),
        first.get(b"content-md5"),
        None if disposition is None else _disposition(disposition, limits),
        tuple(
            tag.strip()
            for tag in without_comments(language).split(b",")[: limits.max_parameters]
            if tag.strip()
        ),
        None if location is None else b"".join(location.split()),
    )
