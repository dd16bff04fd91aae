"""How IMAP words what a StoreError means (response codes: RFC 5530, RFC 9208, RFC 6154, RFC 7889)."""

from __future__ import annotations

from mailstore.errors import StoreError
from protocols.errors import Meaning, meaning_of
from protocols.imap.grammar.refusal import IMPOSSIBLE_NAME, Disallowed, Refused

LOGIN_FAILED = b"authentication failed"

_WORDS: dict[Meaning, tuple[bytes, bytes]] = {
    Meaning.LOGIN_FAILED: (LOGIN_FAILED, b"AUTHENTICATIONFAILED"),
    Meaning.TRY_LATER: (b"try again later", b"UNAVAILABLE"),
    Meaning.IN_USE: (b"the account is in use, try again", b"INUSE"),
    Meaning.ALREADY_EXISTS: (b"the mailbox exists already", b"ALREADYEXISTS"),
    Meaning.NO_MAILBOX: (b"no such mailbox", b"NONEXISTENT"),
    Meaning.NO_MESSAGE: (b"a message was expunged meanwhile", b"EXPUNGEISSUED"),
    Meaning.BAD_NAME: IMPOSSIBLE_NAME,
    Meaning.OWN_INFERIOR: (b"a mailbox cannot be moved below itself", b"CANNOT"),
    Meaning.INBOX_STAYS: (b"INBOX cannot be deleted", b"CANNOT"),
    Meaning.HAS_CHILDREN: (b"the mailbox has children", b"HASCHILDREN"),
    Meaning.SPECIAL_USE: (b"special-use attribute not possible", b"USEATTR"),
    Meaning.READ_ONLY: (b"only reading is allowed", b"NOPERM"),
    Meaning.OVER_QUOTA: (b"the account has no room for that", b"OVERQUOTA"),
    Meaning.LIMIT: (b"server limit exceeded", b"LIMIT"),
    Meaning.TOO_LARGE: (b"the message is too large", b"TOOBIG"),
    Meaning.ENDED: (b"this session has been ended, please log in again", b"UNAVAILABLE"),
    Meaning.FAULT: (b"internal error", b"SERVERBUG"),
    Meaning.OPERATOR: (b"server problem; contact the administrator", b"CONTACTADMIN"),
}


def refusal_of(error: StoreError) -> Refused:
    """The tagged NO for a failure of the store."""
    text, code = _WORDS[meaning_of(error)]
    return Disallowed(text, code)


def incident_of(error: Exception, incident: str) -> Refused | None:
    """The tagged NO for an incident, with the id that the log has; None for other failures."""
    meaning = meaning_of(error) if isinstance(error, StoreError) else Meaning.FAULT
    if meaning not in (Meaning.FAULT, Meaning.OPERATOR):
        return None
    text, code = _WORDS[meaning]
    return Disallowed(b"%s (%s)" % (text, incident.encode("ascii")), code)
