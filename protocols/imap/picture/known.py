"""What a client knows of an account, and what it still has to be told (RFC 5465 section 5). Pure.

There is no queue of events: the previous state is compared with the current one. So a burst of changes is
reported once, and none is missed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from mailstore.model import INBOX, Counters, MailboxId, MailboxName, MailboxStatus, ModSeq, Overview, Uid
from mailstore.names import superiors
from protocols.imap.grammar.mailbox import StatusItem
from protocols.imap.grammar.notify import Event, EventGroup, Filter
from protocols.imap.picture.names import Names, name_changes

_NO_EVENTS: frozenset[Event] = frozenset()
ANY_VERSION = -1
"""No annotations have this version: with it all of them are new."""
_PRISTINE = (0, 1)
"""Messages and UIDNEXT of a mailbox in which nothing has ever been."""


class Interest:
    """The event groups but for SELECTED, sorted by how they name mailboxes (section 6).

    INBOXES is what PERSONAL is: with a sub-address mail can be delivered into any mailbox (section 6.3).
    """

    def __init__(self, groups: Iterable[EventGroup]) -> None:
        self.server_metadata = False
        self._everywhere = _NO_EVENTS
        self._subscribed = _NO_EVENTS
        self._named: dict[str, frozenset[Event]] = {}
        self._below: dict[str, frozenset[Event]] = {}
        for group in groups:
            match group.filter:
                case Filter.SELECTED | Filter.SELECTED_DELAYED:
                    continue
                case Filter.INBOXES | Filter.PERSONAL:
                    self._everywhere |= group.events
                case Filter.SUBSCRIBED:
                    self._subscribed |= group.events
                case Filter.SUBTREE:
                    _add(self._below, group)
                case Filter.MAILBOXES:
                    _add(self._named, group)
            self.server_metadata = self.server_metadata or Event.SERVER_METADATA_CHANGE in group.events

    @property
    def metadata(self) -> bool:
        """Whether annotations matter at all."""
        groups = (self._everywhere, self._subscribed, *self._named.values(), *self._below.values())
        return self.server_metadata or any(Event.MAILBOX_METADATA_CHANGE in events for events in groups)

    def events(self, name: str, subscribed: bool) -> frozenset[Event]:
        """What is to be told of a mailbox that is not selected."""
        found = self._everywhere
        if subscribed:
            found |= self._subscribed
        if self._named:
            found |= self._named.get(name, _NO_EVENTS)
        if self._below:
            for above in (*superiors(name), name):
                found |= self._below.get(above, _NO_EVENTS)
        return found


def _add(into: dict[str, frozenset[Event]], group: EventGroup) -> None:
    for name in group.names:
        into[name] = into.get(name, _NO_EVENTS) | group.events


@dataclass(frozen=True, slots=True)
class StatusNews:
    """STATUS of a mailbox with these items."""

    name: str
    items: tuple[StatusItem, ...]
    counters: Counters


@dataclass(frozen=True, slots=True)
class ListNews:
    """LIST of a name, with OLDNAME when the mailbox was renamed (section 5.4)."""

    name: str
    old_name: str | None = None


@dataclass(frozen=True, slots=True)
class MetadataNews:
    """METADATA of entries that changed (RFC 5464 section 4.4.2); the name is empty for the server."""

    name: str
    entries: tuple[str, ...]


News = StatusNews | ListNews | MetadataNews


class TooMuch(Exception):
    """More mailboxes would have to be watched than the limit allows (section 5.8)."""


class AccountPicture:
    """What one client knows; see the module's docstring.

    Methods named after an action record what this session did itself: its client knows that without
    being told (section 5).
    """

    def __init__(
        self, interest: Interest, now: Overview, selected: MailboxId | None, mailboxes_max: int
    ) -> None:
        """Start from ``now``, all of which the client is taken to know. Raises TooMuch."""
        self._interest = interest
        self._max = mailboxes_max
        self._names = Names.of(now)
        self._annotations = dict(now.annotations or {})
        self.annotations_version = now.annotations_version if interest.metadata else None
        self._left: dict[MailboxId, ModSeq] = {}
        self._counters: dict[MailboxId, Counters] = {
            mailbox_id: now.counters[mailbox_id] for mailbox_id, _, _ in self._watched(self._names, selected)
        }
        self._grown: set[MailboxId] = set()
        """Mailboxes to which this session added messages; how many of those are unseen is not known here."""

    def _watched(
        self, names: Names, selected: MailboxId | None
    ) -> list[tuple[MailboxId, str, frozenset[Event]]]:
        """Mailboxes whose messages matter, but for the selected one."""
        found = []
        for mailbox_id, name in names.by_id.items():
            if mailbox_id != selected:
                events = self._interest.events(name, name in names.subscribed)
                if Event.MESSAGE_NEW in events:
                    found.append((mailbox_id, name, events))
        if len(found) > self._max:
            raise TooMuch
        return found

    def everything(self) -> list[StatusNews]:
        """STATUS of all watched mailboxes, as NOTIFY SET STATUS answers (section 3.1)."""
        news = []
        for mailbox_id, counters in self._counters.items():
            name = self._names.by_id[mailbox_id]
            events = self._interest.events(name, name in self._names.subscribed)
            items = [StatusItem.MESSAGES, StatusItem.UIDNEXT, StatusItem.UIDVALIDITY]
            if Event.FLAG_CHANGE in events:
                items += [StatusItem.UNSEEN, StatusItem.HIGHESTMODSEQ]
            news.append(StatusNews(name, tuple(items), counters))
        return sorted(news, key=lambda item: (item.name != INBOX, item.name))

    def news(self, now: Overview, selected: MailboxId | None, modseqs: bool) -> Sequence[News]:
        """What has to be said so that the client knows all it wants to of ``now``; it counts as said.

        ``modseqs`` adds HIGHESTMODSEQ (CONDSTORE, RFC 7162). Raises TooMuch.
        """
        before, after = self._names, Names.of(now)
        watched = self._watched(after, selected)
        names = name_changes(before, after, self._interest.events)
        news: list[News] = [ListNews(name, old) for name, old in names.listed.items()]
        had = set(before.by_id.values())
        counters: dict[MailboxId, Counters] = {}
        for mailbox_id, name, events in watched:
            found = counters[mailbox_id] = now.counters[mailbox_id]
            if before.by_id.get(mailbox_id, name) != name and name not in names.followed:
                # Under this name the client knows nothing of it.
                self._counters.pop(mailbox_id, None)
            if self._counters.get(mailbox_id) == found:
                continue
            is_new = mailbox_id not in before.by_id and name not in had
            # With FlagChange a UIDVALIDITY that was never there has to be told (section 5.1).
            listed = is_new and Event.MAILBOX_NAME in events and Event.FLAG_CHANGE not in events
            items = self._status(mailbox_id, found, listed, Event.FLAG_CHANGE in events, modseqs)
            if items:
                news.append(StatusNews(name, items, found))
        news += self._metadata_news(now, after)
        self._names, self._counters = after, counters
        self._left.clear()
        self._grown.clear()
        return news

    def _status(
        self, mailbox_id: MailboxId, now: Counters, listed: bool, flags: bool, modseqs: bool
    ) -> tuple[StatusItem, ...]:
        """What to report of a mailbox that has changed; empty when the client need not be told.

        To a client that is told by LIST of a new one (``listed``) an empty mailbox is nothing new.
        """
        before = self._counters.get(mailbox_id)
        if before is None:
            if listed and (now.messages, now.uid_next) == _PRISTINE:
                return ()
            if self._left.get(mailbox_id) == now.highest_modseq:
                return ()
        elif mailbox_id in self._grown and before == now._replace(unseen=before.unseen):
            return ()
        messages = before is None or (before.messages, before.uid_next, before.uid_validity) != (
            now.messages,
            now.uid_next,
            now.uid_validity,
        )
        unseen = before is None or mailbox_id in self._grown or before.unseen != now.unseen
        changed = before is None or before.highest_modseq != now.highest_modseq
        # Section 5.1: a change of flags alone has to be told by one of these two.
        if not messages and not (flags and (unseen or (changed and modseqs))):
            return ()
        items: list[StatusItem] = [StatusItem.MESSAGES, StatusItem.UIDNEXT] if messages else []
        items.append(StatusItem.UIDVALIDITY)
        if flags and unseen:
            items.append(StatusItem.UNSEEN)
        if modseqs:
            items.append(StatusItem.HIGHESTMODSEQ)
        return tuple(items)

    def _metadata_news(self, now: Overview, names: Names) -> list[MetadataNews]:
        if now.annotations is None:
            return []
        before, self._annotations = self._annotations, dict(now.annotations)
        self.annotations_version = now.annotations_version
        news = []
        places: list[tuple[MailboxId | None, str]] = [(None, "")]
        for key, name in (*places, *names.by_id.items()):
            entries = _changed(before.get(key, {}), now.annotations.get(key, {}))
            if entries and self._wants_metadata(name, names):
                news.append(MetadataNews(name, entries))
        return news

    def _wants_metadata(self, name: str, names: Names) -> bool:
        if not name:
            return self._interest.server_metadata
        return Event.MAILBOX_METADATA_CHANGE in self._interest.events(name, name in names.subscribed)

    # -- what the session itself does -------------------------------------------------------------

    def created(self, made: MailboxStatus, name: MailboxName) -> None:
        """CREATE; superiors that came with it are told."""
        self._names = self._names.with_mailbox(made.mailbox_id, name)
        self._counters[made.mailbox_id] = Counters(
            made.messages, made.unseen, made.uid_next, made.uid_validity, made.highest_modseq
        )

    def deleted(self, name: MailboxName) -> None:
        """DELETE."""
        self._names = self._names.without_mailbox(name)

    def renamed(self, old: MailboxName, new: MailboxName) -> None:
        """RENAME, of inferiors too. INBOX stays and hands its messages over to a new mailbox."""
        if old != INBOX:
            self._names = self._names.with_renamed(old, new)

    def subscribed(self, name: MailboxName) -> None:
        """SUBSCRIBE."""
        self._names = self._names.with_subscribed(self._names.subscribed | {name})

    def unsubscribed(self, name: MailboxName) -> None:
        """UNSUBSCRIBE."""
        self._names = self._names.with_subscribed(self._names.subscribed - {name})

    def annotated(self, name: MailboxName, values: Iterable[str], versions: Mapping[str, int]) -> None:
        """SETMETADATA of these entries; ``versions`` are of those that were not taken away."""
        key = self._names.id_of(name) if name else None
        if name and key is None:
            return
        kept = {entry: v for entry, v in self._annotations.get(key, {}).items() if entry not in set(values)}
        self._annotations[key] = {**kept, **versions}

    def grew(self, name: MailboxName, count: int) -> None:
        """APPEND, COPY or MOVE put ``count`` messages, in one transaction, into another mailbox."""
        mailbox_id = self._names.id_of(name)
        before = None if mailbox_id is None else self._counters.get(mailbox_id)
        if mailbox_id is None or before is None:
            return
        self._grown.add(mailbox_id)
        self._counters[mailbox_id] = before._replace(
            messages=before.messages + count,
            uid_next=Uid(before.uid_next + count),
            # One transaction, one modification sequence (RFC 7162 section 3.1).
            highest_modseq=ModSeq(before.highest_modseq + 1),
        )

    def left(self, mailbox_id: MailboxId, modseq: ModSeq | None) -> None:
        """A mailbox is no longer selected; the client knows all of it up to ``modseq``, None for nothing."""
        self._counters.pop(mailbox_id, None)
        if modseq is not None:
            self._left[mailbox_id] = modseq


def _changed(before: Mapping[str, int], after: Mapping[str, int]) -> tuple[str, ...]:
    """Entries that were set, set again or taken away."""
    if before == after:
        return ()
    return tuple(entry for entry in sorted({*before, *after}) if before.get(entry, 0) != after.get(entry, 0))
