"""What LMTP and SMTP answer: reply codes (RFC 5321 section 4.2) with enhanced status codes (RFC 3463).

Texts are fixed: a reply never repeats what the peer sent and never holds an exception's text.
"""

from __future__ import annotations

from dataclasses import dataclass

from mailstore.errors import NoSuchAccount, StorageFull, StoreError
from protocols.errors import Meaning, meaning_of


@dataclass(frozen=True, slots=True)
class Reply:
    """A single-line reply. ``status`` is empty where RFC 2034 wants none (greeting, 354)."""

    code: int
    status: bytes
    text: bytes

    @property
    def positive(self) -> bool:
        """2yz or 3yz."""
        return self.code < 400

    @property
    def wire(self) -> bytes:
        """The line with its CRLF."""
        status = self.status + b" " if self.status else b""
        return b"%d %s%s\r\n" % (self.code, status, self.text)


OK = Reply(250, b"2.0.0", b"OK")
SENDER_OK = Reply(250, b"2.1.0", b"sender OK")
RECIPIENT_OK = Reply(250, b"2.1.5", b"recipient OK")
CHUNK_OK = Reply(250, b"2.0.0", b"chunk received")
DELIVERED = Reply(250, b"2.0.0", b"delivered")
CANNOT_VERIFY = Reply(252, b"2.5.0", b"cannot verify, but will take the message and try")
START_TLS = Reply(220, b"2.0.0", b"start TLS now")
BYE = Reply(221, b"2.0.0", b"goodbye")
AUTHENTICATED = Reply(235, b"2.7.0", b"authentication succeeded")
SEND_DATA = Reply(354, b"", b"send the message, end with a dot on a line of its own")

SHUTTING_DOWN = Reply(421, b"4.3.2", b"shutting down")
TOO_MANY_CONNECTIONS = Reply(421, b"4.3.2", b"too many connections, try again later")
TOO_MANY_ERRORS = Reply(421, b"4.7.0", b"too many errors")
TIMED_OUT = Reply(421, b"4.4.2", b"timed out")
LOCAL_ERROR = Reply(451, b"4.3.0", b"local error, try again later")
ON_ANOTHER_NODE = Reply(451, b"4.3.0", b"the mailbox is on another server, try again later")
NODE_AWAY = Reply(451, b"4.3.0", b"the server of the mailbox does not answer, try again later")
CANNOT_CHECK_NOW = Reply(454, b"4.7.0", b"the password cannot be checked now, try again later")
NO_MEMORY_NOW = Reply(452, b"4.3.1", b"too much mail in transit, try again later")
DISK_FULL = Reply(452, b"4.3.1", b"no space, try again later")
MAILBOX_FULL = Reply(452, b"4.2.2", b"no room in the mailbox for that")
TOO_MANY_RECIPIENTS = Reply(452, b"4.5.3", b"too many recipients")

LINE_TOO_LONG = Reply(500, b"5.5.2", b"line too long")
LINE_NOT_CRLF = Reply(500, b"5.5.2", b"lines must end with CR LF and hold no other CR or LF")
UNKNOWN_COMMAND = Reply(500, b"5.5.1", b"unknown command")
SYNTAX = Reply(501, b"5.5.4", b"syntax error in arguments")
BAD_BDAT = Reply(501, b"5.5.4", b"syntax error in BDAT, closing")
CHUNK_TOO_LARGE = Reply(552, b"5.3.4", b"chunk too large, closing")
BAD_ADDRESS = Reply(501, b"5.1.3", b"syntax error in address")
BAD_SENDER = Reply(501, b"5.1.7", b"syntax error in address")
NOT_OFFERED = Reply(502, b"5.5.1", b"command not offered")
MAIL_FIRST = Reply(503, b"5.5.1", b"MAIL first")
NESTED_MAIL = Reply(503, b"5.5.1", b"a transaction is open already")
NO_RECIPIENTS = Reply(503, b"5.5.1", b"no valid recipients")
BDAT_BEGUN = Reply(503, b"5.5.1", b"the message was begun with BDAT")
CHUNK_AFTER_FAILURE = Reply(503, b"5.5.1", b"the message has failed already")
TLS_ALREADY = Reply(503, b"5.5.1", b"TLS is active already")
AUTH_TOO_LONG = Reply(500, b"5.5.6", b"the response is too long")
BAD_RESPONSE = Reply(501, b"5.5.2", b"this is no response of this mechanism")
AUTH_CANCELLED = Reply(501, b"5.7.0", b"authentication cancelled")
NOT_NOW = Reply(503, b"5.5.1", b"not during a transaction")
AUTH_ALREADY = Reply(503, b"5.5.1", b"you are authenticated already")
UNKNOWN_MECHANISM = Reply(504, b"5.5.4", b"this mechanism is not offered")
WRONG_CREDENTIALS = Reply(535, b"5.7.8", b"wrong name or password, or not one for sending mail")
NEEDS_TLS = Reply(538, b"5.7.11", b"not without TLS")
UNKNOWN_PARAMETER = Reply(555, b"5.5.4", b"unknown parameter")
UNKNOWN_BODY = Reply(501, b"5.5.4", b"BODY must be 7BIT or 8BITMIME")
NEEDS_SMTPUTF8 = Reply(553, b"5.6.7", b"address needs SMTPUTF8")

UNKNOWN_RECIPIENT = Reply(550, b"5.1.1", b"no such recipient")
DISABLED_RECIPIENT = Reply(550, b"5.2.1", b"mailbox disabled")
AMBIGUOUS_END = Reply(550, b"5.6.0", b"bare CR or LF around a line with a single dot")
MAIL_LOOP = Reply(554, b"5.4.6", b"too many Received fields: mail loop")
TOO_LARGE = Reply(552, b"5.3.4", b"message too large")

_BY_MEANING: dict[Meaning, Reply] = {
    Meaning.OVER_QUOTA: MAILBOX_FULL,
    Meaning.TOO_LARGE: TOO_LARGE,
    Meaning.ENDED: SHUTTING_DOWN,
}


def reply_for(error: StoreError) -> Reply:
    """The reply for a recipient whose delivery failed; permanent only where trying again cannot help."""
    match error:
        case NoSuchAccount():
            return UNKNOWN_RECIPIENT
        case StorageFull():
            return DISK_FULL
        case _:
            return _BY_MEANING.get(meaning_of(error), LOCAL_ERROR)
