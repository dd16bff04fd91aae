"""What the protocols ask of the store, as types: ``mailstore.store`` fits, and so does the tests' double.

Methods raise ``mailstore.errors.StoreError`` only. ``since`` is the modseq up to which the caller
knows the mailbox; results bring everything that changed after it, seen in the same transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from mailstore.model import (
    NOWHERE,
    AccessProtocol,
    AppendResult,
    ContentRow,
    CopyResult,
    Delta,
    FetchPlan,
    FetchResult,
    Flags,
    MailboxList,
    MailboxName,
    MailboxStatus,
    MessageId,
    ModSeq,
    NewMessage,
    Opened,
    Origin,
    Overview,
    Pop3Settings,
    Progress,
    Quota,
    ScramExchange,
    ScramSetup,
    SearchResult,
    SectionRead,
    SortBy,
    SpecialUse,
    StoreMode,
    StoreResult,
    ThreadAlgorithm,
    Uid,
    UidValidity,
)
from mailstore.search import Key
from mailstore.threads import Threads
from mailstore.uidset import UidSet


class MailboxApi(Protocol):
    """A selected mailbox of one session."""

    @property
    def opened(self) -> Opened:
        """The mailbox at the moment it was selected."""

    def close(self) -> None:
        """Leave the mailbox."""

    def on_change(self, callback: Callable[[], None] | None) -> None:
        """Call ``callback`` when something may have changed; None ends that."""

    async def sync(self, since: ModSeq) -> Delta:
        """What changed; mail that was delivered before is filed first."""

    async def news(self, since: ModSeq) -> Delta:
        """What changed, as it is now, for callers that were told of a change."""

    def fresh(self, since: ModSeq) -> Delta | None:
        """What changed after ``since``, if it is known already; ``claim`` gives its ``\\Recent``.

        Only for whom ``on_change`` calls, at that moment; None where ``news`` has to look.
        """

    async def claim(self, found: Delta) -> UidSet:
        """Those new messages of ``found`` of which no other session has been told (``Delta.recent``)."""

    async def fetch(self, uids: Sequence[Uid], plan: FetchPlan, since: ModSeq) -> FetchResult:
        """Stored answers for a bounded batch."""

    async def content(
        self, uids: Sequence[Uid], sections: Sequence[SectionRead], max_bytes: int
    ) -> tuple[ContentRow, ...]:
        """Sections of as many messages as fit; empty when all are gone."""

    async def read_span(self, message_id: MessageId, offset: int, length: int) -> bytes:
        """Bytes of one message. Raises NoSuchMessage."""

    async def store_flags(
        self, uids: UidSet, mode: StoreMode, flags: Flags, unchanged_since: ModSeq | None, since: ModSeq
    ) -> StoreResult:
        """Change flags. Raises ReadOnly, LimitExceeded."""

    async def copy(self, uids: UidSet, destination: MailboxName, since: ModSeq) -> CopyResult:
        """Copy, all or none. Raises NoSuchMailbox, OverQuota."""

    async def move(self, uids: UidSet, destination: MailboxName, since: ModSeq) -> CopyResult:
        """Move, all or none. Raises NoSuchMailbox, ReadOnly."""

    async def replace(
        self, uid: Uid, destination: MailboxName, new: NewMessage, since: ModSeq
    ) -> tuple[AppendResult, Delta]:
        """Append one message and remove another, both or neither.

        Raises NoSuchMessage, NoSuchMailbox, ReadOnly, OverQuota.
        """

    async def expunge(self, uids: UidSet | None, since: ModSeq) -> Delta:
        """Remove what is flagged ``\\Deleted``. Raises ReadOnly."""

    async def search(self, key: Key, since: ModSeq, progress: Progress | None = None) -> SearchResult:
        """Messages that match. ``progress`` is kept up to date meanwhile."""

    async def sort(
        self, key: Key, order: Sequence[SortBy], since: ModSeq, progress: Progress | None = None
    ) -> SearchResult:
        """Messages that match, in the order asked for."""

    async def threads(
        self, key: Key, algorithm: ThreadAlgorithm, since: ModSeq, progress: Progress | None = None
    ) -> tuple[Threads, Delta]:
        """The threads of the messages that match."""


class AccountApi(Protocol):
    """An account as one session sees it."""

    name: str
    """The address it was opened with."""

    @property
    def account_id(self) -> str:
        """The account's name in the operator's log."""

    @property
    def read_only(self) -> bool:
        """The secret allows reading only."""

    @property
    def pop3(self) -> Pop3Settings:
        """How the account uses POP3."""

    async def may_log_in_by_pop3(self, delay_s: int) -> bool:
        """Whether ``delay_s`` seconds have passed since the last POP3 login; if so, this one is recorded."""

    def release(self) -> None:
        """The session is over."""

    def release_at_once(self) -> None:
        """As ``release``, and the key is forgotten as soon as no other session needs it."""

    def on_closed(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` when the session has to end (key revoked, account deleted, shutdown)."""

    async def list_mailboxes(self) -> MailboxList:
        """All mailboxes and subscriptions."""

    async def status(self, name: MailboxName) -> MailboxStatus:
        """Counters of one mailbox. Raises NoSuchMailbox."""

    async def statuses(self, names: Sequence[MailboxName]) -> dict[MailboxName, MailboxStatus]:
        """Counters of those that exist."""

    async def create(self, name: MailboxName, special_use: SpecialUse | None = None) -> MailboxStatus:
        """Create a mailbox and missing superiors. Raises MailboxExists, SpecialUseTaken, LimitExceeded."""

    async def delete(self, name: MailboxName) -> None:
        """Delete a mailbox. Raises NoSuchMailbox, MailboxHasChildren."""

    async def rename(self, old: MailboxName, new: MailboxName) -> None:
        """Rename a mailbox and its inferiors. Raises NoSuchMailbox, MailboxExists."""

    async def subscribe(self, name: MailboxName) -> None:
        """Subscribe to a name."""

    async def unsubscribe(self, name: MailboxName) -> None:
        """Take a name out of the subscriptions."""

    async def select(self, name: MailboxName, read_only: bool) -> MailboxApi:
        """Open a mailbox. Raises NoSuchMailbox."""

    async def append(self, name: MailboxName, messages: Sequence[NewMessage]) -> AppendResult:
        """Append, all or none. Raises NoSuchMailbox, OverQuota, MessageTooLarge."""

    async def read_section(
        self, name: MailboxName, uid_validity: UidValidity, uid: Uid, section: SectionRead
    ) -> bytes | None:
        """A section of a message in any mailbox, None when there is none. Raises NoSuchMailbox."""

    async def annotations(self, name: MailboxName | None) -> dict[str, bytes]:
        """Annotations of a mailbox, or with None of the account. Raises NoSuchMailbox."""

    async def annotations_of(
        self, names: Sequence[MailboxName], entries: Sequence[str], max_bytes: int
    ) -> dict[str, dict[str, bytes]]:
        """Some entries of as many mailboxes, in order, as fit in ``max_bytes``, one at least."""

    async def annotate(self, name: MailboxName | None, values: Mapping[str, bytes | None]) -> dict[str, int]:
        """Set or remove annotations, all or none; gives the versions of those that are set.

        Raises NoSuchMailbox, LimitExceeded, OverQuota, ReadOnly.
        """

    async def search_in(self, name: MailboxName, key: Key) -> tuple[UidValidity, SearchResult]:
        """Search a mailbox that is not selected. Raises NoSuchMailbox."""

    async def overview(self, annotations_since: int | None) -> Overview:
        """The whole account at this moment; annotations are left out with None."""

    def listen(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call ``callback`` soon after anything in the account changed; calling the result ends that."""

    async def quota(self) -> Quota:
        """Use and limits."""


class StoreApi(Protocol):
    """All accounts."""

    async def login(
        self, name: bytes, secret: bytes, protocol: AccessProtocol, origin: Origin = NOWHERE
    ) -> AccountApi:
        """Open an account for one session. Raises AuthenticationFailed, TooManyLogins.

        Logins of different sites take turns, those of trusted ones first.
        """

    async def prove(
        self, name: bytes, secret: bytes, protocol: AccessProtocol, origin: Origin = NOWHERE
    ) -> str:
        """As ``login``, but nothing is opened: the name of the account that the secret is right for."""

    async def scram_setup(self, name: bytes) -> ScramSetup:
        """Salt and iterations for a SCRAM client; made up, but stable, for an unknown name."""

    async def login_scram(
        self, name: bytes, exchange: ScramExchange, protocol: AccessProtocol
    ) -> tuple[AccountApi, bytes]:
        """As ``login``, by SCRAM with an app password; also gives the ServerSignature."""

    async def largest_pop3_login_delay_s(self) -> int:
        """The longest delay between POP3 logins that any account has of its own; 0 when none has."""
