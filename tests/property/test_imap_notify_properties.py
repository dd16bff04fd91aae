"""A client that follows what NOTIFY tells it always knows what is (RFC 5465 section 5)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from hypothesis import event, given, settings
from hypothesis import strategies as st

from mailstore.model import (
    Counters,
    MailboxId,
    MailboxInfo,
    MailboxList,
    MailboxStatus,
    ModSeq,
    Overview,
    Uid,
    UidValidity,
)
from mailstore.names import superiors
from protocols.imap.grammar.mailbox import StatusItem
from protocols.imap.grammar.notify import Event, EventGroup, Filter
from protocols.imap.picture.known import AccountPicture, Interest, ListNews, MetadataNews, News, StatusNews

NAMES = ["INBOX", "a", "b", "a/x", "b/x", "a/x/m", "c"]
ENTRIES = ["/private/1", "/private/2"]
ALL = frozenset(Event)


@dataclass
class Account:
    """The truth: mailboxes by id, with superiors as the store keeps them."""

    names: dict[int, str] = field(default_factory=lambda: {1: "INBOX"})
    counters: dict[int, Counters] = field(default_factory=dict)
    subscribed: set[str] = field(default_factory=set)
    entries: dict[int | None, dict[str, int]] = field(default_factory=dict)
    given: int = 1

    def __post_init__(self) -> None:
        self.counters[1] = self.pristine(1)
        for name in ("a/x/m", "b"):
            self.create(name)

    def pristine(self, mailbox_id: int) -> Counters:
        """A mailbox in which nothing has ever been."""
        return Counters(0, 0, Uid(1), UidValidity(mailbox_id), ModSeq(1))

    def next(self) -> int:
        """A number that was never there."""
        self.given += 1
        return self.given

    def id_of(self, name: str) -> int | None:
        """The mailbox of that name."""
        return next((one for one, other in self.names.items() if other == name), None)

    def create(self, name: str) -> int | None:
        """CREATE with the superiors that are missing."""
        if self.id_of(name) is not None:
            return None
        for one in (*superiors(name), name):
            if self.id_of(one) is None:
                made = self.next()
                self.names[made] = one
                self.counters[made] = self.pristine(made)
        return self.id_of(name)

    def delete(self, name: str) -> bool:
        """DELETE of a mailbox without inferiors."""
        found = self.id_of(name)
        if found in (None, 1) or any(other.startswith(name + "/") for other in self.names.values()):
            return False
        del self.names[found]
        del self.counters[found]
        self.entries.pop(found, None)
        return True

    def rename(self, old: str, new: str) -> bool:
        """RENAME with inferiors."""
        if self.id_of(old) in (None, 1) or self.id_of(new) is not None or new.startswith(old + "/"):
            return False
        if any(other.startswith(new + "/") for other in self.names.values()):
            return False
        for above in superiors(new):
            self.create(above)
        for one, name in self.names.items():
            if name == old or name.startswith(old + "/"):
                self.names[one] = new + name[len(old) :]
        return True

    def bump(self, name: str, messages: int, unseen: int, uids: int) -> None:
        """A transaction in a mailbox."""
        found = self.id_of(name)
        if found is not None:
            was = self.counters[found]
            total = max(was.messages + messages, 0)
            self.counters[found] = was._replace(
                messages=total,
                unseen=min(max(was.unseen + unseen, 0), total),
                uid_next=Uid(was.uid_next + uids),
                highest_modseq=ModSeq(was.highest_modseq + 1),
            )

    def status(self, mailbox_id: int) -> MailboxStatus:
        """What CREATE gives."""
        one = self.counters[mailbox_id]
        return MailboxStatus(
            MailboxId(mailbox_id), 0, 0, 0, 0, 0, one.uid_next, one.uid_validity, one.highest_modseq, "F"
        )

    def seen(self) -> Overview:
        """What the store would say."""
        infos = tuple(
            MailboxInfo(
                MailboxId(one),
                name,
                None,
                name in self.subscribed,
                any(other.startswith(name + "/") for other in self.names.values()),
                f"F{one}",
            )
            for one, name in sorted(self.names.items(), key=lambda pair: pair[1])
        )
        orphans = tuple(sorted(self.subscribed - set(self.names.values())))
        entries = {None if key is None else MailboxId(key): dict(one) for key, one in self.entries.items()}
        counters = {MailboxId(key): one for key, one in self.counters.items()}
        return Overview(MailboxList(infos, orphans), counters, self.given, entries)


@dataclass
class Follower:
    """A client: it believes what it is told and what it does itself."""

    names: set[str]
    subscribed: set[str]
    status: dict[str, dict[StatusItem, int]]
    cache: dict[int | None, dict[str, int]] = field(default_factory=dict)
    """Annotations, fetched anew whenever the client hears that they have changed."""

    def lose(self, name: str) -> None:
        """A mailbox is gone."""
        self.names.discard(name)
        self.status.pop(name, None)

    def rename(self, old: str, new: str) -> None:
        """A mailbox has a new name, and so have its inferiors."""
        moved = {name for name in self.names if name == old or name.startswith(old + "/")}
        self.names -= moved
        self.names |= {new + name[len(old) :] for name in moved} | {new}
        for name in list(self.status):
            if name == old or name.startswith(old + "/"):
                self.status[new + name[len(old) :]] = self.status.pop(name)

    def cache_again(self, key: int | None, entries: Iterable[str], account: Account) -> None:
        """GETMETADATA."""
        cached, there = self.cache.setdefault(key, {}), account.entries.get(key, {})
        for entry in entries:
            cached.pop(entry, None)
            if entry in there:
                cached[entry] = there[entry]

    def grew(self, name: str) -> None:
        """An APPEND of the client's own: how many are unseen, and the modseq, it does not know."""
        status = self.status.setdefault(name, {StatusItem.MESSAGES: 0, StatusItem.UIDNEXT: 1})
        status[StatusItem.MESSAGES] += 1
        status[StatusItem.UIDNEXT] += 1
        status.pop(StatusItem.UNSEEN, None)
        status.pop(StatusItem.HIGHESTMODSEQ, None)

    def hear(self, news: list[News], account: Account) -> None:
        """Believe it. Attributes of LIST are true, so they come from the account."""
        for one in news:
            match one:
                case ListNews(name, old):
                    if old is not None:
                        self.rename(old, name)
                    if account.id_of(name) is not None:
                        self.names.add(name)
                    else:
                        self.lose(name)
                    (self.subscribed.add if name in account.subscribed else self.subscribed.discard)(name)
                case StatusNews(name, items, counters):
                    values = {
                        StatusItem.MESSAGES: counters.messages,
                        StatusItem.UIDNEXT: counters.uid_next,
                        StatusItem.UIDVALIDITY: counters.uid_validity,
                        StatusItem.UNSEEN: counters.unseen,
                        StatusItem.HIGHESTMODSEQ: counters.highest_modseq,
                    }
                    self.status.setdefault(name, {}).update({item: values[item] for item in items})
                case MetadataNews(name, entries):
                    key = account.id_of(name) if name else None
                    self.cache_again(key, entries, account)


