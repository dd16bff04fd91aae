"""Arguments of NOTIFY (RFC 5465 section 8). Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import Enum

from mailstore.model import MailboxName
from protocols.imap.grammar.cursor import Cursor
from protocols.imap.grammar.fetch import FetchItem, FetchSection, read_items
from protocols.imap.grammar.refusal import Disallowed, Malformed


class Filter(Enum):
    """Which mailboxes an event group is about (section 6)."""

    SELECTED = b"SELECTED"
    SELECTED_DELAYED = b"SELECTED-DELAYED"
    INBOXES = b"INBOXES"
    PERSONAL = b"PERSONAL"
    SUBSCRIBED = b"SUBSCRIBED"
    SUBTREE = b"SUBTREE"
    MAILBOXES = b"MAILBOXES"


class Event(Enum):
    """What can be notified of (section 5); AnnotationChange cannot, messages have no annotations here."""

    MESSAGE_NEW = b"MessageNew"
    MESSAGE_EXPUNGE = b"MessageExpunge"
    FLAG_CHANGE = b"FlagChange"
    MAILBOX_NAME = b"MailboxName"
    SUBSCRIPTION_CHANGE = b"SubscriptionChange"
    MAILBOX_METADATA_CHANGE = b"MailboxMetadataChange"
    SERVER_METADATA_CHANGE = b"ServerMetadataChange"


MESSAGE_EVENTS = frozenset({Event.MESSAGE_NEW, Event.MESSAGE_EXPUNGE, Event.FLAG_CHANGE})


@dataclass(frozen=True, slots=True)
class EventGroup:
    """Mailboxes and what is to be notified of them; no events for NONE.

    ``names`` belong to the last two kinds of filter, ``items`` to MessageNew of the first two.
    """

    filter: Filter
    names: tuple[MailboxName, ...] = ()
    events: frozenset[Event] = frozenset()
    items: tuple[FetchItem | FetchSection, ...] = ()


@dataclass(frozen=True, slots=True)
class Notify:
    """NOTIFY (section 3.1); without groups it is NOTIFY NONE."""

    groups: tuple[EventGroup, ...] = ()
    status: bool = False


_FILTERS = {kind.value: kind for kind in Filter}
_SELECTED = {Filter.SELECTED, Filter.SELECTED_DELAYED}
_NAMED = {Filter.SUBTREE, Filter.MAILBOXES}
_EVENTS = {event.value.upper(): event for event in Event}
_ANNOTATION_CHANGE = b"ANNOTATIONCHANGE"
_LIST = re.compile(rb" +\(")
_ALL_EVENTS = b"BADEVENT (" + b" ".join(event.value for event in Event) + b")"


@dataclass(slots=True)
class _Read:
    """The events of one group as they are read; ``unknown`` are those we do not have."""

    known: set[Event] = field(default_factory=set)
    unknown: set[bytes] = field(default_factory=set)
    items: tuple[FetchItem | FetchSection, ...] = ()


def parse_notify(cursor: Cursor) -> Notify:
    """``notify`` behind its name.

    Raises:
        Refused: BAD for syntax, NO [BADEVENT] for an event we do not have (section 3.1), NO
            [NOTIFICATIONOVERFLOW] for more groups or names than the limits allow.
    """
    cursor.space()
    if cursor.skip_word(b"NONE"):
        cursor.end()
        return Notify()
    if not cursor.skip_word(b"SET"):
        raise cursor.failure(b"SET or NONE")
    cursor.space()
    status = cursor.skip_word(b"STATUS")
    if status:
        cursor.space()
    groups: list[EventGroup] = []
    unknown: set[bytes] = set()
    while not groups or cursor.more():
        if len(groups) >= cursor.limits.notify_groups_max:
            raise Disallowed(b"too many event groups", b"NOTIFICATIONOVERFLOW")
        groups.append(_read_group(cursor, unknown))
    cursor.end()
    if sum(group.filter in _SELECTED for group in groups) > 1:
        raise Malformed(b"SELECTED or SELECTED-DELAYED once at most")
    if sum(len(group.names) for group in groups) > cursor.limits.notify_names_max:
        raise Disallowed(b"too many mailbox names", b"NOTIFICATIONOVERFLOW")
    if unknown:
        raise Disallowed(b"some events are not supported", _ALL_EVENTS)
    return Notify(tuple(groups), status)


def _read_group(cursor: Cursor, unknown: set[bytes]) -> EventGroup:
    """``event-group``; adds the events that are not supported to ``unknown``."""
    cursor.open(b"event group")
    kind = _FILTERS.get(cursor.word(b"mailbox filter"))
    if kind is None:
        raise cursor.failure(b"known mailbox filter")
    names: tuple[MailboxName, ...] = ()
    if kind in _NAMED:
        cursor.space()
        names = cursor.parenthesised(cursor.mailbox) if cursor.peek() == b"(" else (cursor.mailbox(),)
    cursor.space()
    read = _Read()
    if not cursor.skip_word(b"NONE"):
        cursor.parenthesised(lambda: _read_event(cursor, kind, read))
    cursor.close()
    _check(kind, read)
    unknown |= read.unknown
    return EventGroup(kind, names, frozenset(read.known), read.items)


def _read_event(cursor: Cursor, kind: Filter, into: _Read) -> None:
    name = cursor.atom(b"event").upper()
    event = _EVENTS.get(name)
    if event is None:
        into.unknown.add(name)
        return
    into.known.add(event)
    # Names of events are atoms: a list can only be what MessageNew takes.
    if event is Event.MESSAGE_NEW and cursor.looking_at(_LIST):
        cursor.space()
        into.items = read_items(cursor)
        if kind not in _SELECTED:
            raise Malformed(b"data items need SELECTED or SELECTED-DELAYED")


def _check(kind: Filter, read: _Read) -> None:
    """Which events need each other (section 5), and which the selected mailbox can have (section 6.1).

    Raises:
        Malformed: not so.
    """
    if kind in _SELECTED and not read.known <= MESSAGE_EVENTS:
        raise Malformed(b"SELECTED takes message events only")
    both = {Event.MESSAGE_NEW, Event.MESSAGE_EXPUNGE}
    if (read.known & MESSAGE_EVENTS or _ANNOTATION_CHANGE in read.unknown) and not both <= read.known:
        raise Malformed(b"MessageNew and MessageExpunge are needed together")
