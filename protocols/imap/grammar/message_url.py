"""IMAP URLs that name a message or a part of one (RFC 5092), without URLAUTH. Pure.

Only messages of the own account can be named: by a path, by a UID of the selected mailbox, or by an
absolute URL whose user is the account's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import unquote_to_bytes

from mailstore.model import MailboxName, SectionRead, Uid, UidValidity
from mailstore.names import mailbox_name
from mailstore.uidset import MAX_NUMBER
from protocols.imap.grammar.cursor import Cursor
from protocols.imap.grammar.fetch import parse_section
from protocols.imap.grammar.refusal import Refused
from protocols.limits import ImapLimits

_ABSOLUTE = re.compile(rb"imap://(?:([^/@;]*)(?:;AUTH=[^/@;]+)?@)?[^/@;]+(?=/)", re.IGNORECASE)
_MESSAGE = re.compile(
    rb"(?:/([^;]*?)(?:;UIDVALIDITY=([1-9][0-9]{0,9}))?/)?;UID=([1-9][0-9]{0,9})"
    rb"(?:/;SECTION=([^;]+?))?(?:/;PARTIAL=([0-9]{1,10})(?:\.([1-9][0-9]{0,9}))?)?\Z",
    re.IGNORECASE,
)
_NOT_ECHOED = re.compile(rb"[^\x21-\x7e]|\]")


@dataclass(frozen=True, slots=True)
class MessageUrl:
    """What a URL names; ``mailbox`` None is the selected one, ``section`` says what of the message."""

    mailbox: MailboxName | None
    uid_validity: UidValidity | None
    uid: Uid
    section: SectionRead = field(repr=False)


def parse_url(text: bytes, account: str, limits: ImapLimits) -> MessageUrl | None:
    """The message that a URL names in the account called ``account``, None when it names none there."""
    absolute = _ABSOLUTE.match(text)
    if absolute is not None:
        # Without a user the URL could be about any account of any server (RFC 5092 section 3.2).
        user = unquote_to_bytes(absolute.group(1) or b"")
        if user.lower() != account.encode("utf-8").lower():
            return None
        text = text[absolute.end() :]
    matched = _MESSAGE.match(text)
    if matched is None or (absolute is not None and matched.group(1) is None):
        return None
    mailbox, validity, uid, section, offset, length = matched.groups()
    read = _section(section, offset, length, limits)
    if read is None or max(int(validity or 1), int(uid)) > MAX_NUMBER:
        return None
    try:
        name = None if mailbox is None else mailbox_name(unquote_to_bytes(mailbox).decode("utf-8"))
    except UnicodeDecodeError:
        return None
    return MessageUrl(name, UidValidity(int(validity)) if validity else None, Uid(int(uid)), read)


def _section(
    encoded: bytes | None, offset: bytes | None, length: bytes | None, limits: ImapLimits
) -> SectionRead | None:
    cursor = Cursor((unquote_to_bytes(encoded or b"") + b"]",), limits)
    try:
        spec = parse_section(cursor, peek=True).read.spec
    except Refused:
        return None
    if not cursor.at_end():
        return None
    start = int(offset or 0)
    return SectionRead(spec, start, int(length) if length else None) if offset else SectionRead(spec)


def echoed(text: bytes) -> bytes:
    """A URL as ``url-resp-text`` (RFC 4469 section 5, erratum 2002): no octet can end the code early."""
    return _NOT_ECHOED.sub(lambda matched: b"%%%02X" % matched.group()[0], text)
