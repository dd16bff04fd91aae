"""A mailbox of the memory store: dicts and lists, every operation at once."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Protocol

from mailstore import mime
from mailstore.errors import NoSuchMessage, ReadOnly
from mailstore.model import (
    AppendResult,
    ContentRow,
    CopyResult,
    Delta,
    FetchPlan,
    FetchResult,
    FetchRow,
    Flags,
    MailboxId,
    MailboxStatus,
    MaildropId,
    MaildropListing,
    MessageFlags,
    MessageId,
    ModSeq,
    NewMessage,
    Opened,
    Places,
    Progress,
    SearchResult,
    SectionData,
    SectionRead,
    SortBy,
    SpecialUse,
    StoreMode,
    StoreResult,
    SystemFlag,
    ThreadAlgorithm,
    Uid,
    UidValidity,
)
from mailstore.search import Key
from mailstore.threads import Threads, threads
from mailstore.uidset import UidSet
from tests.memory_search import matches
from tests.memory_sort import sorted_uids, thread_row

_KNOWN_ENCODINGS = {b"7bit", b"8bit", b"binary", b"base64", b"quoted-printable"}
_VALIDITY = UidValidity(7)
_FIRST_UID = Uid(1)
SAVED = 1_700_000_000
"""When every message comes into its mailbox: time stands still here."""
_FIRST_MODSEQ = ModSeq(1)


@dataclass
class StoredMessage:
    """One message in one mailbox."""

    uid: Uid
    message_id: MessageId
    data: bytes
    flags: Flags
    modseq: ModSeq
    internal_date: int
    save_date: int = SAVED

    def state(self) -> MessageFlags:
        """The narrow row."""
        return MessageFlags(self.uid, self.modseq, self.flags)


@dataclass
class StoredMailbox:
    """One mailbox with its history of expunges."""

    mailbox_id: MailboxId
    special_use: SpecialUse | None = None
    uid_validity: UidValidity = _VALIDITY
    uid_next: Uid = _FIRST_UID
    modseq: ModSeq = _FIRST_MODSEQ
    recent_from: int = 1
    messages: dict[int, StoredMessage] = field(default_factory=dict)
    gone: list[tuple[int, int]] = field(default_factory=list)
    listeners: list[Callable[[], None]] = field(default_factory=list)
    keywords: dict[str, str] = field(default_factory=dict)
    """Those that were ever used here, in the spelling of the first time, by their lower case."""
    deleted: bool = False
    before_search: list[Callable[[], object]] = field(default_factory=list)
    """What happens before each of the next searches has looked."""
    searching: Progress = field(default_factory=Progress)
    """What the last search counts in; here it counts nothing."""
    touch: Callable[[], None] = lambda: None
    """Tells those who listen to the whole account."""

    def bump(self) -> ModSeq:
        """The modseq of a new transaction."""
        self.modseq = ModSeq(self.modseq + 1)
        return self.modseq

    def delta(self, since: ModSeq) -> Delta:
        """What changed after ``since``."""
        changed = tuple(one.state() for _, one in sorted(self.messages.items()) if one.modseq > since)
        expunged = UidSet.of(uid for modseq, uid in self.gone if modseq > since)
        return Delta(since, self.modseq, self.uid_next, changed, expunged, self.deleted)

    def add(
        self, message_id: MessageId, data: bytes, flags: Flags, internal_date: int, modseq: ModSeq
    ) -> Uid:
        """File a message."""
        uid = self.uid_next
        self.uid_next = Uid(uid + 1)
        flags = self.spelled(flags)
        self.messages[uid] = StoredMessage(uid, message_id, data, flags, modseq, internal_date)
        return uid

    def known_keywords(self) -> set[str]:
        """Those of messages, which a test may have put there, and those that were ever used."""
        return {word for one in self.messages.values() for word in one.flags.keywords} | set(
            self.keywords.values()
        )

    def spelled(self, flags: Flags) -> Flags:
        """The flags with keywords as the mailbox spells them; new ones are known from now on."""
        words = (self.keywords.setdefault(word.lower(), word) for word in flags.keywords)
        return Flags(flags.system, tuple(dict.fromkeys(words)))

    def remove(self, uids: Iterable[int], modseq: ModSeq) -> None:
        """Expunge."""
        for uid in uids:
            del self.messages[uid]
            self.gone.append((modseq, uid))

    def status(self) -> MailboxStatus:
        """Counters."""
        messages = self.messages.values()
        return MailboxStatus(
            self.mailbox_id,
            len(self.messages),
            sum(one.uid >= self.recent_from for one in messages),
            sum(not one.flags.system & SystemFlag.SEEN for one in messages),
            sum(bool(one.flags.system & SystemFlag.DELETED) for one in messages),
            sum(len(one.data) for one in messages),
            self.uid_next,
            self.uid_validity,
            self.modseq,
            f"F{self.mailbox_id}",
        )

    def changed(self) -> None:
        """Tell the sessions that listen."""
        for listener in tuple(self.listeners):
            listener()
        self.touch()


class Session(Protocol):
    """What a mailbox needs of the session that selected it."""

    def box(self, name: str) -> StoredMailbox:
        """The mailbox of that name."""

    def trash(self) -> str:
        """The name of the mailbox for deleted messages."""

    async def append(self, name: str, messages: Sequence[NewMessage]) -> AppendResult:
        """Append messages."""

    def check_quota(self, more_bytes: int, more_messages: int) -> None:
        """Refuse what would pass the account's limits."""

    async def turn(self, writes: bool = False) -> None:
        """Wait as long as the test wants, fail as the test wants."""


