"""The values passed between packages: plain, frozen, without behaviour that needs a database."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, IntFlag, StrEnum
from typing import NamedTuple, NewType

from mailstore.mime.section import SectionSpec
from mailstore.uidset import UidSet

Uid = NewType("Uid", int)
ModSeq = NewType("ModSeq", int)
UidValidity = NewType("UidValidity", int)
MailboxId = NewType("MailboxId", int)
MessageId = NewType("MessageId", int)
"""Key of the shared message row; copies of a message have it in common. Not the Message-ID field."""

MailboxName = NewType("MailboxName", str)
"""A name as it is stored and compared; ``names.mailbox_name`` makes it of what somebody wrote."""

HIERARCHY_DELIMITER = "/"
INBOX = MailboxName("INBOX")


class AccessProtocol(StrEnum):
    """The protocol by which an account is accessed; the names are those of a keyslot's scope (FORMAT.md)."""

    IMAP = "imap"
    POP3 = "pop3"
    SMTP = "smtp"
    DAV = "dav"


class SystemFlag(IntFlag):
    """The system flags of RFC 3501 section 2.3.2 that are stored; ``\\Recent`` is the session's."""

    NONE = 0
    SEEN = 1
    ANSWERED = 2
    FLAGGED = 4
    DELETED = 8
    DRAFT = 16


@dataclass(frozen=True, slots=True)
class Flags:
    """System flags and keywords (``flag-keyword``, RFC 3501 section 9) of one message."""

    system: SystemFlag = SystemFlag.NONE
    keywords: tuple[str, ...] = ()


class StoreMode(Enum):
    """How STORE changes flags: ``FLAGS``, ``+FLAGS``, ``-FLAGS`` (RFC 3501 section 6.4.6)."""

    REPLACE = "replace"
    ADD = "add"
    REMOVE = "remove"


class SpecialUse(Enum):
    """Special-use attributes (RFC 6154 section 2), each held by at most one mailbox."""

    ALL = "\\All"
    ARCHIVE = "\\Archive"
    DRAFTS = "\\Drafts"
    FLAGGED = "\\Flagged"
    JUNK = "\\Junk"
    SENT = "\\Sent"
    TRASH = "\\Trash"


class MessageFlags(NamedTuple):
    """What changes about a message: the narrow row that FETCH FLAGS and notifications need.

    A tuple, because a mailbox has many: it is made five times as fast as a dataclass.
    """

    uid: Uid
    modseq: ModSeq
    flags: Flags


@dataclass(frozen=True, slots=True)
class Delta:
    """Everything that changed in one mailbox after a modification sequence.

    ``changed`` holds, in order of UID, every message that still exists and whose modseq is above
    ``since``: new messages are those with a UID above all the receiver knows. ``expunged`` may name
    UIDs the receiver never saw.
    """

    since: ModSeq
    highest: ModSeq
    uid_next: Uid
    changed: tuple[MessageFlags, ...] = ()
    expunged: UidSet = field(default_factory=UidSet)
    mailbox_gone: bool = False
    recent: UidSet = field(default_factory=UidSet)
    """New messages of which no other session has been told (``\\Recent``, RFC 3501 section 2.3.2)."""


@dataclass(frozen=True, slots=True)
class MailboxInfo:
    """One mailbox as LIST needs it. ``name`` is NFC text with ``/`` between levels."""

    mailbox_id: MailboxId
    name: MailboxName
    special_use: SpecialUse | None
    subscribed: bool
    has_children: bool
    object_id: str
    """MAILBOXID (RFC 8474): survives RENAME."""


@dataclass(frozen=True, slots=True)
class MailboxList:
    """All mailboxes in order of name, and subscriptions whose mailbox does not exist (any more)."""

    mailboxes: tuple[MailboxInfo, ...]
    orphan_subscriptions: tuple[MailboxName, ...]


@dataclass(frozen=True, slots=True)
class MailboxStatus:
    """Counters of one mailbox (STATUS, RFC 3501 section 6.3.10; SIZE, RFC 8438). Sizes in bytes."""

    mailbox_id: MailboxId
    messages: int
    recent: int
    unseen: int
    deleted: int
    size_bytes: int
    uid_next: Uid
    uid_validity: UidValidity
    highest_modseq: ModSeq
    object_id: str


class Counters(NamedTuple):
    """Counters stored beside a mailbox's messages, so reading them for a whole account is cheap."""

    messages: int
    unseen: int
    uid_next: Uid
    uid_validity: UidValidity
    highest_modseq: ModSeq


