"""When a message arrived, of which no more is known than its header. Pure."""

from __future__ import annotations

from mailstore.mime import fields, sent_date, unfold
from mailstore.mime.headers import header_end

_TRACE, _ORIGINATION = b"received", b"date"


def arrival_date(data: bytes) -> int:
    """Seconds since the epoch: the time of the topmost Received field (RFC 5322 section 3.6.7), else of Date.

    0 where neither can be read.
    """
    header = data[: header_end(data, 0, len(data))]
    found: dict[bytes, bytes] = {}
    for field in fields(header):
        found.setdefault(field.name.lower(), unfold(header[field.value_start : field.value_end]))
    for value in (found.get(_TRACE, b"").rpartition(b";")[2], found.get(_ORIGINATION, b"")):
        date = sent_date(value)
        if date is not None:
            return date[0]
    return 0
