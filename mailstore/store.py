"""The store's public face: async, in terms of accounts and mailboxes; whole transactions run in threads."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, gatherResults

from mailstore import search as criteria
from mailstore.account import account_paths
from mailstore.changes import Watcher
from mailstore.clock import Clock
from mailstore.delivering import deliver_sealed
from mailstore.directory import AccountRecord, Directory, Recipient
from mailstore.errors import AccountClosed, MessageTooLarge, NoSuchAccount, OverQuota, ReadOnly, StorageFull
from mailstore.executor import Executor
from mailstore.freed_memory import FreedMemory
from mailstore.keys import AccountId, Scope
from mailstore.lease_watch import LeaseWatch
from mailstore.limits import StoreLimits
from mailstore.mail_size import used_bytes
from mailstore.mailbox import Mailbox
from mailstore.margin import Margin
from mailstore.mime import DEFAULT_LIMITS, MimeLimits
from mailstore.model import (
    NOWHERE,
    AccessProtocol,
    AppendResult,
    MailboxList,
    MailboxName,
    MailboxStatus,
    NewMessage,
    Origin,
    Overview,
    Pop3Settings,
    Quota,
    QuotaLimits,
    ScramExchange,
    ScramSetup,
    SearchResult,
    SectionRead,
    SpecialUse,
    Uid,
    UidValidity,
)
from mailstore.open_account import OpenAccount
from mailstore.ops import by_name, mailboxes, metadata, quota, search
from mailstore.ops.metadata import AnnotationLimits
from mailstore.ops.overview import overview
from mailstore.pop3_login import may_log_in
from mailstore.prepared import PreparedMessage, ReadyMessage, prepare
from mailstore.sealed import Facts
from mailstore.selecting import select
from mailstore.this_node import is_here, require_here
from mailstore.unlock import Unlocked, Unlocker


class MailStore:
    """All accounts of one data root, as one worker process uses them."""

    def __init__(
        self,
        clock: Clock,
        root: Path,
        directory: Directory,
        unlocker: Unlocker,
        executor: Executor,
        limits: StoreLimits,
        watcher: Watcher,
        mime_limits: MimeLimits = DEFAULT_LIMITS,
    ) -> None:
        self.clock = clock
        self.executor = executor
        self.watcher = watcher
        self.limits = limits
        self.mime_limits = mime_limits
        self._root = root
        self._directory = directory
        self._unlocker = unlocker
        self._open: dict[AccountId, OpenAccount] = {}
        self._opening: dict[AccountId, Deferred[None]] = {}
        self._stopped = False
        self._margin = Margin(root)
        self.freed_memory = FreedMemory(clock, executor)
        self.filed_messages = 0
        self.lease = LeaseWatch(clock, root, self._close_all)
        directory.on_change(watcher, self._directory_changed)

    # -- logging in ------------------------------------------------------------------------------

    async def login(
        self, name: bytes, secret: bytes, protocol: AccessProtocol, origin: Origin = NOWHERE
    ) -> Account:
        """Open an account for one session by a password, app password or recovery key.

        ``origin`` is where the attempt comes from; logins of different sites take turns.

        Raises:
            AuthenticationFailed: refused, for whatever reason. TooManyLogins: may be tried again. StoreError:
            the account is right but cannot be opened now.
        """
        return await self._session(await self._unlocker.unlock(name, secret, protocol, origin))

    async def prove(
        self, name: bytes, secret: bytes, protocol: AccessProtocol, origin: Origin = NOWHERE
    ) -> str:
        """As ``login``, but nothing is opened: the name of the account that the secret is right for."""
        return await self._unlocker.prove(name, secret, protocol, origin)

    async def scram_setup(self, name: bytes) -> ScramSetup:
        """Salt and iterations for a SCRAM client; made up, but stable, for an unknown name."""
        return await self._unlocker.scram_setup(name)

    async def login_scram(
        self, name: bytes, exchange: ScramExchange, protocol: AccessProtocol
    ) -> tuple[Account, bytes]:
        """Open an account for one session by SCRAM with an app password; also gives the ServerSignature.

        Raises as ``login`` does, but for TooManyLogins.
        """
        unlocked, signature = await self._unlocker.unlock_by_scram(name, exchange, protocol)
        return await self._session(unlocked), signature

    async def largest_pop3_login_delay_s(self) -> int:
        """The longest delay between POP3 logins that any account has of its own; 0 when none has."""
        return await self.executor.call(self._directory.largest_pop3_login_delay_s)

    async def _session(self, unlocked: Unlocked) -> Account:
        try:
            opened = await self._opened(unlocked)
        except BaseException:
            unlocked.wipe()
            raise
        # No await between the two: from here on this session keeps the account open, and its grace period
        # starts again when the session ends, even if the login is never completed.
        account = Account(self, opened, unlocked)
        try:
            if unlocked.protocol is AccessProtocol.POP3:
                # A maildrop is fixed when the session begins; waiting mail belongs to it.
                await opened.filed(self.limits.maildrop_filing_wait_s)
            # While this login was running its keyslot may have been revoked, or the account disabled. From
            # here on the session is notified of that; what happened before shows in this check.
            await self.recheck(unlocked)
        except BaseException:
            account.release()
            raise
        return account

    async def _opened(self, unlocked: Unlocked) -> OpenAccount:
        """The open account, opened at most once however many sessions log in at the same time."""
        account_id = unlocked.account_id
        while True:
            if self._stopped:
                raise AccountClosed("the server is shutting down")
            found = self._open.get(account_id)
            if found is not None and found.closing is None:
                if await found.wake():
                    return found
                continue
            waiting = found.closing if found is not None else self._opening.get(account_id)
            if waiting is None:
                return await self._open_database(unlocked)
            turn: Deferred[None] = Deferred()
            waiting.addBoth(_pass_on, turn)
            await turn

    async def _open_database(self, unlocked: Unlocked) -> OpenAccount:
        account_id = unlocked.account_id
        gate: Deferred[None] = Deferred()
        self._opening[account_id] = gate
        opened = OpenAccount(self, account_paths(self._root, account_id), unlocked.share())
        try:
            await opened.open()
        except BaseException:
            await opened.close()
            raise
        else:
            self._open[account_id] = opened
            return opened
        finally:
            del self._opening[account_id]
            gate.callback(None)

    @property
    def open_accounts(self) -> int:
        """How many accounts are open, asleep or awake."""
        return len(self._open)

    @property
    def awake_accounts(self) -> int:
        """How many of them have their databases open."""
        return sum(opened.is_awake for opened in self._open.values())

    def released(self, opened: OpenAccount, account: Account, grace_s: float) -> None:
        """A session is over; the account closes after ``grace_s`` seconds if it was the last."""
        opened.keyslots.sessions.discard(account)
        if not opened.keyslots.sessions:
            opened.close_after(grace_s)

    def forget(self, opened: OpenAccount) -> None:
        """An account has closed; the next login opens it afresh."""
        if self._open.get(opened.account_id) is opened:
            del self._open[opened.account_id]

    def _directory_changed(self) -> None:
        """Somebody may have been disabled or deleted."""
        for opened in tuple(self._open.values()):
            opened.keyslots.check_soon()

    async def stop(self) -> None:
        """Close every account; sessions hear of it through ``on_closed``."""
        self._stopped = True
        self.lease.stop()
        await self._close_all()
        self.watcher.stop()

    def _close_all(self) -> Deferred[Any]:
        return gatherResults([opened.close() for opened in tuple(self._open.values())])

    def require_here(self, account_id: AccountId) -> None:
        """In a thread: raises OnAnotherNode, LeaseOver, NoSuchAccount."""
        require_here(self._root, self._record(account_id))

    def _record(self, account_id: AccountId) -> AccountRecord:
        record = self._directory.account(account_id)
        if record is None:
            raise NoSuchAccount("no such account")
        return record

    async def recheck(self, unlocked: Unlocked) -> None:
        """Whether a running session may go on; see ``Unlocker.recheck``."""
        await self._unlocker.recheck(unlocked)

    # -- delivery --------------------------------------------------------------------------------

    async def recipient(self, address: bytes, size_bytes: int | None) -> Recipient | None:
        """Who gets mail for an address, None when nobody does. Raises LeaseOver.

        Raises MessageTooLarge, OverQuota: not a message of this size. Never with None, nor if disabled or of
        another node.
        """
        return await self.executor.call(self._recipient, address, size_bytes)

    def _recipient(self, address: bytes, size_bytes: int | None) -> Recipient | None:
        recipient = self._directory.resolve(address)
        if recipient is None or recipient.disabled:
            return recipient
        if not is_here(self._root, recipient):
            return replace(recipient, elsewhere=True)
        if size_bytes is not None:
            self._check_space(recipient, size_bytes)
        return recipient

    def _check_space(self, recipient: Recipient, size_bytes: int, waiting: int | None = None) -> None:
        """Measured without the key; ``waiting`` as for ``used_bytes``."""
        if size_bytes > self.limits.max_message_bytes:
            raise MessageTooLarge("the message is too large")
        paths = account_paths(self._root, recipient.account_id)
        limit = recipient.limit_bytes(self.limits.quota_bytes)
        if limit is not None and used_bytes(paths, waiting) + size_bytes > limit:
            raise OverQuota("the storage limit is reached")

    async def node_address(self, name: str) -> str | None:
        """HOST:PORT where a node takes mail from others, None if it is not known. Raises StoreError."""
        nodes = await self.executor.call(self._directory.nodes)
        return next((node.address for node in nodes if node.name == name), None)

    async def deliver(self, recipient: Recipient, message: bytes, facts: Facts) -> None:
        """As ``deliver_sealed``, with what the account may hold. Raises MessageTooLarge, OverQuota, too."""
        await self.executor.call(self._deliver, recipient, message, facts)
        # A process that was stopped meanwhile may come here when another node has the account already.
        self.lease.require()

    def _deliver(self, recipient: Recipient, message: bytes, facts: Facts) -> None:
        self._check_space(recipient, len(message))
        room = partial(self.room_for, recipient.account_id)
        # Once more when nobody else can add anything: other deliveries may have been let in meanwhile.
        admit = partial(self._check_space, recipient, len(message))
        deliver_sealed(self._root, self._directory, recipient, message, facts, room, admit)

    def room_for(self, account_id: AccountId, new_bytes: int) -> AbstractContextManager[None]:
        """A context for writing new mail, entered in a thread: it checks the free space. Raises StorageFull,
        StorageFailed."""
        return self._margin.kept(account_id, self.limits.min_free_bytes, new_bytes)

    async def quota_limit(self, account_id: AccountId) -> int | None:
        """The account's storage limit in bytes; None means unlimited. Raises NoSuchAccount."""
        return await self.executor.call(self.read_quota_limit, account_id)

    def read_quota_limit(self, account_id: AccountId) -> int | None:
        """As ``quota_limit``, in a thread."""
        return self._record(account_id).limit_bytes(self.limits.quota_bytes)


