"""SORT, and what THREAD starts from, by looking at every message: the memory store's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mailstore.model import SortBy, SortKey, ThreadRow, Uid
from mailstore.prepared import prepare

if TYPE_CHECKING:
    from tests.memory_mailbox import StoredMessage


def _value(message: StoredMessage, by: SortBy) -> str | int:
    keys = prepare(message.data).sort_keys
    match by.key:
        case SortKey.RELEVANCY:
            places = (place for place, uids in enumerate(by.ranked) if message.uid in uids)
            return next(places, len(by.ranked))
        case SortKey.ARRIVAL:
            return message.internal_date
        case SortKey.DATE:
            return message.internal_date if keys.date is None else keys.date
        case SortKey.SIZE:
            return len(message.data)
        case SortKey.SUBJECT:
            return keys.subject
        case SortKey.FROM:
            return keys.sender
        case SortKey.TO:
            return keys.to
        case SortKey.CC:
            return keys.cc
        case SortKey.DISPLAY_FROM:
            return keys.display_from
        case SortKey.DISPLAY_TO:
            return keys.display_to


def sorted_uids(messages: Sequence[StoredMessage], order: Sequence[SortBy]) -> tuple[Uid, ...]:
    """By the last criterion first; what is equal keeps its order."""
    out = sorted(messages, key=lambda one: one.uid)
    for by in reversed(order):
        out.sort(key=lambda one: _value(one, by), reverse=by.reverse)
    return tuple(one.uid for one in out)


def thread_row(message: StoredMessage) -> ThreadRow:
    """What threading needs of a message."""
    ready = prepare(message.data)
    keys = ready.sort_keys
    sent = message.internal_date if keys.date is None else keys.date
    return ThreadRow(message.uid, sent, keys.subject, keys.is_reply, ready.own_hash, ready.reference_hashes)
