"""What can be wrong inside an account's database. Pure."""

from __future__ import annotations

from enum import Enum


class Flaw(Enum):
    """A kind of flaw; the value names it for programs."""

    PAGES = "pages"
    """Pages are not authentic, or not to be read."""
    STRUCTURE = "structure"
    """SQLite finds its tables and indexes to contradict each other."""
    STRAY_ROWS = "stray-rows"
    """Rows refer to a mailbox or a message that is not there."""
    STRAY_CONTENT = "stray-content"
    """There is content of a message that is not listed."""
    COUNTERS = "counters"
    """A mailbox counts other messages than there are."""
    UIDS = "uids"
    """A mailbox would give a UID a second time (RFC 9051 section 2.3.1.1)."""
    MODSEQS = "modseqs"
    """A mailbox has changes that are newer than its newest (RFC 7162 section 3.1.2)."""
    UNREADABLE = "unreadable"
    """A damaged page is in the way of a message."""
    CONTENT = "content"
    """Content is missing, cannot be decompressed, or is not of the size that the message has."""
    FACTS = "facts"
    """The noted sizes of a message or its header are not those of its content."""
    ANSWERS = "answers"
    """What IMAP answers about a message is missing or cannot be read."""
    UNPLACED = "unplaced"
    """A message lies in no mailbox."""
