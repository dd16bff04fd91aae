"""What a client can ask for: one frozen value per command, complete and checked by the grammar."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from mailstore.model import Flags, ModSeq, SpecialUse, StoreMode, UidValidity
from mailstore.uidset import SequenceSet, UidSet
from protocols.imap.append_requests import Append, Replace
from protocols.imap.fetch_items_grammar import FetchItem, FetchSection
from protocols.imap.metadata_requests import GetMetadata, SetMetadata
from protocols.imap.notify_requests import Notify
from protocols.imap.rights_requests import ChangeAcl, GetAcl, ListRights, MyRights
from protocols.imap.search_requests import CancelUpdate, MultiSearch, Page, RefusedSearch, Search, Thread


@dataclass(frozen=True, slots=True)
class Capability:
    """CAPABILITY (RFC 3501 section 6.1.1)."""


@dataclass(frozen=True, slots=True)
class Noop:
    """NOOP (section 6.1.2)."""


@dataclass(frozen=True, slots=True)
class Logout:
    """LOGOUT (section 6.1.3)."""


@dataclass(frozen=True, slots=True)
class StartTls:
    """STARTTLS (section 6.2.1)."""


@dataclass(frozen=True, slots=True)
class Authenticate:
    """AUTHENTICATE (section 6.2.2) with SASL-IR's initial response, still in base64 (RFC 4959)."""

    mechanism: bytes
    initial: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Unauthenticate:
    """UNAUTHENTICATE (RFC 8437)."""


@dataclass(frozen=True, slots=True)
class Login:
    """LOGIN (section 6.2.3)."""

    name: bytes = field(repr=False)
    secret: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Identify:
    """ID (RFC 2971); None stands for NIL. Field names are lower-case."""

    fields: tuple[tuple[bytes, bytes | None], ...] | None


@dataclass(frozen=True, slots=True)
class Enable:
    """ENABLE (RFC 5161); names in capitals."""

    names: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Resync:
    """What a client remembers of a mailbox (RFC 7162 section 3.2.5); UIDs None means all it could know."""

    uid_validity: UidValidity
    modseq: ModSeq
    known_uids: UidSet | None = None
    by_number: bool = False
    """Whether sequence numbers were given to match with UIDs."""


@dataclass(frozen=True, slots=True)
class Select:
    """SELECT (section 6.3.1) and EXAMINE (section 6.3.2), with the parameters of RFC 7162."""

    mailbox: str
    read_only: bool = False
    condstore: bool = False
    resync: Resync | None = None


@dataclass(frozen=True, slots=True)
class Create:
    """CREATE (section 6.3.3) with USE (RFC 6154 section 3)."""

    mailbox: str
    special_use: tuple[SpecialUse, ...] = ()


@dataclass(frozen=True, slots=True)
class Delete:
    """DELETE (section 6.3.4)."""

    mailbox: str


@dataclass(frozen=True, slots=True)
class Rename:
    """RENAME (section 6.3.5)."""

    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Subscribe:
    """SUBSCRIBE (section 6.3.6)."""

    mailbox: str


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    """UNSUBSCRIBE (section 6.3.7)."""

    mailbox: str


class ListSelection(Enum):
    """Selection options (RFC 5258 section 3.1, RFC 6154 section 5.1)."""

    SUBSCRIBED = b"SUBSCRIBED"
    REMOTE = b"REMOTE"
    RECURSIVEMATCH = b"RECURSIVEMATCH"
    SPECIAL_USE = b"SPECIAL-USE"


class ListReturn(Enum):
    """Return options (RFC 5258 section 3.2, RFC 6154 section 5.2, RFC 8440 section 3)."""

    SUBSCRIBED = b"SUBSCRIBED"
    CHILDREN = b"CHILDREN"
    SPECIAL_USE = b"SPECIAL-USE"
    MYRIGHTS = b"MYRIGHTS"


class StatusItem(Enum):
    """STATUS data items (section 6.3.10, RFCs 7162, 7889, 8438, 9208)."""

    MESSAGES = b"MESSAGES"
    RECENT = b"RECENT"
    UIDNEXT = b"UIDNEXT"
    UIDVALIDITY = b"UIDVALIDITY"
    UNSEEN = b"UNSEEN"
    SIZE = b"SIZE"
    HIGHESTMODSEQ = b"HIGHESTMODSEQ"
    APPENDLIMIT = b"APPENDLIMIT"
    DELETED = b"DELETED"
    DELETED_STORAGE = b"DELETED-STORAGE"
    MAILBOXID = b"MAILBOXID"


