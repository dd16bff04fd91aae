"""Mailbox names on the wire: modified UTF-7, or UTF-8 once the client has enabled it. Pure."""

from __future__ import annotations

from mailstore.model import MailboxName
from mailstore.modified_utf7 import decode, encode
from mailstore.names import mailbox_name


def mailbox_from_wire(wire: bytes, utf8: bool) -> MailboxName:
    """A mailbox name as the store has it: NFC, INBOX in capitals (RFC 3501 section 5.1).

    With UTF8=ACCEPT enabled names are UTF-8 (RFC 9755 section 3), else modified UTF-7.

    Raises:
        ValueError: the octets are neither.
    """
    return mailbox_name(wire.decode("utf-8") if utf8 else decode(wire))


def mailbox_to_wire(name: str, utf8: bool) -> bytes:
    """The inverse of ``mailbox_from_wire``, unquoted."""
    return name.encode("utf-8") if utf8 else encode(name)