@dataclass(frozen=True, slots=True)
class Overview:
    """A whole account at one moment, without its messages (NOTIFY, RFC 5465).

    ``annotations`` holds a version for every entry, by mailbox and for the account itself (None). A
    version is never used twice. It is None when nothing changed since what the caller knows.
    """

    listed: MailboxList
    counters: Mapping[MailboxId, Counters]
    annotations_version: int
    annotations: Mapping[MailboxId | None, Mapping[str, int]] | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Opened:
    """A mailbox at the moment it was selected. ``uids`` is ascending; index + 1 is the sequence number.

    Sessions share ``uids``: nobody may change it.
    """

    mailbox_id: MailboxId
    name: MailboxName
    read_only: bool
    status: MailboxStatus
    uids: array[int]
    first_unseen: Uid | None
    keywords: tuple[str, ...]
    recent: UidSet
    """Messages this session is the first to see (``\\Recent``)."""


@dataclass(frozen=True, slots=True)
class SectionRead:
    """One section of a message to read, as ``BODY[section]<offset.length>`` asks; bytes, 0-based."""

    spec: SectionSpec
    offset: int | None = None
    length: int | None = None
    decoded: bool = False
    """Without the part's transfer encoding (BINARY, RFC 3516); only for ``SectionKind.WHOLE`` of a part."""


@dataclass(frozen=True, slots=True)
class FetchPlan:
    """What a FETCH needs from the store beside flags, size and internal date, which always come."""

    envelope: bool = False
    body: bool = False
    bodystructure: bool = False
    set_seen: bool = False
    changed_since: ModSeq | None = None
    preview: bool = False
    object_ids: bool = False
    flags_only: bool = False
    """Nothing but flags and modification sequences: ``FetchResult.flags`` instead of ``rows``."""
    sections: tuple[SectionRead, ...] = ()
    """Content that will be asked for next: as much of it as ``max_bytes`` allows may come along."""
    max_bytes: int = 0


class FetchRow(NamedTuple):
    """One message's stored answers. ``internal_date`` in seconds since the epoch, UTC.

    ``envelope``, ``body`` and ``bodystructure`` are ready to send; None when not asked for.
    """

    uid: Uid
    modseq: ModSeq
    flags: Flags
    size_bytes: int
    internal_date: int
    message_id: MessageId
    envelope: bytes | None = None
    body: bytes | None = None
    bodystructure: bytes | None = None
    preview: str | None = None
    email_id: str | None = None
    thread_id: str | None = None
    save_date: int | None = None
    """Seconds since the epoch when the message came into this mailbox (RFC 8514)."""


@dataclass(frozen=True, slots=True)
class FetchResult:
    """Rows in order of UID; asked-for UIDs that are missing were expunged meanwhile (or filtered)."""

    rows: tuple[FetchRow, ...]
    delta: Delta
    seen_now: UidSet = field(default_factory=UidSet)
    """Messages whose ``\\Seen`` this fetch has just set."""
    content: tuple[ContentRow, ...] = ()
    """What ``Mailbox.content`` would say next; empty where it has to be asked."""
    flags: tuple[MessageFlags, ...] = ()
    """The rows where the plan asks for flags only: clients ask that of whole mailboxes."""


class SectionData(NamedTuple):
    """The answer to one ``SectionRead``.

    ``total`` is the number of bytes that belong to the answer, None when the section does not exist.
    ``data`` is its beginning; when shorter than ``total`` the rest is read with
    ``Mailbox.read_span(message_id, next_offset, ...)``.
    """

    total: int | None
    data: bytes = b""
    next_offset: int = 0
    """Offset in the message of the first byte that ``data`` does not hold."""
    unknown_encoding: bool = False
    """Decoding was asked for, and the part's transfer encoding is not known (RFC 3516 section 4.3)."""


class ContentRow(NamedTuple):
    """Sections of one message, in the order asked for."""

    uid: Uid
    message_id: MessageId
    sections: tuple[SectionData, ...]


@dataclass(frozen=True, slots=True)
class StoreResult:
    """Outcome of STORE: the new state of what it named, and what UNCHANGEDSINCE refused (RFC 7162).

    ``written`` are the messages whose flags this very STORE changed, None when the store cannot say:
    only for these may a session keep quiet (.SILENT).
    """

    updated: tuple[MessageFlags, ...]
    modified: UidSet
    missing: UidSet
    delta: Delta
    written: UidSet | None = None


@dataclass(frozen=True, slots=True)
class CopyResult:
    """Outcome of COPY or MOVE for COPYUID (RFC 4315): pairs in the same order on both sides.

    ``delta`` is of the source mailbox, the expunges of a MOVE included.
    """

    uid_validity: UidValidity
    source: tuple[Uid, ...]
    destination: tuple[Uid, ...]
    delta: Delta


@dataclass(frozen=True, slots=True)
class NewMessage:
    """A message to append: bytes exactly as received, flags, internal date in epoch seconds."""

    data: bytes
    flags: Flags = field(default_factory=Flags)
    internal_date: int | None = None


@dataclass(frozen=True, slots=True)
class AppendResult:
    """Outcome of APPEND for APPENDUID (RFC 4315); UIDs in the order of the messages."""

    mailbox_id: MailboxId
    uid_validity: UidValidity
    uids: tuple[Uid, ...]


