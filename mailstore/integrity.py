"""Whether a database is whole, and whether it is an earlier state of another one. Reads all of it."""

from __future__ import annotations

from mailstore.engine import Database
from mailstore.errors import StorageFailed
from mailstore.ops.contents import contents
from mailstore.ops.history import histories

_BAD_PAGE = "HMAC verification failed for page "


def unsound(database: Database) -> str | None:
    """What SQLCipher and SQLite find wrong with a database, reading every page; None for nothing.

    Raises DatabaseDamaged where a page cannot be read that the check itself needs.
    """
    return wrong_pages(database) or (None if is_structure_sound(database) else "the database is not sound")


def wrong_pages(database: Database) -> str | None:
    """What is wrong with the pages of the main file, each by itself. Raises as :func:`unsound`."""
    for row in database.pragma("PRAGMA cipher_integrity_check"):
        text = str(row[0])
        page = text.removeprefix(_BAD_PAGE)
        return f"page {page} is not authentic" if page.isdecimal() else "pages are not authentic"
    return None


def is_structure_sound(database: Database) -> bool:
    """Whether tables and indexes agree with each other. Raises as :func:`unsound`."""
    return database.pragma("PRAGMA integrity_check") == [("ok",)]


def is_earlier_state(then: Database, now: Database) -> bool:
    """Whether one account's database can have become the other; mailboxes may have been deleted since."""
    # In this order: what is written to the living database meanwhile only adds to its history.
    before, after = then.read(0, histories), now.read(0, histories)
    return all(one.is_before(after[mailbox]) for mailbox, one in before.items() if mailbox in after)


def require_equal(copy: Database, original: Database) -> None:
    """Look at all of both. Raises StorageFailed: the copy is not whole, or holds something else."""
    if unsound(copy) is not None or copy.read(0, contents) != original.read(0, contents):
        raise StorageFailed("the copy is not what it was made from")
