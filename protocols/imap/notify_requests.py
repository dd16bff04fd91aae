"""What NOTIFY asks for (RFC 5465)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from protocols.imap.fetch_items_grammar import FetchItem, FetchSection


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
    names: tuple[str, ...] = ()
    events: frozenset[Event] = frozenset()
    items: tuple[FetchItem | FetchSection, ...] = ()


@dataclass(frozen=True, slots=True)
class Notify:
    """NOTIFY (section 3.1); without groups it is NOTIFY NONE."""

    groups: tuple[EventGroup, ...] = ()
    status: bool = False
