"""The table of commands: how each is parsed, where it is legal, what it may cause. Pure.

``parse_command`` is the only way from a received command to a request.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum

from mailstore.model import MailboxName
from protocols.imap.connection import UNTAGGED, CommandReceived
from protocols.imap.grammar import (
    append,
    fetch,
    mailbox,
    messages,
    metadata,
    notify,
    rights,
    search,
    select,
    session,
)
from protocols.imap.grammar.cursor import TAG, Cursor
from protocols.imap.grammar.refusal import Malformed, Refused
from protocols.limits import ImapLimits

Request = (
    session.Capability
    | session.Noop
    | session.Logout
    | session.StartTls
    | session.Authenticate
    | session.Login
    | session.Unauthenticate
    | session.Identify
    | session.Enable
    | select.Select
    | mailbox.Create
    | mailbox.Delete
    | mailbox.Rename
    | mailbox.Subscribe
    | mailbox.Unsubscribe
    | mailbox.List
    | mailbox.Lsub
    | session.Namespace
    | mailbox.Status
    | append.Append
    | session.Check
    | select.Close
    | select.Unselect
    | messages.Expunge
    | search.Search
    | search.RefusedSearch
    | search.MultiSearch
    | search.CancelUpdate
    | search.Thread
    | fetch.Fetch
    | messages.Store
    | messages.UidBatches
    | messages.Copy
    | messages.Move
    | session.Idle
    | mailbox.GetQuota
    | mailbox.GetQuotaRoot
    | mailbox.SetQuota
    | session.Compress
    | rights.MyRights
    | rights.GetAcl
    | rights.ListRights
    | rights.ChangeAcl
    | append.Replace
    | metadata.GetMetadata
    | metadata.SetMetadata
    | notify.Notify
)


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
    ``shows_progress``: the command may run for long and puts nothing but whole responses, so INPROGRESS may
    come in between (RFC 9585); FETCH may stand in the middle of a literal. ``destination`` reads where
    messages are to go, from a command that is still without them; if they cannot, it is refused before they
    are sent (RFC 3501 section 7.5).
    """

    name: bytes
    parse: Callable[[Cursor], Request]
    states: frozenset[State]
    uses_seqs: bool = False
    may_expunge: bool = True
    expunges: bool = False
    shows_progress: bool = False
    destination: Callable[[Cursor], MailboxName | None] | None = None


@dataclass(frozen=True, slots=True)
class Parsed:
    """A command that can be executed. ``respelled`` is what the client wrote for names not in NFC."""

    tag: bytes
    spec: CommandSpec
    request: Request
    respelled: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Unparsed:
    """A command that is answered at once; ``name`` is for the access log, empty when unknown."""

    tag: bytes
    name: bytes
    refusal: Refused


def _nothing(request: Request) -> Callable[[Cursor], Request]:
    def parse(cursor: Cursor) -> Request:
        cursor.end()
        return request

    return parse


def _by_number_and_uid(
    name: bytes,
    parse: Callable[[Cursor, bool], Request],
    may_expunge: bool = True,
    expunges: bool = False,
    shows_progress: bool = True,
) -> tuple[CommandSpec, CommandSpec]:
    """The row of a command, and that of its form with UID (RFC 3501 section 6.4.8).

    ``may_expunge`` is about the first: where messages go by UID, no number has to keep its meaning.
    """
    by_number = CommandSpec(
        name, lambda cursor: parse(cursor, False), _SELECTED, True, may_expunge, expunges, shows_progress
    )
    by_uid = CommandSpec(
        b"UID " + name, lambda cursor: parse(cursor, True), _SELECTED, False, True, expunges, shows_progress
    )
    return by_number, by_uid


