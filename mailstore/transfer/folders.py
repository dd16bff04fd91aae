"""Which mailbox of an account a mailbox of another program becomes. Pure."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping

from mailstore.model import HIERARCHY_DELIMITER, INBOX, MailboxName, SpecialUse
from mailstore.names import for_creation, mailbox_name

_WELL_KNOWN: Mapping[str, SpecialUse] = {
    "sent": SpecialUse.SENT,
    "sent items": SpecialUse.SENT,
    "sent messages": SpecialUse.SENT,
    "sent mail": SpecialUse.SENT,
    "sent-mail": SpecialUse.SENT,
    "drafts": SpecialUse.DRAFTS,
    "draft": SpecialUse.DRAFTS,
    "trash": SpecialUse.TRASH,
    "deleted": SpecialUse.TRASH,
    "deleted items": SpecialUse.TRASH,
    "deleted messages": SpecialUse.TRASH,
    "bin": SpecialUse.TRASH,
    "junk": SpecialUse.JUNK,
    "junk e-mail": SpecialUse.JUNK,
    "junk email": SpecialUse.JUNK,
    "spam": SpecialUse.JUNK,
    "bulk mail": SpecialUse.JUNK,
    "archive": SpecialUse.ARCHIVE,
    "archives": SpecialUse.ARCHIVE,
}
"""Names, in lower case, that mailboxes with a special use have in programs and servers."""

_PREFIXES = ("inbox", "[gmail]", "[google mail]")
"""Levels below which servers keep everything but INBOX itself; nothing of the account is called so."""

_CONTROL = ("Cc", "Cs", "Zl", "Zp")


def special_use(levels: tuple[str, ...], told: SpecialUse | None) -> SpecialUse | None:
    """What the source says (RFC 6154), or what a name at the top or below a server's prefix is known for."""
    if told is not None:
        return told
    below = levels[1:] if len(levels) > 1 and levels[0].lower() in _PREFIXES else levels
    return _WELL_KNOWN.get(below[0].lower()) if len(below) == 1 else None


def levels_of(name: str) -> tuple[str, ...]:
    """The levels of a mailbox name as somebody wrote it."""
    return tuple(filter(None, name.split(HIERARCHY_DELIMITER)))


def destination(
    levels: tuple[str, ...], use: SpecialUse | None, uses: Mapping[SpecialUse, MailboxName]
) -> MailboxName:
    """The account's mailbox of that use, where it has one in ``uses``; else one of the same name.

    Characters that no name may have become ``_``.

    Raises:
        MailboxNameInvalid: the name is too long, or has too many levels.
    """
    if use is not None and use in uses:
        return uses[use]
    if levels == (INBOX,):
        return INBOX
    text = HIERARCHY_DELIMITER.join(filter(None, map(_usable, levels)))
    return for_creation(mailbox_name(text))


def _usable(level: str) -> str:
    clean = "".join("_" if unicodedata.category(one) in _CONTROL else one for one in level)
    return clean.replace(HIERARCHY_DELIMITER, "_")