def known(account: Account, modseqs: bool) -> dict[str, dict[StatusItem, int]]:
    """What a client that watches everything has to know."""
    found = {}
    for mailbox_id, name in account.names.items():
        counters = account.counters[mailbox_id]
        found[name] = {
            StatusItem.MESSAGES: counters.messages,
            StatusItem.UIDNEXT: int(counters.uid_next),
            StatusItem.UIDVALIDITY: int(counters.uid_validity),
            StatusItem.UNSEEN: counters.unseen,
        }
        if modseqs:
            found[name][StatusItem.HIGHESTMODSEQ] = int(counters.highest_modseq)
    return found


ACTIONS = st.one_of(
    st.tuples(st.just("create"), st.sampled_from(NAMES), st.just("")),
    st.tuples(st.just("delete"), st.sampled_from(NAMES), st.just("")),
    st.tuples(st.just("rename"), st.sampled_from(NAMES), st.sampled_from(NAMES)),
    st.tuples(st.sampled_from(["subscribe", "unsubscribe"]), st.sampled_from(NAMES), st.just("")),
    st.tuples(st.sampled_from(["deliver", "expunge", "flag"]), st.sampled_from(NAMES), st.just("")),
    st.tuples(st.sampled_from(["set", "unset"]), st.sampled_from([*NAMES, ""]), st.sampled_from(ENTRIES)),
)
EVENTS = st.sampled_from(
    [
        ALL,
        ALL - {Event.FLAG_CHANGE},
        ALL - {Event.MAILBOX_NAME},
        ALL - {Event.FLAG_CHANGE, Event.MAILBOX_NAME},
    ]
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["own", "other"]), ACTIONS),
        st.just(("look", ("", "", ""))),
        st.tuples(
            st.sampled_from(["select", "leave"]), st.tuples(st.just(""), st.sampled_from(NAMES), st.just(""))
        ),
    ),
    max_size=30,
)