def _pass_on(result: Any, turn: Deferred[None]) -> Any:
    turn.callback(None)
    return result


class Account:
    """An account as one session sees it. Several sessions share one open database."""

    def __init__(self, store: MailStore, opened: OpenAccount, unlocked: Unlocked) -> None:
        self._store = store
        self._opened = opened
        self.account_id = unlocked.account_id
        self.name = unlocked.record.name
        self.scope: Scope = unlocked.scope
        self.unlocked = unlocked
        self._on_closed: Callable[[], None] | None = None
        self._ends: set[Callable[[], None]] = set()
        self._over = False
        self._closed = False
        opened.add_session(self)

    @property
    def read_only(self) -> bool:
        """The keyslot allows reading only."""
        return self.scope.read_only

    @property
    def pop3(self) -> Pop3Settings:
        """How the account uses POP3, as it was when the session logged in."""
        return self.unlocked.record.pop3

    async def may_log_in_by_pop3(self, delay_s: int) -> bool:
        """Whether ``delay_s`` seconds have passed since the last POP3 login; if so this one is the last.

        Raises Busy, StorageFailed.
        """
        folder = self._opened.paths.folder
        try:
            return await self._store.executor.call(may_log_in, folder, delay_s, time.time())
        except StorageFull:
            return True  # mail can be read even when the disk is full

    def release(self) -> None:
        """The session is over; calling it again does nothing."""
        self._release(self._store.limits.close_grace_s)

    def release_at_once(self) -> None:
        """As ``release``, without the grace: the key is forgotten as soon as no other session needs it."""
        self._release(0.0)

    def _release(self, grace_s: float) -> None:
        if not self._over:
            self._over = True
            for end in tuple(self._ends):
                end()
            self.unlocked.wipe()
            self._store.released(self._opened, self, grace_s)

    def on_closed(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` when the account closes under the session (revoked, deleted, shutdown).

        At once if it has closed already: a login takes a while after the account is open.
        """
        self._on_closed = callback
        if self._closed:
            self.closed_by_store()

    def closed_by_store(self) -> None:
        """See ``on_closed``; called by the open account."""
        self._closed = True
        callback, self._on_closed = self._on_closed, None
        if callback is not None and not self._over:
            callback()

    def _writable(self) -> None:
        if self.read_only:
            raise ReadOnly("this keyslot allows reading only")

    async def list_mailboxes(self) -> MailboxList:
        """All mailboxes and subscriptions."""
        return await self._opened.read(mailboxes.list_mailboxes)

    async def status(self, name: MailboxName) -> MailboxStatus:
        """Counters of one mailbox. Raises NoSuchMailbox."""
        return await self._opened.read_filed(mailboxes.status, name)

    async def statuses(self, names: Sequence[MailboxName]) -> dict[MailboxName, MailboxStatus]:
        """Counters of those mailboxes that exist, in one transaction."""
        return await self._opened.read_filed(mailboxes.statuses, names)

    async def create(self, name: MailboxName, special_use: SpecialUse | None = None) -> MailboxStatus:
        """Create a mailbox. Raises MailboxExists, MailboxNameInvalid, SpecialUseTaken, LimitExceeded."""
        self._writable()
        return await self._opened.write(mailboxes.create, name, special_use, self._store.limits.max_mailboxes)

    async def delete(self, name: MailboxName) -> None:
        """Delete a mailbox. Raises NoSuchMailbox, MailboxHasChildren, MailboxNameInvalid."""
        self._writable()
        await self._opened.write(mailboxes.delete, name)

    async def rename(self, old: MailboxName, new: MailboxName) -> None:
        """Rename a mailbox with its inferiors. Raises NoSuchMailbox, MailboxExists, MailboxNameInvalid."""
        self._writable()
        await self._opened.write(mailboxes.rename, old, new, self._store.limits.max_mailboxes)

    async def subscribe(self, name: MailboxName) -> None:
        """Subscribe to a name. Raises MailboxNameInvalid, LimitExceeded."""
        self._writable()
        await self._opened.write(mailboxes.subscribe, name, self._store.limits.max_subscriptions)

    async def unsubscribe(self, name: MailboxName) -> None:
        """Take a name out of the subscriptions."""
        self._writable()
        await self._opened.write(mailboxes.unsubscribe, name)

    async def select(self, name: MailboxName, read_only: bool) -> Mailbox:
        """Open a mailbox for this session. Raises NoSuchMailbox."""
        read_only = read_only or self.read_only
        opened = await select(self._opened, name, read_only)
        return Mailbox(self._opened, opened, self._limits, self._writable)

    async def _limits(self) -> QuotaLimits:
        max_bytes = await self._store.quota_limit(self.account_id)
        return QuotaLimits(max_bytes, self._store.limits.max_messages)

    async def append(self, name: MailboxName, new: Sequence[NewMessage]) -> AppendResult:
        """Append messages to a mailbox, all or none (RFC 3502).

        Raises NoSuchMailbox, OverQuota, MessageTooLarge, LimitExceeded, ReadOnly, StorageFull: none was.
        """
        self._writable()
        if any(len(one.data) > self._store.limits.max_message_bytes for one in new):
            raise MessageTooLarge("the message is too large")
        max_bytes, prepared = await self._store.executor.call(self._prepare, new)
        limits = QuotaLimits(max_bytes, self._store.limits.max_messages)
        now = int(time.time())
        filed = [
            ReadyMessage(done, one.flags, now if one.internal_date is None else one.internal_date)
            for done, one in zip(prepared, new, strict=True)
        ]
        return await self._opened.write(by_name.append, name, filed, limits)

    def _prepare(self, new: Sequence[NewMessage]) -> tuple[int | None, list[PreparedMessage]]:
        max_bytes = self._store.read_quota_limit(self.account_id)
        # Once in the database's WAL, and from the next checkpoint on also in its main file.
        with self._store.room_for(self.account_id, 2 * sum(len(one.data) for one in new)):
            return max_bytes, [prepare(one.data, self._store.mime_limits) for one in new]

    async def read_section(
        self, name: MailboxName, uid_validity: UidValidity, uid: Uid, section: SectionRead
    ) -> bytes | None:
        """A section of a message in any mailbox, None when there is no such thing. Raises NoSuchMailbox."""
        return await self._opened.read(by_name.read_section, name, uid_validity, uid, section)

    async def annotations(self, name: MailboxName | None) -> dict[str, bytes]:
        """Annotations of a mailbox, or with None of the account (RFC 5464). Raises NoSuchMailbox."""
        return await self._opened.read(by_name.annotations, name)

    async def annotations_of(
        self, names: Sequence[MailboxName], entries: Sequence[str], max_bytes: int
    ) -> dict[str, dict[str, bytes]]:
        """Some entries of as many mailboxes, in order, as fit in ``max_bytes``, one at least (RFC 9590)."""
        return await self._opened.read(metadata.get_some, names, entries, max_bytes)

    async def annotate(self, name: MailboxName | None, values: Mapping[str, bytes | None]) -> dict[str, int]:
        """Set or remove annotations, all or none; gives the versions of those that are set.

        Raises NoSuchMailbox, LimitExceeded, OverQuota, ReadOnly.
        """
        self._writable()
        quota_bytes, limits = (await self._limits()).max_bytes, self._store.limits
        within = AnnotationLimits(limits.max_annotations, limits.max_annotation_bytes, quota_bytes)
        return await self._opened.write(by_name.annotate, name, values, within)

    async def search_in(self, name: MailboxName, key: criteria.Key) -> tuple[UidValidity, SearchResult]:
        """Search a mailbox that is not selected (MULTISEARCH, RFC 7377). Raises NoSuchMailbox."""
        return await self._opened.search(key, search.run_in, name, key)

    async def overview(self, annotations_since: int | None) -> Overview:
        """The whole account at this moment; see ``Overview``. Annotations are left out with None."""
        return await self._opened.read(overview, annotations_since)

    def listen(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call ``callback`` soon after anything in the account changed; calling the result ends that."""

        def heard() -> None:
            callback()

        def end() -> None:
            self._opened.ignore(heard)
            self._ends.discard(end)

        self._ends.add(end)
        self._opened.listen(heard, None)
        return end

    async def quota(self) -> Quota:
        """Use and limits of the account."""
        return await self._opened.read(quota.quota, await self._limits())
