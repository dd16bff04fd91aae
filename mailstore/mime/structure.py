"""BODY and BODYSTRUCTURE, ready to send (RFC 3501 section 7.4.2, grammar in section 9)."""

from mailstore.mime.content import continued
from mailstore.mime.envelope import envelope
from mailstore.mime.limits import DEFAULT_LIMITS, MimeLimits
from mailstore.mime.part import Content, Disposition, Part
from mailstore.mime.quoting import nstring, parameter_list, string, string_list

# The grammar wants at least one part in a multipart; section 1 of such a part is empty to match.
_EMPTY_TEXT = b'("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 0 0)'
_EMPTY_TEXT_EXTENDED = _EMPTY_TEXT[:-1] + b" NIL NIL NIL NIL)"


def bodystructure(part: Part, data: bytes, limits: MimeLimits = DEFAULT_LIMITS) -> bytes:
    """The BODYSTRUCTURE of ``part``, with extension data; ``data`` is the whole message."""
    return _render(part, data, limits, extended=True)


def body(part: Part, data: bytes, limits: MimeLimits = DEFAULT_LIMITS) -> bytes:
    """The BODY of ``part``, which is BODYSTRUCTURE without extension data."""
    return _render(part, data, limits, extended=False)


def _render(part: Part, data: bytes, limits: MimeLimits, *, extended: bool) -> bytes:
    # The recursion is as deep as the tree, and that is bounded by max_depth.
    content = part.content
    if content.is_multipart:
        children = b"".join([_render(child, data, limits, extended=extended) for child in part.children])
        empty = _EMPTY_TEXT_EXTENDED if extended else _EMPTY_TEXT
        params = parameter_list(continued(content.params))
        extension = b" %b %b" % (params, _common(content)) if extended else b""
        return b"(%b %b%b)" % (children or empty, string(content.subtype), extension)
    own = b""
    if part.message is not None:
        message = part.message
        header = data[message.header_start : message.body_start]
        inner = _render(message, data, limits, extended=extended)
        own = b" %b %b %d" % (envelope(header, limits), inner, part.lines)
    elif content.type == b"text":
        own = b" %d" % part.lines
    extension = b" %b %b" % (nstring(content.md5), _common(content)) if extended else b""
    return b"(%b %b %b %b %b %b %d%b%b)" % (
        string(content.type),
        string(content.subtype),
        parameter_list(continued(content.params)),
        nstring(content.content_id),
        nstring(content.description),
        string(content.encoding),
        part.body_size,
        own,
        extension,
    )


def _common(content: Content) -> bytes:
    return b"%b %b %b" % (
        _disposition(content.disposition),
        string_list(content.language),
        nstring(content.location),
    )


def _disposition(disposition: Disposition | None) -> bytes:
    if disposition is None:
        return b"NIL"
    return b"(%b %b)" % (string(disposition.kind), parameter_list(continued(disposition.params)))
