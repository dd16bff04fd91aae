"""The store in memory and the real one are given the same operations and say the same.

What passes over the store in memory (transcripts, sessions, random clients) means something only as far as
it behaves like the one that people's mail is in. Ids and the numbers of modification sequences are each
store's own; everything else has to agree, errors included.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mailstore import mime
from mailstore import search as criteria
from mailstore.errors import StoreError
from mailstore.model import (
    AccessProtocol,
    Counters,
    Delta,
    FetchPlan,
    Flags,
    MailboxList,
    MailboxStatus,
    ModSeq,
    NewMessage,
    Opened,
    Overview,
    SectionRead,
    SortBy,
    SortKey,
    SpecialUse,
    StoreMode,
    SystemFlag,
    ThreadAlgorithm,
    UidValidity,
)
from mailstore.names import mailbox_name
from mailstore.schema import DEFAULT_MAILBOXES
from mailstore.uidset import UidSet
from tests.memory_store import MemoryStore
from tests.unit.store.store_world import World, now

MESSAGES = (
    b"Subject: one\r\nFrom: Ann <ann@example.org>\r\nDate: Mon, 2 Nov 2020 10:00:00 +0100\r\n"
    b"Message-ID: <1@example.org>\r\n\r\nThe quick fox\r\n",
    b"Subject: Re: one\r\nFrom: bob@example.org\r\nTo: ann@example.org\r\nIn-Reply-To: <1@example.org>\r\n"
    b"Message-ID: <2@example.org>\r\nDate: Tue, 3 Nov 2020 10:00:00 +0100\r\n\r\nover the lazy dog\r\n",
    b"Content-Type: multipart/mixed; boundary=b\r\nSubject: =?utf-8?q?M=C3=BCller?=\r\n\r\n"
    b"--b\r\n\r\ntext\r\n--b\r\nContent-Type: application/pdf; name=a.pdf\r\n"
    b"Content-Transfer-Encoding: base64\r\n\r\naGVsbG8=\r\n--b--\r\n",
    b"no header at all",
)
NAMES = ("INBOX", "Work", "Work/One", "work", "Trash", "Sent", "inbox", "/bad", "Müller")
WHOLE = 10_000
"""More bytes than any section here has."""
KEYWORDS = ("$Label1", "Work", "work")

names = st.sampled_from(NAMES).map(mailbox_name)
uids = st.lists(st.integers(1, 7), max_size=4).map(UidSet.of)
flags = st.builds(
    Flags,
    st.sampled_from([SystemFlag.NONE, SystemFlag.SEEN, SystemFlag.DELETED, SystemFlag(12)]),
    st.lists(st.sampled_from(KEYWORDS), max_size=2, unique_by=str.lower).map(tuple),
)
messages = st.builds(NewMessage, st.sampled_from(MESSAGES), flags, st.integers(10**9, 10**9 + 10**6))
simple_keys = st.sampled_from(
    [
        criteria.All(),
        criteria.HasFlag(SystemFlag.SEEN),
        criteria.HasKeyword("WORK"),
        criteria.Larger(100),
        criteria.Smaller(60),
        criteria.HeaderText("SUBJECT", "muller"),
        criteria.HeaderText("FROM", "ann@example.org"),
        criteria.BodyText("QUICK"),
        criteria.AnyText("a.pdf"),
        criteria.DateRange("sent", date(2020, 11, 3), None),
        criteria.DateRange("internal", None, date(2001, 9, 12)),
        criteria.Uids(UidSet.of([2, 3])),
    ]
)
keys = st.recursive(
    simple_keys,
    lambda inner: (
        st.builds(criteria.Not, inner)
        | st.builds(criteria.Or, inner, inner)
        | st.lists(inner, min_size=1, max_size=3).map(lambda some: criteria.And(tuple(some)))
    ),
    max_leaves=4,
)
SECTIONS = tuple(
    SectionRead(spec, offset, length, decoded)
    for spec, offset, length, decoded in (
        (mime.SectionSpec(), None, None, False),
        (mime.SectionSpec((1,)), None, None, False),
        (mime.SectionSpec((2,)), None, None, True),
        (mime.SectionSpec((), mime.SectionKind.HEADER), None, None, False),
        (mime.SectionSpec((), mime.SectionKind.TEXT), 2, 3, False),
    )
)


@dataclass
class Side:
    """One of the stores: the account's two sessions, what each has selected, and what it knows of it."""

    sessions: list[Any]
    selected: list[Any]
    known: list[ModSeq]