_SPECS = (
    CommandSpec(b"CAPABILITY", _nothing(session.Capability()), _ANY),
    CommandSpec(b"NOOP", _nothing(session.Noop()), _ANY),
    CommandSpec(b"LOGOUT", _nothing(session.Logout()), _ANY),
    # The grammar of STARTTLS is legal everywhere; the session says why it cannot be repeated.
    CommandSpec(b"STARTTLS", _nothing(session.StartTls()), frozenset({State.PLAINTEXT})),
    CommandSpec(b"AUTHENTICATE", session.parse_authenticate, _BEFORE),
    CommandSpec(b"LOGIN", session.parse_login, _BEFORE),
    CommandSpec(b"ID", session.parse_id, _TLS),
    CommandSpec(b"UNAUTHENTICATE", _nothing(session.Unauthenticate()), _LOGGED_IN),
    CommandSpec(b"ENABLE", session.parse_enable, _LOGGED_IN),
    CommandSpec(b"SELECT", select.parse_selecting(read_only=False), _LOGGED_IN, shows_progress=True),
    CommandSpec(b"EXAMINE", select.parse_selecting(read_only=True), _LOGGED_IN, shows_progress=True),
    CommandSpec(b"CREATE", mailbox.parse_create, _LOGGED_IN),
    CommandSpec(b"DELETE", mailbox.one_mailbox(mailbox.Delete), _LOGGED_IN, shows_progress=True),
    CommandSpec(b"RENAME", mailbox.parse_rename, _LOGGED_IN, shows_progress=True),
    CommandSpec(b"SUBSCRIBE", mailbox.one_mailbox(mailbox.Subscribe), _LOGGED_IN),
    CommandSpec(b"UNSUBSCRIBE", mailbox.one_mailbox(mailbox.Unsubscribe), _LOGGED_IN),
    CommandSpec(b"LIST", mailbox.parse_list, _LOGGED_IN),
    CommandSpec(b"LSUB", mailbox.parse_lsub, _LOGGED_IN),
    CommandSpec(b"NAMESPACE", _nothing(session.Namespace()), _LOGGED_IN),
    CommandSpec(b"STATUS", mailbox.parse_status, _LOGGED_IN),
    CommandSpec(
        b"APPEND", append.parse_append, _LOGGED_IN, shows_progress=True, destination=append.append_target
    ),
    CommandSpec(b"GETQUOTA", mailbox.parse_getquota, _LOGGED_IN),
    CommandSpec(b"GETQUOTAROOT", mailbox.one_mailbox(mailbox.GetQuotaRoot), _LOGGED_IN),
    CommandSpec(b"SETQUOTA", mailbox.parse_setquota, _LOGGED_IN),
    CommandSpec(b"MYRIGHTS", rights.parse_my_rights, _LOGGED_IN),
    CommandSpec(b"GETACL", rights.parse_get_acl, _LOGGED_IN),
    CommandSpec(b"LISTRIGHTS", rights.parse_list_rights, _LOGGED_IN),
    CommandSpec(b"SETACL", rights.parse_set_acl, _LOGGED_IN),
    CommandSpec(b"DELETEACL", rights.parse_delete_acl, _LOGGED_IN),
    CommandSpec(b"GETMETADATA", metadata.parse_get_metadata, _LOGGED_IN),
    CommandSpec(b"SETMETADATA", metadata.parse_set_metadata, _LOGGED_IN),
    CommandSpec(b"COMPRESS", session.parse_compress, _LOGGED_IN),
    CommandSpec(b"NOTIFY", notify.parse_notify, _LOGGED_IN),
    CommandSpec(b"IDLE", _nothing(session.Idle()), _LOGGED_IN),
    CommandSpec(b"CHECK", _nothing(session.Check()), _SELECTED),
    CommandSpec(b"CLOSE", _nothing(select.Close()), _SELECTED, shows_progress=True),
    CommandSpec(b"UNSELECT", _nothing(select.Unselect()), _SELECTED),
    CommandSpec(b"EXPUNGE", _nothing(messages.Expunge()), _SELECTED, expunges=True, shows_progress=True),
    CommandSpec(b"UID EXPUNGE", messages.parse_uid_expunge, _SELECTED, expunges=True, shows_progress=True),
    *_by_number_and_uid(b"SEARCH", search.parse_search, may_expunge=False),
    CommandSpec(b"CANCELUPDATE", search.parse_cancel_update, _SELECTED),
    CommandSpec(b"ESEARCH", search.parse_multisearch, _LOGGED_IN),
    *_by_number_and_uid(b"SORT", search.parse_sort, may_expunge=False),
    *_by_number_and_uid(b"THREAD", search.parse_thread, may_expunge=False),
    *_by_number_and_uid(b"FETCH", fetch.parse_fetch, may_expunge=False, shows_progress=False),
    *_by_number_and_uid(b"STORE", messages.parse_store, may_expunge=False),
    CommandSpec(b"UIDBATCHES", messages.parse_uid_batches, _SELECTED),
    *_by_number_and_uid(b"COPY", messages.numbers_and_mailbox(messages.Copy)),
    *_by_number_and_uid(b"MOVE", messages.numbers_and_mailbox(messages.Move), expunges=True),
    *_by_number_and_uid(b"REPLACE", append.parse_replace, expunges=True),
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


def begun(cursor: Cursor) -> CommandSpec | None:
    """The row of a command that is not complete; None when it has none, or its name is not there yet."""
    try:
        cursor.token(TAG, b"tag")
        cursor.space()
        return COMMANDS.get(cursor.word(b"command"))
    except Malformed:
        return None


_TAG_MAX_BYTES = 100


def _tag(cursor: Cursor) -> bytes:
    tag = cursor.token(TAG, b"tag")
    if len(tag) > _TAG_MAX_BYTES:
        raise Malformed(b"tag too long")
    return tag
