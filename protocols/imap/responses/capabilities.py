"""What CAPABILITY says in each state. A transcript covers every name listed here."""

from __future__ import annotations

from protocols.imap.grammar.table import State
from protocols.limits import ImapLimits
from protocols.sasl import MECHANISMS
from protocols.scram import SCRAM, SCRAM_PLUS

_BEFORE_TLS = (b"IMAP4rev1", b"IMAP4rev2", b"STARTTLS", b"LOGINDISABLED", b"LITERAL-")
# Programs that ask only once (Python's imaplib) need to find here what they use after login.
_BEFORE_LOGIN = (b"IMAP4rev1", b"IMAP4rev2", b"LITERAL-", b"SASL-IR", b"ID", b"ENABLE", b"IDLE")
# An iOS 26 client fails on servers that do not repeat SASL-IR after login.
_LOGGED_IN = (
    b"IMAP4rev1",
    b"IMAP4rev2",
    b"LITERAL+",
    b"SASL-IR",
    b"ID",
    b"ENABLE",
    b"UNAUTHENTICATE",
    b"IDLE",
    b"INPROGRESS",
    b"NAMESPACE",
    b"UNSELECT",
    b"CHILDREN",
    b"UIDPLUS",
    b"UIDONLY",
    b"UIDBATCHES",
    b"MOVE",
    b"MULTIAPPEND",
    b"CATENATE",
    b"REPLACE",
    b"SPECIAL-USE",
    b"CREATE-SPECIAL-USE",
    b"LIST-EXTENDED",
    b"LIST-STATUS",
    b"STATUS=SIZE",
    b"CONDSTORE",
    b"QRESYNC",
    b"OBJECTID",
    b"SAVEDATE",
    b"PREVIEW",
    b"BINARY",
    b"ESEARCH",
    b"WITHIN",
    b"SEARCHRES",
    b"SORT",
    b"SORT=DISPLAY",
    b"ESORT",
    b"PARTIAL",
    b"SEARCH=FUZZY",
    b"MULTISEARCH",
    b"CONTEXT=SEARCH",
    b"CONTEXT=SORT",
    b"NOTIFY",
    b"THREAD=ORDEREDSUBJECT",
    b"THREAD=REFERENCES",
    b"THREAD=REFS",
    b"ACL",
    b"RIGHTS=kxte",
    b"LIST-MYRIGHTS",
    b"METADATA",
    b"LIST-METADATA",
    b"QUOTA",
    b"QUOTA=RES-STORAGE",
    b"QUOTA=RES-MESSAGE",
    b"UTF8=ACCEPT",
)


def _message_limit(limits: ImapLimits) -> tuple[bytes, ...]:
    """MESSAGELIMIT, or SAVELIMIT instead (RFC 9738 section 3)."""
    if limits.message_limit:
        return (b"MESSAGELIMIT=%d" % limits.message_limit,)
    return (b"SAVELIMIT=%d" % limits.save_limit,) if limits.save_limit else ()


def capabilities(
    state: State, limits: ImapLimits, compressed: bool, scram: bool = False, can_bind: bool = False
) -> bytes:
    """The capabilities, separated by spaces (RFC 3501 section 7.2.1).

    ``scram`` lists SCRAM; ``can_bind`` tells that SASL can be bound to this TLS connection (RFC 9266).
    """
    match state:
        case State.PLAINTEXT:
            names: tuple[bytes, ...] = _BEFORE_TLS
        case State.NOT_AUTHENTICATED:
            with_scram = (SCRAM, SCRAM_PLUS) if can_bind else (SCRAM,)
            mechanisms = (*MECHANISMS, *with_scram) if scram else MECHANISMS
            names = (*_BEFORE_LOGIN, *(b"AUTH=" + name for name in mechanisms))
        case _:
            names = (*_LOGGED_IN, *_message_limit(limits), b"APPENDLIMIT=%d" % limits.append_max_bytes)
            # RFC 4978 section 3: not while compression is active.
            if not compressed:
                names = (*names, b"COMPRESS=DEFLATE")
    return b" ".join(names)
