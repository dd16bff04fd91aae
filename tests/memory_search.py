"""SEARCH by looking at every message: the memory store's, and a second opinion for others."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

from mailstore import mime, search
from mailstore.mime import sortkeys

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


def _day(message: StoredMessage, field: str) -> date:
    if field == "sent":
        values = _values(message, b"date")
        found = sortkeys.sent_date(values[0]) if values else None
        if found is not None:
            return date(1970, 1, 1) + timedelta(days=found[1])
    seconds = message.save_date if field == "saved" else message.internal_date
    return datetime.fromtimestamp(seconds, UTC).date()


def _header(message: StoredMessage, name: str, text: str) -> bool:
    values = _values(message, name.lower().encode("ascii"))
    return any(text.casefold() in mime.decode_words(value).casefold() for value in values)


def _text(message: StoredMessage) -> str:
    return message.data.decode("utf-8", "replace").casefold()


def _body(message: StoredMessage) -> str:
    return _text(message).partition("\r\n\r\n")[2]


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
            return text.casefold() in _body(message)
        case search.AnyText(text):
            return text.casefold() in _text(message)
        case search.ModSeqAtLeast(modseq):
            return message.modseq >= modseq
        case search.EmailIdIs(object_id):
            return object_id == f"M{message.message_id}"
        case search.ThreadIdIs(object_id):
            return object_id == f"T{message.message_id}"
        case _:
            raise AssertionError("not modelled, or left for the session to replace")