def read_section(data: bytes, root: mime.Part, read: SectionRead, max_bytes: int) -> SectionData:
    """One section of a message, cut short at ``max_bytes``."""
    found = mime.resolve(root, read.spec)
    if found is None:
        return SectionData(None)
    if isinstance(found, mime.HeaderFilter):
        start = 0
        text = mime.header_fields(data[found.span.start : found.span.end], found.fields, invert=found.invert)
        max_bytes = len(text)
    else:
        start = found.start
        text = data[found.start : found.end]
    offset = read.offset or 0
    part = mime.find_part(root, read.spec.part)
    if read.decoded and part is not None:
        if part.content.encoding not in _KNOWN_ENCODINGS:
            return SectionData(0, unknown_encoding=True)
        text = mime.decode_body(part, text)
        max_bytes = len(text)
    text = text[offset:] if read.length is None else text[offset : offset + read.length]
    given = text[: max(max_bytes, 0)]
    return SectionData(len(text), given, start + offset + len(given))


class SelectedMailbox:
    """See ``MailboxApi``."""

    def __init__(self, session: Session, name: str, read_only: bool) -> None:
        self._session = session
        self._box = session.box(name)
        self._listener: Callable[[], None] | None = None
        box = self._box
        uids = sorted(box.messages)
        unseen = [uid for uid in uids if not box.messages[uid].flags.system & SystemFlag.SEEN]
        self.opened = Opened(
            box.mailbox_id,
            name,
            read_only,
            box.status(),
            array("I", uids),
            Uid(unseen[0]) if unseen else None,
            tuple(sorted(box.known_keywords())),
            UidSet.of(uid for uid in uids if uid >= box.recent_from),
        )
        if not read_only:
            box.recent_from = box.uid_next

    def close(self) -> None:
        """See ``MailboxApi``."""
        self.on_change(None)

    def on_change(self, callback: Callable[[], None] | None) -> None:
        """See ``MailboxApi``."""
        if self._listener is not None:
            self._box.listeners.remove(self._listener)
        self._listener = callback
        if callback is not None:
            self._box.listeners.append(callback)

    async def _turn(self, writes: bool = False) -> None:
        await self._session.turn(writes)
        if writes and self.opened.read_only:
            raise ReadOnly("read only")

    def _delta(self, since: ModSeq) -> Delta:
        """What changed, with the claim on what nobody was told of."""
        found = self._box.delta(since)
        if self.opened.read_only:
            return found
        recent = UidSet.of(one.uid for one in found.changed if one.uid >= self._box.recent_from)
        self._box.recent_from = max(self._box.recent_from, self._box.uid_next)
        return replace(found, recent=recent)

    async def sync(self, since: ModSeq) -> Delta:
        """See ``MailboxApi``."""
        await self._turn()
        return self._delta(since)

    news = sync

    def fresh(self, since: ModSeq) -> Delta | None:
        """See ``MailboxApi``: there is no look to be saved."""
        return None

    async def claim(self, found: Delta) -> UidSet:
        """See ``MailboxApi``."""
        await self._turn()
        return self._delta(ModSeq(found.highest - 1)).recent

    async def fetch(self, uids: Sequence[Uid], plan: FetchPlan, since: ModSeq) -> FetchResult:
        """See ``MailboxApi``."""
        await self._turn()
        above = -1 if plan.changed_since is None else plan.changed_since
        chosen = [one for uid in uids if (one := self._box.messages.get(uid)) and one.modseq > above]
        unseen = [one for one in chosen if not one.flags.system & SystemFlag.SEEN]
        seen_now = UidSet()
        if plan.set_seen and unseen and not self.opened.read_only:
            seen_now = UidSet.of(one.uid for one in unseen)
            modseq = self._box.bump()
            for one in unseen:
                one.flags = Flags(one.flags.system | SystemFlag.SEEN, one.flags.keywords)
                one.modseq = modseq
        if plan.flags_only:
            return FetchResult((), self._delta(since), flags=tuple(one.state() for one in chosen))
        along = plan.sections and not (plan.set_seen and not self.opened.read_only)
        found = self._content([one.uid for one in chosen], plan.sections, plan.max_bytes) if along else ()
        return FetchResult(tuple(self._row(one, plan) for one in chosen), self._delta(since), seen_now, found)

    def _row(self, one: StoredMessage, plan: FetchPlan) -> FetchRow:
        root = mime.scan(one.data)
        return FetchRow(
            one.uid,
            one.modseq,
            one.flags,
            len(one.data),
            one.internal_date,
            one.message_id,
            mime.envelope(one.data[: root.body_start]) if plan.envelope else None,
            mime.body(root, one.data) if plan.body else None,
            mime.bodystructure(root, one.data) if plan.bodystructure else None,
            preview=mime.preview(root, one.data) if plan.preview else None,
            email_id=f"M{one.message_id}" if plan.object_ids else None,
            thread_id=f"T{one.message_id}" if plan.object_ids else None,
            save_date=one.save_date,
        )

    async def content(
        self, uids: Sequence[Uid], sections: Sequence[SectionRead], max_bytes: int
    ) -> tuple[ContentRow, ...]:
        """See ``MailboxApi``."""
        await self._turn()
        return self._content(uids, sections, max_bytes)

    def _content(
        self, uids: Sequence[Uid], sections: Sequence[SectionRead], max_bytes: int
    ) -> tuple[ContentRow, ...]:
        rows: list[ContentRow] = []
        left = max_bytes
        for one in (self._box.messages[uid] for uid in uids if uid in self._box.messages):
            root = mime.scan(one.data)
            answers: list[SectionData] = []
            for read in sections:
                answers.append(read_section(one.data, root, read, left))
                left -= len(answers[-1].data)
            if rows and any(one.total is not None and len(one.data) < one.total for one in answers):
                break
            rows.append(ContentRow(one.uid, one.message_id, tuple(answers)))
            if left <= 0:
                break
        return tuple(rows)

    async def read_span(self, message_id: MessageId, offset: int, length: int) -> bytes:
        """See ``MailboxApi``."""
        await self._turn()
        for one in self._box.messages.values():
            if one.message_id == message_id:
                return one.data[offset : offset + length]
        raise NoSuchMessage("gone")

    async def store_flags(
        self, uids: UidSet, mode: StoreMode, flags: Flags, unchanged_since: ModSeq | None, since: ModSeq
    ) -> StoreResult:
        """See ``MailboxApi``."""
        await self._turn(writes=True)
        box = self._box
        there = [box.messages[uid] for uid in uids if uid in box.messages]
        missing = UidSet.of(uid for uid in uids if uid not in box.messages)
        modified = [one for one in there if unchanged_since is not None and one.modseq > unchanged_since]
        chosen = [one for one in there if one not in modified]
        if chosen and mode is not StoreMode.REMOVE:
            flags = box.spelled(flags)
        modseq: ModSeq | None = None
        written: list[int] = []
        for one in chosen:
            new = _changed(one.flags, mode, flags)
            if new != one.flags:
                modseq = modseq or box.bump()
                one.flags, one.modseq = new, modseq
                written.append(one.uid)
        box.changed()
        updated = tuple(one.state() for one in chosen)
        refused = UidSet.of(one.uid for one in modified)
        return StoreResult(updated, refused, missing, self._delta(since), UidSet.of(written))

    async def copy(self, uids: UidSet, destination: str, since: ModSeq) -> CopyResult:
        """See ``MailboxApi``."""
        await self._turn()
        return self._copy(uids, destination, since, move=False)

    async def move(self, uids: UidSet, destination: str, since: ModSeq) -> CopyResult:
        """See ``MailboxApi``."""
        await self._turn(writes=True)
        return self._copy(uids, destination, since, move=True)

    def _copy(self, uids: UidSet, destination: str, since: ModSeq, move: bool) -> CopyResult:
        source, target = self._box, self._session.box(destination)
        there = [source.messages[uid] for uid in uids if uid in source.messages]
        if not move:
            self._session.check_quota(sum(len(one.data) for one in there), len(there))
        modseq = target.bump()
        pairs = [
            (one.uid, target.add(one.message_id, one.data, one.flags, one.internal_date, modseq))
            for one in there
        ]
        if move:
            source.remove([one.uid for one in there], source.bump())
        target.changed()
        source.changed()
        return CopyResult(
            target.uid_validity,
            tuple(old for old, _ in pairs),
            tuple(new for _, new in pairs),
            self._delta(since),
        )

    async def replace(
        self, uid: Uid, destination: str, new: NewMessage, since: ModSeq
    ) -> tuple[AppendResult, Delta]:
        """See ``MailboxApi``."""
        await self._turn(writes=True)
        target = self._session.box(destination)
        if uid not in self._box.messages:
            raise NoSuchMessage("gone")
        result = await self._session.append(destination, (new,))
        self._box.remove([uid], self._box.bump())
        target.changed()
        self._box.changed()
        return result, self._delta(since)

    async def expunge(self, uids: UidSet | None, since: ModSeq) -> Delta:
        """See ``MailboxApi``."""
        await self._turn(writes=True)
        box = self._box
        marked = [uid for uid, one in box.messages.items() if one.flags.system & SystemFlag.DELETED]
        if gone := [uid for uid in marked if uids is None or uid in uids]:
            box.remove(gone, box.bump())
            box.changed()
        return self._delta(since)

    async def search(self, key: Key, since: ModSeq, progress: Progress | None = None) -> SearchResult:
        """See ``MailboxApi``."""
        if progress is not None:
            self._box.searching = progress
        await self._turn()
        if self._box.before_search:
            self._box.before_search.pop(0)()
        found = [one for _, one in sorted(self._box.messages.items()) if matches(one, key)]
        highest = max((one.modseq for one in found), default=None)
        return SearchResult(tuple(one.uid for one in found), highest, self._delta(since))

    async def sort(
        self, key: Key, order: Sequence[SortBy], since: ModSeq, progress: Progress | None = None
    ) -> SearchResult:
        """See ``MailboxApi``."""
        found = await self.search(key, since, progress)
        uids = sorted_uids([self._box.messages[uid] for uid in found.uids], order)
        number = {uid: at for at, uid in enumerate(self.opened.uids, 1)}
        if number.keys() != self._box.messages.keys():
            return replace(found, uids=uids)
        places = Places(self.opened.uids, array("I", [number[uid] for uid in uids]))
        return replace(found, uids=uids, places=places)

    async def threads(
        self, key: Key, algorithm: ThreadAlgorithm, since: ModSeq, progress: Progress | None = None
    ) -> tuple[Threads, Delta]:
        """See ``MailboxApi``."""
        found = await self.search(key, since, progress)
        rows = [thread_row(self._box.messages[uid]) for uid in found.uids]
        return Threads(threads(rows, algorithm)), found.delta

    async def maildrop(self) -> MaildropListing:
        """See ``MaildropApi``."""
        await self._turn()
        messages = self._box.messages
        return MaildropListing(sorted(messages), [len(messages[uid].data) for uid in sorted(messages)])

    async def maildrop_ids(self, uids: UidSet) -> tuple[MaildropId, ...]:
        """See ``MaildropApi``."""
        await self._turn()
        there = (self._box.messages[uid] for uid in uids if uid in self._box.messages)
        return tuple(MaildropId(one.uid, f"M{one.message_id}", one.save_date) for one in there)

    async def mark_seen(self, uids: UidSet) -> None:
        """See ``MaildropApi``."""
        with self._telling_nobody():
            await self.store_flags(uids, StoreMode.ADD, Flags(SystemFlag.SEEN), None, self._box.modseq)

    async def discard(self, uids: UidSet) -> None:
        """See ``MaildropApi``."""
        await self._turn(writes=True)
        trash = self._session.trash()
        if self.opened.name == trash:
            await self.remove(uids)
        else:
            with self._telling_nobody():
                await self.move(uids, trash, self._box.modseq)

    @contextmanager
    def _telling_nobody(self) -> Iterator[None]:
        """What is new stays ``\\Recent`` for a session that is told of it."""
        recent_from = self._box.recent_from
        yield
        self._box.recent_from = recent_from

    async def remove(self, uids: UidSet) -> None:
        """See ``MaildropApi``."""
        await self._turn(writes=True)
        self._box.remove([uid for uid in uids if uid in self._box.messages], self._box.bump())
        self._box.changed()


def _changed(old: Flags, mode: StoreMode, flags: Flags) -> Flags:
    words = {word.lower(): word for word in old.keywords}
    given = {word.lower(): word for word in flags.keywords}
    match mode:
        case StoreMode.REPLACE:
            return Flags(flags.system, tuple(given.values()))
        case StoreMode.ADD:
            return Flags(old.system | flags.system, tuple({**given, **words}.values()))
        case StoreMode.REMOVE:
            left = tuple(word for low, word in words.items() if low not in given)
            return Flags(old.system & ~flags.system, left)
