"""The messages of APPEND (RFC 3501 section 6.3.11, RFC 3502 section 4, RFC 9755 section 4). Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from mailstore.model import Flags, MailboxName
from mailstore.uidset import SequenceSet
from protocols.imap.grammar.cursor import Cursor
from protocols.imap.grammar.refusal import Disallowed, Malformed


@dataclass(frozen=True, slots=True)
class Url:
    """A part of a message that is on the server already (CATENATE, RFC 4469 section 3)."""

    text: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class AppendMessage:
    """One message with its flags; ``internal_date`` is seconds since the epoch, None means now."""

    flags: Flags
    internal_date: int | None
    parts: tuple[bytes | Url, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Append:
    """APPEND of one message or, with MULTIAPPEND, of several: all or none (RFC 3502 section 3)."""

    mailbox: MailboxName
    messages: tuple[AppendMessage, ...]


@dataclass(frozen=True, slots=True)
class Replace:
    """REPLACE (RFC 8508): ``number`` is one message of the selected mailbox."""

    number: SequenceSet
    mailbox: MailboxName
    message: AppendMessage
    by_uid: bool = False


def parse_append(cursor: Cursor) -> Append:
    """``append`` behind its name: a mailbox and one message or more."""
    cursor.space()
    mailbox = cursor.mailbox()
    cursor.space()
    messages = [append_message(cursor)]
    while cursor.more():
        if len(messages) >= cursor.limits.append_messages_max:
            # RFC 9738 section 3.1: nothing is appended.
            raise Disallowed(b"too many messages in one command", b"MESSAGELIMIT %d" % len(messages))
        messages.append(append_message(cursor))
    cursor.end()
    return Append(mailbox, tuple(messages))


def append_target(cursor: Cursor) -> MailboxName | None:
    """The mailbox that an incomplete APPEND names behind its name; None if that is not complete yet.

    Raises:
        Disallowed: no mailbox can have the name.
    """
    try:
        cursor.space()
        mailbox = cursor.mailbox()
    except Malformed:
        return None
    cursor.require_possible_names()
    return mailbox


def append_message(cursor: Cursor) -> AppendMessage:
    """``append-message`` without its leading space: flags, date, data."""
    flags, internal_date = Flags(), None
    if cursor.peek() == b"(":
        flags = cursor.flag_list()
        cursor.space()
    if cursor.peek() == b'"':
        internal_date = cursor.date_time()
        cursor.space()
    if cursor.skip_word(b"CATENATE"):
        cursor.space()
        return AppendMessage(flags, internal_date, cursor.parenthesised(lambda: _part(cursor)))
    return AppendMessage(flags, internal_date, (_data(cursor),))


def _part(cursor: Cursor) -> bytes | Url:
    """``cat-part`` (RFC 4469 section 5; its UTF8 form: RFC 9755 section 4)."""
    if cursor.skip_word(b"URL"):
        cursor.space()
        text = cursor.astring(b"URL")
        if len(text) > cursor.limits.url_max_bytes:
            raise cursor.failure(b"shorter URL")
        return Url(text)
    if cursor.skip_word(b"TEXT"):
        cursor.space()
        return cursor.literal(b"text literal").data
    if cursor.utf8:
        return _data(cursor)
    raise cursor.failure(b"URL or TEXT")


def _data(cursor: Cursor) -> bytes:
    """The message. A NUL in it is kept: messages are stored byte for byte."""
    utf8 = cursor.skip_word(b"UTF8")
    if utf8:
        if not cursor.utf8:
            raise Malformed(b"UTF8 needs ENABLE UTF8=ACCEPT")
        cursor.space()
        cursor.open()
    literal = cursor.literal(b"message literal")
    # RFC 3516 section 4.4: the message may always be a literal8; RFC 9755 section 4: here it must.
    if utf8 and not literal.binary:
        raise cursor.failure(b"literal8")
    if utf8:
        cursor.close()
    return literal.data


def parse_replace(cursor: Cursor, by_uid: bool) -> Replace:
    """``replace`` behind its name (RFC 8508 section 3.2): one number or ``*``, never a set."""
    cursor.space()
    number = cursor.sequence_set()
    if len(number.ranges) != 1 or number.ranges[0][0] != number.ranges[0][1]:
        raise cursor.failure(b"one message")
    cursor.space()
    mailbox = cursor.mailbox()
    cursor.space()
    message = append_message(cursor)
    cursor.end()
    return Replace(number, mailbox, message, by_uid)