class Play:
    """The account, a session that does something now and then, and its client."""

    def __init__(self, events: frozenset[Event], modseqs: bool) -> None:
        self.account = Account()
        self.modseqs = modseqs and Event.FLAG_CHANGE in events
        self.selected: int | None = None
        interest = Interest([EventGroup(Filter.PERSONAL, (), events)])
        self.picture = AccountPicture(interest, self.account.seen(), None, 1000)
        self.client = Follower(set(self.account.names.values()), set(), known(self.account, self.modseqs))

    def act(self, own: bool, kind: str, name: str, other: str) -> None:
        """One action; what the session does itself the client knows."""
        account, client = self.account, self.client
        match kind:
            case "create":
                made = account.create(name)
                if made is not None and own:
                    self.picture.created(account.status(made), name)
                    client.names.add(name)
                    client.status[name] = known(account, self.modseqs)[name]
            case "delete":
                if account.delete(name) and own:
                    self.picture.deleted(name)
                    client.lose(name)
            case "rename":
                if account.rename(name, other) and own:
                    self.picture.renamed(name, other)
                    client.rename(name, other)
            case "subscribe" | "unsubscribe":
                change = set.add if kind == "subscribe" else set.discard
                change(account.subscribed, name)
                if own:
                    (self.picture.subscribed if kind == "subscribe" else self.picture.unsubscribed)(name)
                    change(client.subscribed, name)
            case "deliver":
                account.bump(name, 1, 1, 1)
                mailbox_id = account.id_of(name)
                if own and mailbox_id is not None and mailbox_id != self.selected:
                    self.picture.grew(name, 1)
                    client.grew(name)
            case "expunge":
                account.bump(name, -1, -1, 0)
            case "flag":
                account.bump(name, 0, -1, 0)
            case "set" | "unset":
                self.annotate(own, kind, name, other)

    def annotate(self, own: bool, kind: str, name: str, entry: str) -> None:
        """SETMETADATA."""
        key = self.account.id_of(name) if name else None
        if name and key is None:
            return
        there = self.account.entries.setdefault(key, {})
        versions = {entry: self.account.next()} if kind == "set" else {}
        there.pop(entry, None)
        there.update(versions)
        if own:
            self.picture.annotated(name, [entry], versions)
            self.client.cache_again(key, [entry], self.account)

    def look(self) -> list[News]:
        """The session compares, the client follows."""
        selected = None if self.selected is None else MailboxId(self.selected)
        news = list(self.picture.news(self.account.seen(), selected, self.modseqs))
        self.client.hear(news, self.account)
        return news


@settings(max_examples=300, deadline=None)
@given(steps=STEPS, events=EVENTS, modseqs=st.booleans())
def test_what_is_told_is_what_is(
    steps: list[tuple[str, tuple[str, str, str]]], events: frozenset[Event], modseqs: bool
) -> None:
    """Names, subscriptions and counters end true, whoever changed what, and nothing is told twice."""
    play = Play(events, modseqs)
    for who, (kind, name, other) in steps:
        if who == "look":
            play.look()
        elif who == "select":
            if play.selected in play.account.names:
                play.picture.left(MailboxId(play.selected or 0), None)
            play.selected = play.account.id_of(name)
        elif who == "leave":
            if play.selected is not None:
                play.picture.left(MailboxId(play.selected), None)
            play.selected = None
        else:
            play.act(who == "own", kind, name, other)
    if play.selected is not None:
        play.picture.left(MailboxId(play.selected), None)
        play.selected = None
    news = play.look()
    event(f"kinds told: {sorted({type(one).__name__ for one in news})}")
    if Event.MAILBOX_NAME in events:
        assert play.client.names == set(play.account.names.values())
        assert play.client.subscribed == play.account.subscribed
    for name, status in known(play.account, play.modseqs).items():
        believed = play.client.status.get(name)
        if believed is None:
            # A mailbox that came to be and in which nothing ever was: LIST says all.
            assert Event.MAILBOX_NAME in events and Event.FLAG_CHANGE not in events
            assert (status[StatusItem.MESSAGES], status[StatusItem.UIDNEXT]) == (0, 1)
            continue
        assert {StatusItem.MESSAGES, StatusItem.UIDNEXT} <= believed.keys()
        if Event.FLAG_CHANGE not in events:
            believed.pop(StatusItem.UNSEEN, None)
        assert {item: status[item] for item in believed if item in status} == believed
    for key in (None, *play.account.names):
        assert play.client.cache.get(key, {}) == play.account.entries.get(key, {})
    assert play.look() == []
