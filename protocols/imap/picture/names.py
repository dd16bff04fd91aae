"""Which names of mailboxes a client has to hear of (RFC 5465 sections 5.4 and 5.5). Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from mailstore.model import HIERARCHY_DELIMITER, MailboxId, Overview
from mailstore.names import superiors
from protocols.imap.grammar.notify import Event

Events = Callable[[str, bool], frozenset[Event]]
"""What is to be told of a mailbox of this name, which is subscribed or not."""


@dataclass(frozen=True, slots=True)
class Names:
    """Names of mailboxes and subscriptions. ``subscribed`` may name what does not exist."""

    by_id: Mapping[MailboxId, str] = field(repr=False)
    subscribed: frozenset[str] = field(repr=False)

    @classmethod
    def of(cls, seen: Overview) -> Names:
        """The names as they are."""
        mailboxes = seen.listed.mailboxes
        subscribed = {info.name for info in mailboxes if info.subscribed}
        return cls(
            {info.mailbox_id: info.name for info in mailboxes},
            frozenset(subscribed.union(seen.listed.orphan_subscriptions)),
        )

    def id_of(self, name: str) -> MailboxId | None:
        """The mailbox of this name."""
        return next((mailbox_id for mailbox_id, known in self.by_id.items() if known == name), None)

    def with_mailbox(self, mailbox_id: MailboxId, name: str) -> Names:
        """These names and one more mailbox."""
        return replace(self, by_id={**self.by_id, mailbox_id: name})

    def without_mailbox(self, name: str) -> Names:
        """These names without a mailbox."""
        return replace(
            self, by_id={mailbox_id: other for mailbox_id, other in self.by_id.items() if other != name}
        )

    def with_renamed(self, old: str, new: str) -> Names:
        """These names with a mailbox and its inferiors renamed."""
        moved = {mailbox_id: _below(name, old, new) or name for mailbox_id, name in self.by_id.items()}
        return replace(self, by_id=moved)

    def with_subscribed(self, names: frozenset[str]) -> Names:
        """These names with other subscriptions."""
        return replace(self, subscribed=names)


def _below(name: str, old: str, new: str) -> str | None:
    """What ``name`` is called after ``old`` was renamed to ``new``; None when it does not lie there."""
    if name == old or name.startswith(old + HIERARCHY_DELIMITER):
        return new + name[len(old) :]
    return None


@dataclass(frozen=True, slots=True)
class NameChanges:
    """What to say of names.

    ``listed`` are the names to LIST, in this order, each with its old name if it is a mailbox that got
    a new one. ``followed`` are the new names of mailboxes that the client can follow by these old names.
    """

    listed: dict[str, str | None] = field(default_factory=dict, repr=False)
    followed: set[str] = field(default_factory=set, repr=False)


def name_changes(before: Names, after: Names, events: Events) -> NameChanges:
    """What a client has to hear to know the names it wants to.

    To one that hears it, names that do not exist are gone, and old names are gone with all inferiors,
    which have moved along.
    """
    changes = NameChanges()
    if before.by_id != after.by_id:
        subscribed = before.subscribed | after.subscribed
        _mailboxes(
            before, after, lambda name: Event.MAILBOX_NAME in events(name, name in subscribed), changes
        )
    for name in sorted(before.subscribed ^ after.subscribed):
        # Before or after it was subscribed, so the filter SUBSCRIBED is about it (section 6.4).
        if Event.SUBSCRIPTION_CHANGE in events(name, True):
            changes.listed.setdefault(name, None)
    return changes


def _mailboxes(before: Names, after: Names, matters: Callable[[str], bool], changes: NameChanges) -> None:
    listed = changes.listed
    had, has = set(before.by_id.values()), set(after.by_id.values())
    both = before.by_id.keys() & after.by_id.keys()
    renamed = {
        before.by_id[mailbox_id]: after.by_id[mailbox_id]
        for mailbox_id in both
        if before.by_id[mailbox_id] != after.by_id[mailbox_id]
    }
    # With a name that somebody else has now, or had before, OLDNAME would say the wrong thing.
    plain = {old: new for old, new in renamed.items() if old not in has and new not in had}
    fresh = {name for mailbox_id, name in after.by_id.items() if mailbox_id not in before.by_id}
    fresh |= {new for old, new in renamed.items() if old not in plain}
    gone = had - has - plain.keys()
    affected = {name.rpartition(HIERARCHY_DELIMITER)[0] for name in fresh | gone} - plain.keys() - {""}
    # Names that are gone come first, and inferiors before superiors, so that none moves along by mistake.
    for name in sorted(gone | (affected - has), reverse=True):
        if matters(name):
            listed[name] = None
    for old, new in sorted(plain.items(), key=lambda pair: -pair[0].count(HIERARCHY_DELIMITER)):
        moves_along = _moves_along(old, new, plain, matters)
        if moves_along or matters(old) or matters(new):
            changes.followed.add(new)
            if not moves_along:
                listed[new] = old
    for name in sorted(fresh | (affected & has)):
        if matters(name):
            listed.setdefault(name, None)


def _moves_along(old: str, new: str, plain: Mapping[str, str], matters: Callable[[str], bool]) -> bool:
    """Whether the client knows from the renaming of a superior (section 5.4: no events for inferiors)."""
    for above in reversed(superiors(old)):
        target = plain.get(above)
        if target is not None and (matters(above) or matters(target)):
            return _below(old, above, target) == new
    return False