def plain(value: Any) -> Any:
    """A result without what is each store's own."""
    match value:
        case Delta():
            changed = tuple((one.uid, shown(one.flags)) for one in value.changed)
            gone = value.mailbox_gone
            return ("delta", changed, () if gone else value.expunged, gone, None if gone else value.recent)
        case MailboxStatus():
            return replace(value, mailbox_id=0, uid_validity=0, highest_modseq=0, object_id="")
        case Counters():
            return value.messages, value.unseen, value.uid_next
        case MailboxList():
            listed = [
                (one.name, one.special_use, one.subscribed, one.has_children) for one in value.mailboxes
            ]
            return listed, value.orphan_subscriptions
        case Opened():
            words = sorted(value.keywords, key=str.lower)
            state = plain(value.status)
            return (value.name, value.read_only, state, list(value.uids), value.first_unseen, words)
        case Flags():
            return shown(value)
        case tuple() | list():
            return [plain(one) for one in value]
        case _:
            return value


def shown(value: Flags) -> tuple[SystemFlag, tuple[str, ...]]:
    """Flags without the order of keywords."""
    return value.system, tuple(sorted(value.keywords))


class Stores(RuleBasedStateMachine):
    """Both stores, side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="sealbox-stores-"))
        self.world = World(self.root)
        memory = MemoryStore()
        data = memory.add_account()
        for name, use in DEFAULT_MAILBOXES:
            if name != "INBOX":
                data.create(name, use)
            data.subscriptions.add(name)
        real = [self.world.login() for _ in range(2)]
        double = [now(memory.login(b"joe", b"secret", AccessProtocol.IMAP)) for _ in range(2)]
        self.sides = [Side(side, [None, None], [ModSeq(0), ModSeq(0)]) for side in (real, double)]

    def teardown(self) -> None:
        """Nothing stays behind."""
        self.world.close()
        shutil.rmtree(self.root)

    def both(self, what: Callable[[Side], Awaitable[Any]], tell: Callable[[Any], Any] = plain) -> Any:
        """Do the same on both sides, which have to say the same; for each its result and its error."""
        outcomes: list[Any] = []
        for side in self.sides:
            try:
                outcomes.append((now(what(side)), None))
            except StoreError as error:
                outcomes.append((None, type(error)))
        (real, real_error), (double, double_error) = outcomes
        assert real_error is double_error, (real_error, double_error)
        if real_error is None:
            assert tell(real) == tell(double)
        return outcomes

    def changed(self, who: int, what: Callable[[Any, ModSeq], Awaitable[Any]], tell: Any, delta: Any) -> None:
        """As ``both``, for an operation in a selected mailbox whose result brings what changed."""
        outcomes = self.both(lambda side: what(side.selected[who], side.known[who]), tell)
        for side, (result, _error) in zip(self.sides, outcomes, strict=True):
            if result is not None:
                side.known[who] = delta(result).highest

    # -- the account -------------------------------------------------------------------------------

    @rule(
        who=st.integers(0, 1), name=names, use=st.sampled_from([None, None, SpecialUse.SENT, SpecialUse.ALL])
    )
    def create(self, who: int, name: str, use: SpecialUse | None) -> None:
        """CREATE."""
        self.both(lambda side: side.sessions[who].create(name, use))

    @rule(who=st.integers(0, 1), name=names)
    def delete(self, who: int, name: str) -> None:
        """DELETE."""
        self.both(lambda side: side.sessions[who].delete(name))

    @rule(who=st.integers(0, 1), old=names, new=names)
    def rename(self, who: int, old: str, new: str) -> None:
        """RENAME."""
        self.both(lambda side: side.sessions[who].rename(old, new))

    @rule(who=st.integers(0, 1), name=names, on=st.booleans())
    def subscribe(self, who: int, name: str, on: bool) -> None:
        """SUBSCRIBE, UNSUBSCRIBE."""
        self.both(lambda side: (side.sessions[who].subscribe if on else side.sessions[who].unsubscribe)(name))

    @rule(who=st.integers(0, 1), name=names, some=st.lists(messages, min_size=1, max_size=3))
    def append(self, who: int, name: str, some: list[NewMessage]) -> None:
        """APPEND, MULTIAPPEND."""
        self.both(lambda side: side.sessions[who].append(name, some), lambda result: result.uids)

    @rule(
        name=names,
        entry=st.sampled_from(["/private/comment", "/shared/comment"]),
        value=st.sampled_from([None, b"", b"x"]),
    )
    def annotate(self, name: str, entry: str, value: bytes | None) -> None:
        """SETMETADATA, GETMETADATA."""
        self.both(lambda side: side.sessions[0].annotate(name, {entry: value}), sorted)
        self.both(lambda side: side.sessions[1].annotations(name))

    @rule(who=st.integers(0, 1), name=names, read_only=st.booleans())
    def select(self, who: int, name: str, read_only: bool) -> None:
        """SELECT, EXAMINE."""
        outcomes = self.both(
            lambda side: side.sessions[who].select(name, read_only), lambda mailbox: plain(mailbox.opened)
        )
        for side, (mailbox, _error) in zip(self.sides, outcomes, strict=True):
            side.selected[who] = mailbox
            if mailbox is not None:
                side.known[who] = mailbox.opened.status.highest_modseq

    @rule(key=keys, name=names)
    def search_elsewhere(self, key: criteria.Key, name: str) -> None:
        """MULTISEARCH."""
        self.both(lambda side: side.sessions[0].search_in(name, key), lambda found: found[1].uids)

    @rule(name=names)
    def status(self, name: str) -> None:
        """STATUS, and the same for several."""
        self.both(lambda side: side.sessions[0].status(name))
        self.both(
            lambda side: side.sessions[0].statuses([name, "INBOX"]),
            lambda found: {one: plain(value) for one, value in found.items()},
        )

    @rule(name=names, uid=st.integers(1, 4), section=st.sampled_from(SECTIONS))
    def read_elsewhere(self, name: str, uid: int, section: SectionRead) -> None:
        """CATENATE's URL, and one whose UIDVALIDITY is of another time."""

        async def read(side: Side) -> Any:
            validity = (await side.sessions[0].status(name)).uid_validity
            found = await side.sessions[0].read_section(name, validity, uid, section)
            return found, await side.sessions[0].read_section(name, UidValidity(validity + 1), uid, section)

        self.both(read)

    @rule(name=names)
    def annotations_in_lists(self, name: str) -> None:
        """LIST-METADATA."""
        entries = ["/private/comment", "/shared/comment"]
        self.both(lambda side: side.sessions[0].annotations_of([name], entries, WHOLE))

    @rule()
    def overview(self) -> None:
        """NOTIFY."""

        def tell(found: Overview) -> Any:
            named = {info.mailbox_id: info.name for info in found.listed.mailboxes}
            counted = {named[one]: plain(value) for one, value in found.counters.items()}
            versions = {named.get(one): sorted(of) for one, of in (found.annotations or {}).items() if of}
            return plain(found.listed), counted, versions

        self.both(lambda side: side.sessions[0].overview(0), tell)

    @invariant()
    def agree(self) -> None:
        """The same mailboxes, the same use of space."""
        self.both(lambda side: side.sessions[0].list_mailboxes())
        self.both(
            lambda side: side.sessions[1].quota(), lambda quota: (quota.used_bytes, quota.used_messages)
        )

    # -- a selected mailbox ------------------------------------------------------------------------

    def has_selected(self) -> bool:
        """Whether the first session has a mailbox."""
        return self.sides[0].selected[0] is not None

    @precondition(has_selected)
    @rule(soon=st.booleans())
    def sync(self, soon: bool) -> None:
        """NOOP, IDLE."""
        self.changed(
            0, lambda box, since: (box.news if soon else box.sync)(since), plain, lambda found: found
        )

    @precondition(has_selected)
    @rule(of=uids)
    def flags_alone(self, of: UidSet) -> None:
        """FETCH FLAGS."""
        plan = FetchPlan(flags_only=True)

        def tell(found: Any) -> Any:
            return [(one.uid, shown(one.flags)) for one in found.flags], found.rows, plain(found.delta)

        self.changed(0, lambda box, since: box.fetch(list(of), plan, since), tell, lambda found: found.delta)

    @precondition(has_selected)
    @rule(of=uids, seen=st.booleans(), whole=st.booleans())
    def fetch(self, of: UidSet, seen: bool, whole: bool) -> None:
        """FETCH."""
        plan = FetchPlan(whole, whole, whole, set_seen=seen, preview=whole)

        def tell(found: Any) -> Any:
            rows = [plain(row[:1] + row[2:5] + row[6:10]) for row in found.rows]
            return rows, found.seen_now, plain(found.delta)

        self.changed(0, lambda box, since: box.fetch(list(of), plan, since), tell, lambda found: found.delta)

    @precondition(has_selected)
    @rule(of=uids, most=st.sampled_from([1, 40, WHOLE]))
    def content(self, of: UidSet, most: int) -> None:
        """FETCH BODY[]."""

        def tell(rows: Any) -> Any:
            # How much of a section comes at once where not all of it fits is each store's own affair.
            fits = most == WHOLE
            return [
                (
                    row.uid,
                    [(one.total, one.data if fits else b"", one.unknown_encoding) for one in row.sections],
                )
                for row in (rows if fits else rows[:1])
            ]

        self.both(lambda side: side.selected[0].content(list(of), SECTIONS, most), tell)

    @precondition(has_selected)
    @rule(of=uids, mode=st.sampled_from(StoreMode), new=flags)
    def store(self, of: UidSet, mode: StoreMode, new: Flags) -> None:
        """STORE."""

        def tell(found: Any) -> Any:
            updated = [(one.uid, shown(one.flags)) for one in found.updated]
            return updated, found.modified, found.missing, plain(found.delta)

        self.changed(
            0,
            lambda box, since: box.store_flags(of, mode, new, None, since),
            tell,
            lambda found: found.delta,
        )

    @precondition(has_selected)
    @rule(of=uids, new=flags)
    def store_if_unchanged(self, of: UidSet, new: Flags) -> None:
        """STORE with UNCHANGEDSINCE what the session knows."""
        self.changed(
            0,
            lambda box, since: box.store_flags(of, StoreMode.ADD, new, since, since),
            lambda found: (found.modified, found.missing, plain(found.delta)),
            lambda found: found.delta,
        )

    @precondition(has_selected)
    @rule(of=uids, name=names, move=st.booleans())
    def carry(self, of: UidSet, name: str, move: bool) -> None:
        """COPY, MOVE."""
        self.changed(
            0,
            lambda box, since: (box.move if move else box.copy)(of, name, since),
            lambda found: (found.source, found.destination, plain(found.delta)),
            lambda found: found.delta,
        )

    @precondition(has_selected)
    @rule(uid=st.integers(1, 5), name=names, new=messages)
    def replace_one(self, uid: int, name: str, new: NewMessage) -> None:
        """REPLACE."""
        self.changed(
            0,
            lambda box, since: box.replace(uid, name, new, since),
            lambda found: (found[0].uids, plain(found[1])),
            lambda found: found[1],
        )

    @precondition(has_selected)
    @rule(of=st.none() | uids)
    def expunge(self, of: UidSet | None) -> None:
        """EXPUNGE, UID EXPUNGE."""
        self.changed(0, lambda box, since: box.expunge(of, since), plain, lambda found: found)

    @precondition(has_selected)
    @rule(
        key=keys,
        by=st.sampled_from([one for one in SortKey if one is not SortKey.RELEVANCY]),
        down=st.booleans(),
    )
    def search(self, key: criteria.Key, by: SortKey, down: bool) -> None:
        """SEARCH, SORT."""
        order = [SortBy(by, down)]
        for what in (
            lambda box, since: box.search(key, since),
            lambda box, since: box.sort(key, order, since),
        ):
            self.changed(0, what, lambda found: (found.uids, plain(found.delta)), lambda found: found.delta)

    @precondition(has_selected)
    @rule(key=keys, how=st.sampled_from(ThreadAlgorithm))
    def thread(self, key: criteria.Key, how: ThreadAlgorithm) -> None:
        """THREAD."""
        self.changed(
            0,
            lambda box, since: box.threads(key, how, since),
            lambda found: (tuple(found[0]), plain(found[1])),
            lambda found: found[1],
        )

    @precondition(has_selected)
    @rule(of=uids, what=st.sampled_from(["mark_seen", "remove", "discard"]))
    def pop3(self, of: UidSet, what: str) -> None:
        """POP3's RETR, DELE and QUIT."""
        self.both(
            lambda side: side.selected[0].maildrop(), lambda found: (list(found.uids), list(found.sizes))
        )
        self.both(lambda side: side.selected[0].maildrop_ids(of), lambda found: [one.uid for one in found])
        self.both(lambda side: getattr(side.selected[0], what)(of))


Stores.TestCase.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
TestStores = Stores.TestCase