@dataclass(frozen=True, slots=True)
class List:
    """LIST (section 6.3.8), extended (RFC 5258) or not.

    ``status`` holds the items of LIST-STATUS (RFC 5819). ``extended`` tells the extended syntax:
    there an empty pattern is not the question for the delimiter (RFC 5258 section 3).
    ``metadata`` names the entries of LIST-METADATA (RFC 9590).
    """

    reference: str
    patterns: tuple[str, ...]
    selection: frozenset[ListSelection] = frozenset()
    returned: frozenset[ListReturn] = frozenset()
    status: tuple[StatusItem, ...] = ()
    extended: bool = False
    metadata: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Lsub:
    """LSUB (section 6.3.9)."""

    reference: str
    pattern: str


@dataclass(frozen=True, slots=True)
class Namespace:
    """NAMESPACE (RFC 2342)."""


@dataclass(frozen=True, slots=True)
class Status:
    """STATUS (section 6.3.10)."""

    mailbox: str
    items: tuple[StatusItem, ...]


@dataclass(frozen=True, slots=True)
class Check:
    """CHECK (section 6.4.1)."""


@dataclass(frozen=True, slots=True)
class Close:
    """CLOSE (section 6.4.2)."""


@dataclass(frozen=True, slots=True)
class Unselect:
    """UNSELECT (RFC 3691)."""


@dataclass(frozen=True, slots=True)
class Expunge:
    """EXPUNGE (section 6.4.3); with UIDs it is UID EXPUNGE (RFC 4315 section 2.1)."""

    uids: SequenceSet | None = None


@dataclass(frozen=True, slots=True)
class Fetch:
    """FETCH (section 6.4.5) with CHANGEDSINCE and VANISHED (RFC 7162 sections 3.1.4.1 and 3.2.6)."""

    numbers: SequenceSet
    items: tuple[FetchItem | FetchSection, ...]
    changed_since: ModSeq | None = None
    by_uid: bool = False
    vanished: bool = False
    page: Page | None = None
    """Which of the messages asked for are meant (RFC 9394 section 3.4)."""


@dataclass(frozen=True, slots=True)
class Store:
    """STORE (section 6.4.6) with UNCHANGEDSINCE (RFC 7162 section 3.1.3)."""

    numbers: SequenceSet
    mode: StoreMode
    flags: Flags
    silent: bool = False
    unchanged_since: ModSeq | None = None
    by_uid: bool = False


@dataclass(frozen=True, slots=True)
class UidBatches:
    """UIDBATCHES (RFC 10022): messages in a batch, and which batches; last None means all further ones."""

    size: int
    first: int = 1
    last: int | None = None


@dataclass(frozen=True, slots=True)
class Copy:
    """COPY (section 6.4.7)."""

    numbers: SequenceSet
    mailbox: str
    by_uid: bool = False


@dataclass(frozen=True, slots=True)
class Move:
    """MOVE (RFC 6851)."""

    numbers: SequenceSet
    mailbox: str
    by_uid: bool = False


@dataclass(frozen=True, slots=True)
class Idle:
    """IDLE (RFC 2177)."""


@dataclass(frozen=True, slots=True)
class GetQuota:
    """GETQUOTA (RFC 9208 section 4.1.2)."""

    root: bytes


@dataclass(frozen=True, slots=True)
class GetQuotaRoot:
    """GETQUOTAROOT (RFC 9208 section 4.1.3)."""

    mailbox: str


@dataclass(frozen=True, slots=True)
class SetQuota:
    """SETQUOTA (RFC 9208 section 4.1.1)."""

    root: bytes


@dataclass(frozen=True, slots=True)
class Compress:
    """COMPRESS (RFC 4978)."""

    mechanism: bytes


Request = (
    Capability
    | Noop
    | Logout
    | StartTls
    | Authenticate
    | Login
    | Unauthenticate
    | Identify
    | Enable
    | Select
    | Create
    | Delete
    | Rename
    | Subscribe
    | Unsubscribe
    | List
    | Lsub
    | Namespace
    | Status
    | Append
    | Check
    | Close
    | Unselect
    | Expunge
    | Search
    | RefusedSearch
    | MultiSearch
    | CancelUpdate
    | Thread
    | Fetch
    | Store
    | UidBatches
    | Copy
    | Move
    | Idle
    | GetQuota
    | GetQuotaRoot
    | SetQuota
    | Compress
    | MyRights
    | GetAcl
    | ListRights
    | ChangeAcl
    | Replace
    | GetMetadata
    | SetMetadata
    | Notify
)
