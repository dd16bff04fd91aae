"""The store as a dict: what the protocols' tests run against (see ``protocols.store_api``).

Everything happens at once; ``hold`` lets a test keep one operation waiting.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping, Sequence
from itertools import count

from twisted.internet.defer import Deferred

from mailstore import mime
from mailstore.errors import (
    AccountClosed,
    AuthenticationFailed,
    InboxStays,
    LimitExceeded,
    MailboxExists,
    MailboxHasChildren,
    NoSuchMailbox,
    OverQuota,
    OwnInferior,
    ReadOnly,
    SpecialUseTaken,
    StoreError,
)
from mailstore.keys.scram import scram_keys
from mailstore.model import (
    NOWHERE,
    AccessProtocol,
    AppendResult,
    Counters,
    Flags,
    MailboxId,
    MailboxInfo,
    MailboxList,
    MailboxStatus,
    MessageId,
    NewMessage,
    Origin,
    Overview,
    Pop3Settings,
    Quota,
    ScramExchange,
    ScramSetup,
    SearchResult,
    SectionRead,
    SpecialUse,
    Uid,
    UidValidity,
)
from mailstore.names import for_creation, superiors
from mailstore.search import Key
from tests.memory_mailbox import SelectedMailbox, StoredMailbox, read_section

_MAX_ANNOTATIONS = 20


_SCRAM_SETUP = ScramSetup(b"sixteen octets!!")


def _octets(values: Mapping[str, bytes]) -> int:
    return sum(len(entry) + len(value) for entry, value in values.items())


class MemoryAccount:
    """The data of an account, and the sessions that have it open."""

    def __init__(self, secret: bytes) -> None:
        self.secret = secret
        self.read_only = False
        self.pop3 = Pop3Settings()
        self.last_pop3_login_s: float | None = None
        self.clock: Callable[[], float] = lambda: 0.0
        self.mailboxes: dict[str, StoredMailbox] = {}
        self.subscriptions: set[str] = set()
        self.annotations: dict[MailboxId | None, dict[str, bytes]] = {}
        self.versions: dict[MailboxId | None, dict[str, int]] = {}
        self.versions_given = count(1)
        self.listeners: list[Callable[[], None]] = []
        self.limit_bytes: int | None = None
        self.limit_messages: int | None = None
        self.sessions: list[AccountSession] = []
        self.hold: Deferred[None] | None = None
        self.failure: Exception | None = None
        self.released_at_once = 0
        self._ids = 0
        self.create("INBOX")

    def next_id(self) -> int:
        """A fresh id."""
        self._ids += 1
        return self._ids

    def create(self, name: str, special_use: SpecialUse | None = None) -> StoredMailbox:
        """Add a mailbox and its superiors."""
        for superior in superiors(name):
            if superior not in self.mailboxes:
                self.mailboxes[superior] = StoredMailbox(MailboxId(self.next_id()), touch=self.touch)
        self.mailboxes[name] = StoredMailbox(MailboxId(self.next_id()), special_use, touch=self.touch)
        self.touch()
        return self.mailboxes[name]

    def touch(self) -> None:
        """Something changed."""
        for listener in tuple(self.listeners):
            listener()

    def deliver(self, data: bytes, mailbox: str = "INBOX", flags: Flags | None = None, date: int = 0) -> Uid:
        """A message arrives, from whichever side."""
        box = self.mailboxes[mailbox]
        uid = box.add(MessageId(self.next_id()), data, flags or Flags(), date, box.bump())
        box.changed()
        return uid

    def close_sessions(self) -> None:
        """A key was revoked or the account deleted."""
        for session in tuple(self.sessions):
            session.closed_by_store()


class MemoryStore:
    """All accounts. ``add_account`` makes one."""

    def __init__(self) -> None:
        self.accounts: dict[bytes, MemoryAccount] = {}
        self.logins = 0
        self.hold_logins: Deferred[None] | None = None
        """Set it to keep logins waiting until it is fired."""
        self.login_error: StoreError | None = None
        """Set it to make every login fail with it."""

    def add_account(self, name: bytes = b"joe", secret: bytes = b"secret") -> MemoryAccount:
        """An account with an INBOX."""
        self.accounts[name] = MemoryAccount(secret)
        return self.accounts[name]

    async def login(
        self, name: bytes, secret: bytes, protocol: AccessProtocol, origin: Origin = NOWHERE
    ) -> AccountSession:
        """See ``StoreApi``."""
        self.logins += 1
        if self.hold_logins is not None:
            turn: Deferred[None] = Deferred()
            self.hold_logins.addCallback(lambda _: None if turn.called else turn.callback(None))
            await turn
        if self.login_error is not None:
            raise self.login_error
        found = self.accounts.get(name)
        if found is None or found.secret != secret:
            raise AuthenticationFailed("authentication failed")
        return AccountSession(name, found)

    async def prove(
        self, name: bytes, secret: bytes, protocol: AccessProtocol, origin: Origin = NOWHERE
    ) -> str:
        """See ``StoreApi``."""
        session = await self.login(name, secret, protocol, origin)
        session.release()
        return session.name

    async def scram_setup(self, name: bytes) -> ScramSetup:
        """See ``StoreApi``."""
        return _SCRAM_SETUP

    async def login_scram(
        self, name: bytes, exchange: ScramExchange, protocol: AccessProtocol
    ) -> tuple[AccountSession, bytes]:
        """See ``StoreApi``."""
        self.logins += 1
        found = self.accounts.get(name)
        keys = scram_keys(found.secret if found is not None else b"", _SCRAM_SETUP)
        signature = hmac.digest(keys.stored_key, exchange.auth_message, "sha256")
        proof = bytes(one ^ other for one, other in zip(keys.client_key, signature, strict=True))
        if found is None or proof != exchange.proof:
            raise AuthenticationFailed("authentication failed")
        return AccountSession(name, found), hmac.digest(keys.server_key, exchange.auth_message, "sha256")

    async def largest_pop3_login_delay_s(self) -> int:
        """See ``StoreApi``."""
        return max((account.pop3.login_delay_s or 0 for account in self.accounts.values()), default=0)


class AccountSession:
    """See ``AccountApi``."""

    def __init__(self, name: bytes, data: MemoryAccount) -> None:
        self.account_id = name.decode("latin-1")
        self.name = name.decode("latin-1")
        self.data = data
        self.released = False
        self._closed = False
        self._on_closed: Callable[[], None] | None = None
        data.sessions.append(self)

    @property
    def read_only(self) -> bool:
        """See ``AccountApi``."""
        return self.data.read_only

    @property
    def pop3(self) -> Pop3Settings:
        """See ``AccountApi``."""
        return self.data.pop3

    async def may_log_in_by_pop3(self, delay_s: int) -> bool:
        """See ``AccountApi``."""
        now, last = self.data.clock(), self.data.last_pop3_login_s
        if last is not None and now - last < delay_s:
            return False
        self.data.last_pop3_login_s = now
        return True

    def release(self) -> None:
        """See ``AccountApi``."""
        self.released = True
        if self in self.data.sessions:
            self.data.sessions.remove(self)

    def release_at_once(self) -> None:
        """See ``AccountApi``."""
        self.data.released_at_once += 1
        self.release()

    def on_closed(self, callback: Callable[[], None]) -> None:
        """See ``AccountApi``."""
        self._on_closed = callback
        if self._closed:
            callback()

    def closed_by_store(self) -> None:
        """The session has to end."""
        self._closed = True
        if self._on_closed is not None:
            self._on_closed()

    async def turn(self, writes: bool = False) -> None:
        """Wait as long as the test wants, fail as the test wants."""
        if self.data.hold is not None:
            gate: Deferred[None] = Deferred()
            self.data.hold.addCallback(lambda _: gate.callback(None))
            await gate
        failure, self.data.failure = self.data.failure, None
        if failure is not None:
            raise failure
        if self.released:
            raise AccountClosed("closed")
        if writes and self.read_only:
            raise ReadOnly("read only")

    def box(self, name: str) -> StoredMailbox:
        """The mailbox of that name."""
        found = self.data.mailboxes.get(name)
        if found is None:
            raise NoSuchMailbox("no such mailbox")
        return found

    def trash(self) -> str:
        """The name of the mailbox for deleted messages, which is made when it is not there."""
        names = (name for name, box in self.data.mailboxes.items() if box.special_use is SpecialUse.TRASH)
        name = next(names, "Trash")
        if name not in self.data.mailboxes:
            self.data.create(name, SpecialUse.TRASH)
            self.data.subscriptions.add(name)
        return name

    async def list_mailboxes(self) -> MailboxList:
        """See ``AccountApi``."""
        await self.turn()
        data = self.data
        return MailboxList(
            tuple(
                MailboxInfo(
                    box.mailbox_id,
                    name,
                    box.special_use,
                    name in data.subscriptions,
                    any(other.startswith(name + "/") for other in data.mailboxes),
                    f"F{box.mailbox_id}",
                )
                for name, box in sorted(data.mailboxes.items(), key=lambda one: (one[0] != "INBOX", one[0]))
            ),
            tuple(sorted(data.subscriptions - set(data.mailboxes))),
        )

    async def status(self, name: str) -> MailboxStatus:
        """See ``AccountApi``."""
        await self.turn()
        return self.box(name).status()

    async def statuses(self, names: Sequence[str]) -> dict[str, MailboxStatus]:
        """See ``AccountApi``."""
        await self.turn()
        there = self.data.mailboxes
        return {name: there[name].status() for name in names if name in there}

    async def create(self, name: str, special_use: SpecialUse | None = None) -> MailboxStatus:
        """See ``AccountApi``."""
        await self.turn(writes=True)
        name = for_creation(name)
        if name in self.data.mailboxes:
            raise MailboxExists("exists")
        if special_use and any(box.special_use is special_use for box in self.data.mailboxes.values()):
            raise SpecialUseTaken("taken")
        return self.data.create(name, special_use).status()

    async def delete(self, name: str) -> None:
        """See ``AccountApi``."""
        await self.turn(writes=True)
        if name == "INBOX":
            raise InboxStays("INBOX")
        box = self.box(name)
        if any(other.startswith(name + "/") for other in self.data.mailboxes):
            raise MailboxHasChildren("children")
        del self.data.mailboxes[name]
        box.deleted = True
        box.remove(list(box.messages), box.bump())
        box.changed()

    async def rename(self, old: str, new: str) -> None:
        """See ``AccountApi``; INBOX hands over its messages and stays."""
        await self.turn(writes=True)
        new = for_creation(new)
        self.box(old)
        if new in self.data.mailboxes:
            raise MailboxExists("exists")
        if old == "INBOX":
            made, inbox = self.data.create(new), self.box(old)
            for one in inbox.messages.values():
                made.add(one.message_id, one.data, one.flags, one.internal_date, made.bump())
            inbox.remove(list(inbox.messages), inbox.bump())
            inbox.changed()
            return
        if new.startswith(old + "/"):
            raise OwnInferior("own inferior")
        moving = [name for name in self.data.mailboxes if name == old or name.startswith(old + "/")]
        if any(new + name[len(old) :] in self.data.mailboxes for name in moving):
            raise MailboxExists("exists")
        if superiors(new) and superiors(new)[-1] not in self.data.mailboxes:
            self.data.create(superiors(new)[-1])
        for name in moving:
            self.data.mailboxes[new + name[len(old) :]] = self.data.mailboxes.pop(name)
        self.data.touch()

    async def subscribe(self, name: str) -> None:
        """See ``AccountApi``."""
        await self.turn(writes=True)
        self.data.subscriptions.add(for_creation(name))
        self.data.touch()

    async def unsubscribe(self, name: str) -> None:
        """See ``AccountApi``."""
        await self.turn(writes=True)
        self.data.subscriptions.discard(name)
        self.data.touch()

    async def select(self, name: str, read_only: bool) -> SelectedMailbox:
        """See ``AccountApi``."""
        await self.turn()
        return SelectedMailbox(self, name, read_only or self.read_only)

    async def append(self, name: str, messages: Sequence[NewMessage]) -> AppendResult:
        """See ``AccountApi``."""
        await self.turn(writes=True)
        box = self.box(name)
        self.check_quota(sum(len(one.data) for one in messages), len(messages))
        modseq = box.bump()
        uids = tuple(
            box.add(MessageId(self.data.next_id()), one.data, one.flags, one.internal_date or 0, modseq)
            for one in messages
        )
        box.changed()
        return AppendResult(box.mailbox_id, box.uid_validity, uids)

    async def read_section(
        self, name: str, uid_validity: UidValidity, uid: Uid, section: SectionRead
    ) -> bytes | None:
        """See ``AccountApi``."""
        await self.turn()
        box = self.box(name)
        found = box.messages.get(uid)
        if found is None or box.uid_validity != uid_validity:
            return None
        read = read_section(found.data, mime.scan(found.data), section, len(found.data))
        return None if read.total is None else read.data

    async def annotations(self, name: str | None) -> dict[str, bytes]:
        """See ``AccountApi``."""
        await self.turn()
        return dict(self.data.annotations.get(None if name is None else self.box(name).mailbox_id, {}))

    async def annotations_of(
        self, names: Sequence[str], entries: Sequence[str], max_bytes: int
    ) -> dict[str, dict[str, bytes]]:
        """See ``AccountApi``; one mailbox at a time."""
        stored = await self.annotations(names[0]) if names[0] in self.data.mailboxes else {}
        return {names[0]: {entry: stored[entry] for entry in entries if entry in stored}}

    async def annotate(self, name: str | None, values: Mapping[str, bytes | None]) -> dict[str, int]:
        """See ``AccountApi``."""
        await self.turn(writes=True)
        key = None if name is None else self.box(name).mailbox_id
        merged = {**self.data.annotations.get(key, {}), **values}
        kept = {entry: value for entry, value in merged.items() if value is not None}
        if len(kept) > _MAX_ANNOTATIONS:
            raise LimitExceeded("too many")
        grown = _octets(kept) - _octets(self.data.annotations.get(key, {}))
        if grown > 0:
            self.check_quota(grown, 0)
        self.data.annotations[key] = kept
        new = {entry: next(self.data.versions_given) for entry, value in values.items() if value is not None}
        versions = {**self.data.versions.get(key, {}), **new}
        self.data.versions[key] = {entry: version for entry, version in versions.items() if entry in kept}
        self.data.touch()
        return new

    async def overview(self, annotations_since: int | None) -> Overview:
        """See ``AccountApi``; annotations always come when they are asked for."""
        listed = await self.list_mailboxes()
        counters = {}
        for box in self.data.mailboxes.values():
            seen = box.status()
            counters[box.mailbox_id] = Counters(
                seen.messages, seen.unseen, seen.uid_next, seen.uid_validity, seen.highest_modseq
            )
        there = {None, *counters}
        versions = {key: dict(found) for key, found in self.data.versions.items() if key in there}
        return Overview(listed, counters, 0, None if annotations_since is None else versions)

    def listen(self, callback: Callable[[], None]) -> Callable[[], None]:
        """See ``AccountApi``."""

        def heard() -> None:
            if not self.released:
                callback()

        def end() -> None:
            if heard in self.data.listeners:
                self.data.listeners.remove(heard)

        self.data.listeners.append(heard)
        return end

    async def search_in(self, name: str, key: Key) -> tuple[UidValidity, SearchResult]:
        """See ``AccountApi``."""
        box = self.box(name)
        return box.uid_validity, await SelectedMailbox(self, name, True).search(key, box.modseq)

    def check_quota(self, more_bytes: int, more_messages: int) -> None:
        """Refuse what would pass the account's limits."""
        quota = self._quota()
        if quota.limit_bytes is not None and quota.used_bytes + more_bytes > quota.limit_bytes:
            raise OverQuota("full")
        if quota.limit_messages is not None and quota.used_messages + more_messages > quota.limit_messages:
            raise OverQuota("full")

    def _quota(self) -> Quota:
        stored = [one for box in self.data.mailboxes.values() for one in box.messages.values()]
        used = sum(len(one.data) for one in stored)
        ids = {None, *(box.mailbox_id for box in self.data.mailboxes.values())}
        used += sum(_octets(values) for key, values in self.data.annotations.items() if key in ids)
        return Quota(used, self.data.limit_bytes, len(stored), self.data.limit_messages)

    async def quota(self) -> Quota:
        """See ``AccountApi``."""
        await self.turn()
        return self._quota()