@dataclass(frozen=True, slots=True)
class Places:
    """Where messages stand among all: ``numbers`` count from 1. Sessions share it: nobody may change it."""

    among: array[int]
    numbers: array[int]


@dataclass(frozen=True, slots=True)
class SearchResult:
    """Matching UIDs in ascending order and the highest modseq among them (RFC 7162 section 3.1.5)."""

    uids: tuple[Uid, ...]
    highest_modseq: ModSeq | None
    delta: Delta
    places: Places | None = field(default=None, compare=False, repr=False)
    """Those of ``uids``, if they are known; ``among`` is what a session was given when it was selected."""


@dataclass(slots=True)
class Progress:
    """How far a search has come: so many of the messages that have to be read have been read.

    It is written in the search's thread and read in others. ``goal`` is 0 while that is not known.
    """

    done: int = 0
    goal: int = 0


class SortKey(Enum):
    """What SORT orders by (RFC 5256 section 3, RFC 5957)."""

    ARRIVAL = "arrival"
    CC = "cc"
    DATE = "date"
    FROM = "from"
    SIZE = "size"
    SUBJECT = "subject"
    TO = "to"
    DISPLAY_FROM = "displayfrom"
    DISPLAY_TO = "displayto"
    RELEVANCY = "relevancy"


@dataclass(frozen=True, slots=True)
class SortBy:
    """One sort criterion; ``reverse`` applies to this one only.

    ``ranked`` is for RELEVANCY: the most relevant messages, then the next; all others come last.
    """

    key: SortKey
    reverse: bool = False
    ranked: tuple[UidSet, ...] = ()


class ThreadRow(NamedTuple):
    """What threading needs of one message. Hashes stand for message ids; ``sent`` is epoch seconds.

    ``sent`` falls back to the internal date (RFC 5256 section 2.2); ``subject`` is the base subject. A tuple,
    because a hundred thousand of them are made at once.
    """

    uid: Uid
    sent: int
    subject: str
    is_reply: bool
    own: bytes | None
    references: tuple[bytes, ...]


class ThreadAlgorithm(Enum):
    """How THREAD finds conversations (RFC 5256 section 3); REFS is REFERENCES without subjects."""

    ORDEREDSUBJECT = "orderedsubject"
    REFERENCES = "references"
    REFS = "refs"


class ThreadNode(NamedTuple):
    """A message in a thread, None for one that is not there and holds others together.

    ``parent`` is the place of the node above in the same tuple, which is always earlier.
    """

    uid: Uid | None
    parent: int | None


@dataclass(frozen=True, slots=True)
class Quota:
    """Use and limits of an account: bytes and messages; None means unlimited."""

    used_bytes: int
    limit_bytes: int | None
    used_messages: int
    limit_messages: int | None


@dataclass(frozen=True, slots=True)
class QuotaLimits:
    """What an account may hold in all its mailboxes; None for no limit (RFC 9208 sections 5.1 and 5.2)."""

    max_bytes: int | None
    max_messages: int | None


@dataclass(frozen=True, slots=True)
class Pop3Settings:
    """How one account uses POP3.

    ``maildrop`` is the mailbox that RFC 1939 calls so. ``login_delay_s`` is the least time between two
    logins in seconds (RFC 2449 section 6.5), None for what the server says for everybody.
    """

    maildrop: MailboxName = field(default=INBOX, repr=False)
    retr_marks_seen: bool = False
    dele_to_trash: bool = False
    login_delay_s: int | None = None


@dataclass(frozen=True, slots=True)
class MaildropListing:
    """The messages of a POP3 maildrop (RFC 1939) by ascending UID, as it was when the session began.

    Arrays, because there may be a million: twelve octets for each.
    """

    uids: Sequence[int]
    sizes: Sequence[int]


@dataclass(frozen=True, slots=True)
class MaildropId:
    """What identifies one message of a maildrop for good, restores included; see ``ops.content``."""

    uid: Uid
    object_id: str
    save_date: int


SCRAM_ITERATIONS = 4096
"""RFC 7677 section 4 wants this at least; enough for 100 random bits."""


@dataclass(frozen=True, slots=True)
class ScramSetup:
    """What the server sends to any client of an account before the client has proved anything."""

    salt: bytes = field(repr=False)
    iterations: int = SCRAM_ITERATIONS


@dataclass(frozen=True, slots=True)
class ScramExchange:
    """The end of an exchange: AuthMessage and ClientProof as RFC 5802 section 3 defines them."""

    auth_message: bytes = field(repr=False)
    proof: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an attempt to log in comes from, for taking turns: an address, a network.

    ``trusted`` tells that the account has been opened from there before: such attempts go first.
    """

    site: str = ""
    trusted: bool = False


NOWHERE = Origin()
"""For commands, which no client has sent."""
