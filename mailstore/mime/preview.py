"""The beginning of a message's text, as clients show it in a list (PREVIEW, RFC 8970)."""

from __future__ import annotations

from collections.abc import Iterator

from mailstore.mime.part import Part
from mailstore.mime.text import part_text

PREVIEW_CHARS = 200
"""RFC 8970 section 3.1 asks for at most 200 characters."""

RAW_BYTES = 16 * 1024
"""How much of a still encoded body is looked at; a whole number of base64 groups."""


def _texts(root: Part) -> Iterator[Part]:
    """Text parts in the order of the message, attachments left out."""
    waiting = [root]
    while waiting:
        part = waiting.pop()
        waiting.extend(reversed(part.children))
        disposition = part.content.disposition
        attached = disposition is not None and disposition.kind == b"attachment"
        if part.content.type == b"text" and not attached:
            yield part


def preview(root: Part, data: bytes) -> str:
    """At most ``PREVIEW_CHARS`` characters of the first plain text, or of the first HTML; perhaps "".

    White space runs become one space. Never raises.
    """
    fallback = ""
    for part in _texts(root):
        is_plain = part.content.subtype == b"plain"
        if not is_plain and fallback:
            continue
        raw = data[part.body_start : min(part.body_end, part.body_start + RAW_BYTES)]
        text = " ".join(part_text(part, raw).replace("\0", " ").split())[:PREVIEW_CHARS].rstrip()
        if text and is_plain:
            return text
        fallback = fallback or text
    return fallback
