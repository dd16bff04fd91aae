"""Arguments of the commands of ACL (RFC 4314 section 7). Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from mailstore.model import MailboxName
from protocols.imap.grammar.cursor import Cursor
from protocols.imap.grammar.refusal import Malformed


@dataclass(frozen=True, slots=True)
class MyRights:
    """MYRIGHTS (section 3.5)."""

    mailbox: MailboxName


@dataclass(frozen=True, slots=True)
class GetAcl:
    """GETACL (section 3.3)."""

    mailbox: MailboxName


@dataclass(frozen=True, slots=True)
class ListRights:
    """LISTRIGHTS (section 3.4)."""

    mailbox: MailboxName
    identifier: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class ChangeAcl:
    """SETACL (section 3.1) or DELETEACL (section 3.2): checked for syntax only, since both are refused."""

    mailbox: MailboxName


_RIGHTS = re.compile(rb"[+-]?[lrswipkxteacd]*\Z")


def _mailbox(cursor: Cursor) -> MailboxName:
    cursor.space()
    return cursor.mailbox()


def parse_my_rights(cursor: Cursor) -> MyRights:
    """``myrights`` behind its name."""
    mailbox = _mailbox(cursor)
    cursor.end()
    return MyRights(mailbox)


def parse_get_acl(cursor: Cursor) -> GetAcl:
    """``getacl`` behind its name."""
    mailbox = _mailbox(cursor)
    cursor.end()
    return GetAcl(mailbox)


def parse_list_rights(cursor: Cursor) -> ListRights:
    """``listrights`` behind its name."""
    mailbox = _mailbox(cursor)
    cursor.space()
    identifier = cursor.astring(b"identifier")
    cursor.end()
    return ListRights(mailbox, identifier)


def parse_set_acl(cursor: Cursor) -> ChangeAcl:
    """``setacl`` behind its name; rights that do not exist are BAD (section 3.1)."""
    mailbox = _mailbox(cursor)
    cursor.space()
    cursor.astring(b"identifier")
    cursor.space()
    rights = cursor.astring(b"rights")
    cursor.end()
    if not _RIGHTS.match(rights):
        raise Malformed(b"unknown right")
    return ChangeAcl(mailbox)


def parse_delete_acl(cursor: Cursor) -> ChangeAcl:
    """``deleteacl`` behind its name."""
    mailbox = _mailbox(cursor)
    cursor.space()
    cursor.astring(b"identifier")
    cursor.end()
    return ChangeAcl(mailbox)
