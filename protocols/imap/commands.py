"""The table of commands: how each is parsed, where it is legal, what it may cause. Pure.

``parse_command`` is the only way from a received command to a request.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum

from protocols.imap import requests as ask
from protocols.imap.append_grammar import parse_append, parse_replace
from protocols.imap.batch_grammar import parse_uid_batches
from protocols.imap.connection import UNTAGGED, CommandReceived
from protocols.imap.cursor import TAG, Cursor
from protocols.imap.fetch_grammar import parse_fetch, parse_store
from protocols.imap.mailbox_grammar import (
    parse_create,
    parse_list,
    parse_lsub,
    parse_rename,
    parse_status,
)
from protocols.imap.metadata_grammar import parse_get_metadata, parse_set_metadata
from protocols.imap.notify_grammar import parse_notify
from protocols.imap.query_grammar import (
    parse_cancel_update,
    parse_multisearch,
    parse_search,
    parse_sort,
    parse_thread,
)
from protocols.imap.refusal import Malformed, Refused
from protocols.imap.rights_grammar import (
    parse_delete_acl,
    parse_get_acl,
    parse_list_rights,
    parse_my_rights,
    parse_set_acl,
)
from protocols.imap.select_grammar import parse_selecting
from protocols.limits import ImapLimits

_BASE64 = re.compile(rb"[A-Za-z0-9+/]*+={0,2}(?= *\Z)")


class State(Enum):
    """The states of RFC 3501 section 3, the first one split by whether TLS is still missing."""

    PLAINTEXT = "before STARTTLS"
    NOT_AUTHENTICATED = "before login"
    AUTHENTICATED = "without a mailbox"
    SELECTED = "with a mailbox"


_ANY = frozenset(State)
_LOGGED_IN = frozenset({State.AUTHENTICATED, State.SELECTED})
_SELECTED = frozenset({State.SELECTED})
_BEFORE = frozenset({State.NOT_AUTHENTICATED})
_TLS = frozenset({State.NOT_AUTHENTICATED, State.AUTHENTICATED, State.SELECTED})


@dataclass(frozen=True, slots=True)
class CommandSpec:
    """One row of the table.

    ``uses_seqs``: the arguments are message sequence numbers, which must mean what the client last
    heard. ``may_expunge``: EXPUNGE may be sent while answering (RFC 3501 section 7.4.1). ``expunges``:
    it is sent even to a client that does not want to hear of changes, for it is the answer itself.
    """

    name: bytes
    parse: Callable[[Cursor], ask.Request]
    states: frozenset[State]
    uses_seqs: bool = False
    may_expunge: bool = True
    expunges: bool = False


@dataclass(frozen=True, slots=True)
class Parsed:
    """A command that can be executed. ``respelled`` is what the client wrote for names not in NFC."""

    tag: bytes
    spec: CommandSpec
    request: ask.Request
    respelled: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Unparsed:
    """A command that is answered at once; ``name`` is for the access log, empty when unknown."""

    tag: bytes
    name: bytes
    refusal: Refused


def _nothing(request: ask.Request) -> Callable[[Cursor], ask.Request]:
    def parse(cursor: Cursor) -> ask.Request:
        cursor.end()
        return request

    return parse


def _one_mailbox(build: Callable[[str], ask.Request]) -> Callable[[Cursor], ask.Request]:
    def parse(cursor: Cursor) -> ask.Request:
        cursor.space()
        mailbox = cursor.mailbox()
        cursor.end()
        return build(mailbox)

    return parse


def _parse_login(cursor: Cursor) -> ask.Login:
    cursor.space()
    name = cursor.astring(b"user name")
    cursor.space()
    secret = cursor.astring(b"password")
    cursor.end()
    return ask.Login(name, secret)


def _parse_authenticate(cursor: Cursor) -> ask.Authenticate:
    cursor.space()
    mechanism = cursor.atom(b"mechanism").upper()
    initial: bytes | None = None
    if cursor.more():
        # RFC 4959 section 3: "=" is an empty initial response.
        initial = cursor.token(_BASE64, b"initial response in base64")
        initial = b"" if initial == b"=" else initial
    cursor.end()
    return ask.Authenticate(mechanism, initial)


def _parse_id(cursor: Cursor) -> ask.Identify:
    """RFC 2971 section 4: at most 30 pairs, field names at most 30 octets, values at most 1024."""
    cursor.space()
    if cursor.peek() != b"(":
        if cursor.nstring(b"parameter list") is not None:
            raise cursor.failure(b"parameter list")
        cursor.end()
        return ask.Identify(None)

    def pair() -> tuple[bytes, bytes | None]:
        name = cursor.string(b"field name")
        cursor.space()
        return name.lower(), cursor.nstring(b"field value")

    pairs = cursor.parenthesised(pair, may_be_empty=True)
    cursor.end()
    largest = cursor.limits.id_value_max_bytes
    if len(pairs) > cursor.limits.id_fields_max or any(len(value or b"") > largest for _, value in pairs):
        raise Malformed(b"too many or too long ID fields")
    return ask.Identify(pairs)


def _parse_enable(cursor: Cursor) -> ask.Enable:
    cursor.space()
    names = [cursor.atom(b"capability").upper()]
    while cursor.more():
        if len(names) >= cursor.limits.list_items_max:
            raise cursor.failure(b"shorter list")
        names.append(cursor.atom(b"capability").upper())
    cursor.end()
    return ask.Enable(tuple(names))


def _parse_uid_expunge(cursor: Cursor) -> ask.Expunge:
    cursor.space()
    numbers = cursor.sequence_set()
    cursor.end()
    return ask.Expunge(numbers)


def _numbers_and_mailbox(
    build: Callable[..., ask.Copy | ask.Move], by_uid: bool
) -> Callable[[Cursor], ask.Request]:
    def parse(cursor: Cursor) -> ask.Request:
        cursor.space()
        numbers = cursor.sequence_set()
        cursor.space()
        mailbox = cursor.mailbox()
        cursor.end()
        return build(numbers, mailbox, by_uid)

    return parse


def _parse_getquota(cursor: Cursor) -> ask.GetQuota:
    cursor.space()
    root = cursor.astring(b"quota root")
    cursor.end()
    return ask.GetQuota(root)


def _parse_setquota(cursor: Cursor) -> ask.SetQuota:
    """The limits are checked for form only: nobody changes a quota here."""
    cursor.space()
    root = cursor.astring(b"quota root")
    cursor.space()

    def limit() -> None:
        cursor.atom(b"resource")
        cursor.space()
        cursor.number(b"limit", 2**63 - 1)

    cursor.parenthesised(limit, may_be_empty=True)
    cursor.end()
    return ask.SetQuota(root)


def _parse_compress(cursor: Cursor) -> ask.Compress:
    cursor.space()
    mechanism = cursor.atom(b"mechanism").upper()
    cursor.end()
    return ask.Compress(mechanism)


_SPECS = (
    CommandSpec(b"CAPABILITY", _nothing(ask.Capability()), _ANY),
    CommandSpec(b"NOOP", _nothing(ask.Noop()), _ANY),
    CommandSpec(b"LOGOUT", _nothing(ask.Logout()), _ANY),
    # The grammar of STARTTLS is legal everywhere; the session says why it cannot be repeated.
    CommandSpec(b"STARTTLS", _nothing(ask.StartTls()), frozenset({State.PLAINTEXT})),
    CommandSpec(b"AUTHENTICATE", _parse_authenticate, _BEFORE),
    CommandSpec(b"LOGIN", _parse_login, _BEFORE),
    CommandSpec(b"ID", _parse_id, _TLS),
    CommandSpec(b"UNAUTHENTICATE", _nothing(ask.Unauthenticate()), _LOGGED_IN),
    CommandSpec(b"ENABLE", _parse_enable, _LOGGED_IN),
    CommandSpec(b"SELECT", parse_selecting(read_only=False), _LOGGED_IN),
    CommandSpec(b"EXAMINE", parse_selecting(read_only=True), _LOGGED_IN),
    CommandSpec(b"CREATE", parse_create, _LOGGED_IN),
    CommandSpec(b"DELETE", _one_mailbox(ask.Delete), _LOGGED_IN),
    CommandSpec(b"RENAME", parse_rename, _LOGGED_IN),
    CommandSpec(b"SUBSCRIBE", _one_mailbox(ask.Subscribe), _LOGGED_IN),
    CommandSpec(b"UNSUBSCRIBE", _one_mailbox(ask.Unsubscribe), _LOGGED_IN),
    CommandSpec(b"LIST", parse_list, _LOGGED_IN),
    CommandSpec(b"LSUB", parse_lsub, _LOGGED_IN),
    CommandSpec(b"NAMESPACE", _nothing(ask.Namespace()), _LOGGED_IN),
    CommandSpec(b"STATUS", parse_status, _LOGGED_IN),
    CommandSpec(b"APPEND", parse_append, _LOGGED_IN),
    CommandSpec(b"GETQUOTA", _parse_getquota, _LOGGED_IN),
    CommandSpec(b"GETQUOTAROOT", _one_mailbox(ask.GetQuotaRoot), _LOGGED_IN),
    CommandSpec(b"SETQUOTA", _parse_setquota, _LOGGED_IN),
    CommandSpec(b"MYRIGHTS", parse_my_rights, _LOGGED_IN),
    CommandSpec(b"GETACL", parse_get_acl, _LOGGED_IN),
    CommandSpec(b"LISTRIGHTS", parse_list_rights, _LOGGED_IN),
    CommandSpec(b"SETACL", parse_set_acl, _LOGGED_IN),
    CommandSpec(b"DELETEACL", parse_delete_acl, _LOGGED_IN),
    CommandSpec(b"GETMETADATA", parse_get_metadata, _LOGGED_IN),
    CommandSpec(b"SETMETADATA", parse_set_metadata, _LOGGED_IN),
    CommandSpec(b"COMPRESS", _parse_compress, _LOGGED_IN),
    CommandSpec(b"NOTIFY", parse_notify, _LOGGED_IN),
    CommandSpec(b"IDLE", _nothing(ask.Idle()), _LOGGED_IN),
    CommandSpec(b"CHECK", _nothing(ask.Check()), _SELECTED),
    CommandSpec(b"CLOSE", _nothing(ask.Close()), _SELECTED),
    CommandSpec(b"UNSELECT", _nothing(ask.Unselect()), _SELECTED),
    CommandSpec(b"EXPUNGE", _nothing(ask.Expunge()), _SELECTED, expunges=True),
    CommandSpec(b"UID EXPUNGE", _parse_uid_expunge, _SELECTED, expunges=True),
    CommandSpec(b"SEARCH", lambda c: parse_search(c, False), _SELECTED, uses_seqs=True, may_expunge=False),
    CommandSpec(b"UID SEARCH", lambda c: parse_search(c, True), _SELECTED),
    CommandSpec(b"CANCELUPDATE", parse_cancel_update, _SELECTED),
    CommandSpec(b"ESEARCH", parse_multisearch, _LOGGED_IN),
    CommandSpec(b"SORT", lambda c: parse_sort(c, False), _SELECTED, uses_seqs=True, may_expunge=False),
    CommandSpec(b"UID SORT", lambda c: parse_sort(c, True), _SELECTED),
    CommandSpec(b"THREAD", lambda c: parse_thread(c, False), _SELECTED, uses_seqs=True, may_expunge=False),
    CommandSpec(b"UID THREAD", lambda c: parse_thread(c, True), _SELECTED),
    CommandSpec(b"FETCH", lambda c: parse_fetch(c, False), _SELECTED, uses_seqs=True, may_expunge=False),
    CommandSpec(b"UID FETCH", lambda c: parse_fetch(c, True), _SELECTED),
    CommandSpec(b"STORE", lambda c: parse_store(c, False), _SELECTED, uses_seqs=True, may_expunge=False),
    CommandSpec(b"UID STORE", lambda c: parse_store(c, True), _SELECTED),
    CommandSpec(b"UIDBATCHES", parse_uid_batches, _SELECTED),
    CommandSpec(b"COPY", _numbers_and_mailbox(ask.Copy, False), _SELECTED, uses_seqs=True),
    CommandSpec(b"UID COPY", _numbers_and_mailbox(ask.Copy, True), _SELECTED),
    CommandSpec(b"MOVE", _numbers_and_mailbox(ask.Move, False), _SELECTED, uses_seqs=True, expunges=True),
    CommandSpec(b"REPLACE", lambda c: parse_replace(c, False), _SELECTED, uses_seqs=True, expunges=True),
    CommandSpec(b"UID REPLACE", lambda c: parse_replace(c, True), _SELECTED, expunges=True),
    CommandSpec(b"UID MOVE", _numbers_and_mailbox(ask.Move, True), _SELECTED, expunges=True),
)

COMMANDS = {spec.name: spec for spec in _SPECS}


def parse_command(
    command: CommandReceived, limits: ImapLimits, utf8: bool, rev2: bool = False
) -> Parsed | Unparsed:
    """The request that ``command`` is, or how it is refused; never raises on any input.

    ``utf8`` tells whether UTF8=ACCEPT is enabled (RFC 9755 section 3), ``rev2`` whether IMAP4rev2 is.
    """
    cursor = Cursor(command.pieces, limits, utf8, rev2)
    tag, name = UNTAGGED, b""
    try:
        tag = _tag(cursor)
        cursor.space()
        name = cursor.word(b"command")
        if name == b"UID":
            cursor.space()
            name = b"UID " + cursor.word(b"command")
        spec = COMMANDS.get(name)
        if spec is None:
            name = b""
            raise Malformed(b"unknown command")
        return Parsed(tag, spec, spec.parse(cursor), cursor.respelled)
    except Refused as refusal:
        return Unparsed(tag, name if name in COMMANDS else b"", refusal)


_TAG_MAX_BYTES = 100


def _tag(cursor: Cursor) -> bytes:
    tag = cursor.token(TAG, b"tag")
    if len(tag) > _TAG_MAX_BYTES:
        raise Malformed(b"tag too long")
    return tag
