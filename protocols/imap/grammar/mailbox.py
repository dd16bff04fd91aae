"""Commands about mailboxes and quotas (RFC 3501 section 6.3, RFC 5258, RFC 9208). Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import TypeVar

from mailstore.model import MailboxName, SpecialUse
from protocols.imap.grammar.cursor import Cursor
from protocols.imap.grammar.metadata import metadata_entries
from protocols.imap.grammar.refusal import Disallowed, Malformed


@dataclass(frozen=True, slots=True)
class Create:
    """CREATE (section 6.3.3) with USE (RFC 6154 section 3)."""

    mailbox: MailboxName
    special_use: tuple[SpecialUse, ...] = ()


@dataclass(frozen=True, slots=True)
class Delete:
    """DELETE (section 6.3.4)."""

    mailbox: MailboxName


@dataclass(frozen=True, slots=True)
class Rename:
    """RENAME (section 6.3.5)."""

    old: MailboxName
    new: MailboxName


@dataclass(frozen=True, slots=True)
class Subscribe:
    """SUBSCRIBE (section 6.3.6)."""

    mailbox: MailboxName


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    """UNSUBSCRIBE (section 6.3.7)."""

    mailbox: MailboxName


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
class Status:
    """STATUS (section 6.3.10)."""

    mailbox: MailboxName
    items: tuple[StatusItem, ...]


@dataclass(frozen=True, slots=True)
class GetQuota:
    """GETQUOTA (RFC 9208 section 4.1.2)."""

    root: bytes


@dataclass(frozen=True, slots=True)
class GetQuotaRoot:
    """GETQUOTAROOT (RFC 9208 section 4.1.3)."""

    mailbox: MailboxName


@dataclass(frozen=True, slots=True)
class SetQuota:
    """SETQUOTA (RFC 9208 section 4.1.1)."""

    root: bytes


_SELECTION = {option.value: option for option in ListSelection}
_RETURN = {option.value: option for option in ListReturn}
_STATUS = {item.value: item for item in StatusItem}
_SPECIAL_USE = {use.value.upper().encode(): use for use in SpecialUse}
T = TypeVar("T")


def _known(cursor: Cursor, table: dict[bytes, T], what: bytes) -> T:
    found = table.get(cursor.word(what))
    if found is None:
        raise cursor.failure(b"known " + what)
    return found


def _status_items(cursor: Cursor) -> tuple[StatusItem, ...]:
    items = cursor.parenthesised(lambda: _known(cursor, _STATUS, b"status item"))
    return tuple(dict.fromkeys(items))


def parse_status(cursor: Cursor) -> Status:
    """``status`` behind its name (RFC 3501 section 6.3.10)."""
    cursor.space()
    mailbox = cursor.mailbox()
    cursor.space()
    items = _status_items(cursor)
    cursor.end()
    return Status(mailbox, items)


def parse_list(cursor: Cursor) -> List:
    """``list`` behind its name, basic or extended (RFC 5258 section 6)."""
    cursor.space()
    selection: frozenset[ListSelection] = frozenset()
    extended = False
    if cursor.peek() == b"(":
        extended = True
        options = cursor.parenthesised(
            lambda: _known(cursor, _SELECTION, b"selection option"), may_be_empty=True
        )
        selection = frozenset(options)
        cursor.space()
    reference = cursor.mailbox()
    cursor.space()
    if cursor.peek() == b"(":
        extended = True
        patterns = cursor.parenthesised(cursor.list_mailbox)
    else:
        patterns = (cursor.list_mailbox(),)
    texts = (reference + pattern for pattern in patterns)
    if sum(len(text) for text in texts if has_wildcard(text)) > cursor.limits.list_patterns_max_chars:
        raise Disallowed(b"too many patterns", b"LIMIT")
    returned: list[ListReturn] = []
    status: tuple[StatusItem, ...] = ()
    metadata: tuple[str, ...] = ()
    if cursor.more():
        extended = True
        if cursor.word(b"RETURN") != b"RETURN":
            raise cursor.failure(b"RETURN")
        cursor.space()
        for option in cursor.parenthesised(lambda: _return_option(cursor), may_be_empty=True):
            match option:
                case ListReturn():
                    returned.append(option)
                case ReturnStatus(items):
                    status = items
                case ReturnMetadata(entries):
                    metadata = entries
    cursor.end()
    # RFC 5258 section 3.1: RECURSIVEMATCH needs another option to apply to.
    if ListSelection.RECURSIVEMATCH in selection and not (
        selection & {ListSelection.SUBSCRIBED, ListSelection.SPECIAL_USE}
    ):
        raise Malformed(b"RECURSIVEMATCH needs another selection option")
    return List(reference, patterns, selection, frozenset(returned), status, extended, metadata)


@dataclass(frozen=True, slots=True)
class ReturnStatus:
    """The return option STATUS (RFC 5819 section 2)."""

    items: tuple[StatusItem, ...]


@dataclass(frozen=True, slots=True)
class ReturnMetadata:
    """The return option METADATA (RFC 9590 section 3)."""

    entries: tuple[str, ...]


def _return_option(cursor: Cursor) -> ListReturn | ReturnStatus | ReturnMetadata:
    if cursor.skip_word(b"STATUS"):
        cursor.space()
        return ReturnStatus(_status_items(cursor))
    if cursor.skip_word(b"METADATA"):
        cursor.space()
        return ReturnMetadata(metadata_entries(cursor))
    return _known(cursor, _RETURN, b"return option")


def parse_lsub(cursor: Cursor) -> Lsub:
    """``lsub`` behind its name (RFC 3501 section 6.3.9)."""
    cursor.space()
    reference = cursor.mailbox()
    cursor.space()
    pattern = cursor.list_mailbox()
    cursor.end()
    return Lsub(reference, pattern)


def _special_use(cursor: Cursor) -> SpecialUse:
    cursor.expect(b"\\", b"special-use attribute")
    use = _SPECIAL_USE.get(b"\\" + cursor.word(b"special-use attribute"))
    if use is None:
        # RFC 6154 section 3: an attribute the server does not support is USEATTR.
        raise Disallowed(b"special-use attribute not supported", b"USEATTR")
    return use


def parse_create(cursor: Cursor) -> Create:
    """``create`` behind its name; a trailing delimiter only announces children (section 6.3.3)."""
    cursor.space()
    mailbox = cursor.mailbox()
    uses: tuple[SpecialUse, ...] = ()
    if cursor.more():
        cursor.open()
        if cursor.word(b"parameter") != b"USE":
            raise cursor.failure(b"USE")
        cursor.space()
        uses = cursor.parenthesised(lambda: _special_use(cursor), may_be_empty=True)
        cursor.close()
    cursor.end()
    if len(mailbox) > 1:
        mailbox = MailboxName(mailbox.removesuffix("/"))
    return Create(mailbox, tuple(dict.fromkeys(uses)))


def parse_rename(cursor: Cursor) -> Rename:
    """``rename`` behind its name."""
    cursor.space()
    old = cursor.mailbox()
    cursor.space()
    new = cursor.mailbox()
    cursor.end()
    return Rename(old, new)


def one_mailbox(build: Callable[[MailboxName], T]) -> Callable[[Cursor], T]:
    """What parses a mailbox, the only argument, into the request that ``build`` makes of it."""

    def parse(cursor: Cursor) -> T:
        cursor.space()
        mailbox = cursor.mailbox()
        cursor.end()
        return build(mailbox)

    return parse


def parse_getquota(cursor: Cursor) -> GetQuota:
    """``getquota`` behind its name (RFC 9208 section 4.1.2)."""
    cursor.space()
    root = cursor.astring(b"quota root")
    cursor.end()
    return GetQuota(root)


def parse_setquota(cursor: Cursor) -> SetQuota:
    """``setquota`` behind its name.

    The limits are checked for syntax only, since clients cannot change quotas.
    """
    cursor.space()
    root = cursor.astring(b"quota root")
    cursor.space()

    def limit() -> None:
        cursor.atom(b"resource")
        cursor.space()
        cursor.number(b"limit", 2**63 - 1)

    cursor.parenthesised(limit, may_be_empty=True)
    cursor.end()
    return SetQuota(root)


def has_wildcard(text: str) -> bool:
    """Whether a pattern is more than a name."""
    return "*" in text or "%" in text
