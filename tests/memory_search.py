"""SEARCH by looking at every message: the memory store's, and a second opinion for others."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

from mailstore import mime, search
from mailstore.mime import sortkeys
from mailstore.search_form import search_form

if TYPE_CHECKING:
    from tests.memory_mailbox import StoredMessage

NOW = 1_644_274_345
"""The time of day for OLDER and YOUNGER, in epoch seconds."""


def _values(message: StoredMessage, name: bytes) -> list[bytes]:
    header = message.data[: mime.scan(message.data).body_start]
    return [
        mime.unfold(header[one.value_start : one.value_end])
        for one in mime.fields(header)
        if one.name.lower() == name
    ]


def _day(message: StoredMessage, field: str) -> date | None:
    """None where a message does not tell when it was sent."""
    if field == "sent":
        values = _values(message, b"date")
        found = sortkeys.sent_date(values[0]) if values else None
        return None if found is None else date(1970, 1, 1) + timedelta(days=found[1])
    seconds = message.save_date if field == "saved" else message.internal_date
    return datetime.fromtimestamp(seconds, UTC).date()


def _header(message: StoredMessage, name: str, text: str) -> bool:
    values = _values(message, name.lower().encode("ascii"))
    places = [mime.decode_words(value) for value in values]
    if name in ("FROM", "TO", "CC", "BCC"):
        for one in (address for value in values for address in mime.addresses(value)):
            host = b"@" + one.host if one.host else b""
            written = mime.decode_words((one.mailbox or b"") + host)
            places.append(f"{mime.decode_words(one.name)} <{written}>" if one.name else written)
    return any(search_form(text) in search_form(place) for place in places)


def _lines(header: bytes) -> list[str]:
    return [mime.decode_words(mime.unfold(line)) for line in re.split(rb"\n(?![ \t])", header)]


def _below(message: StoredMessage) -> list[str]:
    """Everything that BODY looks at."""
    root = mime.scan(message.data)
    places: list[str] = []
    waiting = [root]
    while waiting:
        part = waiting.pop()
        waiting += [*part.children, *([part.message] if part.message else [])]
        places.append("".join(mime.text_pieces(part, message.data[part.body_start : part.body_end])))
        if part is not root:
            places += _lines(message.data[part.header_start : part.body_start])
            places.append(mime.filename(part) or "")
    return places


def _holds(places: list[str], text: str) -> bool:
    return any(search_form(text) in search_form(place) for place in places)


def matches(message: StoredMessage, key: search.Key) -> bool:
    """Whether the message meets the criterion."""
    match key:
        case search.All():
            return True
        case search.And(keys):
            return all(matches(message, one) for one in keys)
        case search.Or(left, right):
            return matches(message, left) or matches(message, right)
        case search.Not(inner):
            return not matches(message, inner)
        case search.Uids(uids):
            return message.uid in uids
        case search.HasFlag(flag):
            return message.flags.system & flag == flag
        case search.HasKeyword(keyword):
            return keyword.lower() in {word.lower() for word in message.flags.keywords}
        case search.DateRange(field, first, before):
            day = _day(message, field)
            if day is None:
                return first is before is None
            return (first is None or day >= first) and (before is None or day < before)
        case search.Larger(size):
            return len(message.data) > size
        case search.Smaller(size):
            return len(message.data) < size
        case search.WithinSeconds(interval_s):
            return message.internal_date >= NOW - interval_s
        case search.HeaderText(name, text):
            return _header(message, name, text)
        case search.BodyText(text):
            return _holds(_below(message), text)
        case search.AnyText(text):
            return _holds(
                [*_lines(message.data[: mime.scan(message.data).body_start]), *_below(message)], text
            )
        case search.ModSeqAtLeast(modseq):
            return message.modseq >= modseq
        case search.EmailIdIs(object_id):
            return object_id == f"M{message.message_id}"
        case search.ThreadIdIs(object_id):
            return object_id == f"T{message.message_id}"
        case _:
            raise AssertionError("not modelled, or left for the session to replace")
