"""Mailbox names: what the store accepts and how it normalises them. Pure.

A name is NFC text with ``/`` between levels. It is only ever a value in a table, never a path, so
``../x`` is as good a name as any other.
"""

from __future__ import annotations

import unicodedata

from mailstore.errors import MailboxNameInvalid
from mailstore.model import HIERARCHY_DELIMITER, INBOX, MailboxName

MAX_NAME_BYTES = 1000
"""Longest mailbox name in UTF-8 bytes."""

_CHARS_COMPOSED = 4
"""Most characters that NFC composes into one."""

MAX_DEPTH = 32
"""Most levels of hierarchy in a mailbox name."""


def mailbox_name(name: str) -> MailboxName:
    """The name as it is stored: NFC, with INBOX and its children in upper case at the first level.

    INBOX is case-insensitive (RFC 3501 section 5.1) in ASCII and nothing else: a dotless i, whose capital is
    I, makes another name. A name that would be too long even when composed is left alone: no mailbox has it,
    and ordering its combining marks would take quadratic time.
    """
    if len(name) <= _CHARS_COMPOSED * MAX_NAME_BYTES:
        name = unicodedata.normalize("NFC", name)
    first, delimiter, rest = name.partition(HIERARCHY_DELIMITER)
    if first.isascii() and first.upper() == INBOX:
        name = INBOX + delimiter + rest
    return MailboxName(name)


def for_creation(name: MailboxName) -> MailboxName:
    """The name of a mailbox that is to be created.

    A trailing delimiter only announces children (RFC 3501 section 6.3.3) and is dropped.

    Raises:
        MailboxNameInvalid: empty or oversized name, empty level, control or unpaired character.
    """
    if name.endswith(HIERARCHY_DELIMITER):
        name = MailboxName(name[:-1])
    if len(name) > MAX_NAME_BYTES:
        raise MailboxNameInvalid("the name is too long")
    levels = name.split(HIERARCHY_DELIMITER)
    if not all(levels) or len(levels) > MAX_DEPTH:
        raise MailboxNameInvalid("a level of the name is empty, or there are too many")
    if any(unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") for char in name):
        raise MailboxNameInvalid("the name contains a control character")
    if len(name.encode("utf-8")) > MAX_NAME_BYTES:
        raise MailboxNameInvalid("the name is too long")
    return name


def superiors(name: str) -> list[MailboxName]:
    """The names above ``name``, outermost first."""
    levels = name.split(HIERARCHY_DELIMITER)
    return [MailboxName(HIERARCHY_DELIMITER.join(levels[:depth])) for depth in range(1, len(levels))]
