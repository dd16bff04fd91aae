"""How many octets of mail an account's database holds, for those who have no key to ask it.

Files do not shrink when mail is deleted, so from outside an account looks as full as it has ever been. The
file ``mail-size`` says how much mail there was, and how long the files were, when the database was last
checkpointed or closed; what they have grown by since is added. Where the file is missing or not of this
database, all of the files counts. FORMAT.md section 10.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress

from mailstore.account import AccountPaths
from mailstore.durable import FILE_MODE, storage_errors
from mailstore.engine import Database
from mailstore.errors import StoreError
from mailstore.inbox_size import waiting_bytes
from mailstore.ops import quota
from mailstore.page_journal import identity

SIZE_FILE = "mail-size"

GRAIN_BYTES = 65_536
"""Sizes are rounded up to multiples of this, so that the file says nothing of a single message."""

_RECORD = re.compile(rb"(\d{20}) (\d{20}) (\d{20})\n")
"""Of one length, so that it is written over in one step, and on a full disk too."""


def mail_size(database: Database) -> int | None:
    """Octets of all messages and annotations, as IMAP's quota counts them; None where it cannot be read."""
    with suppress(StoreError):
        return database.read(0, quota.used)[0]
    return None


def note_mail_size(paths: AccountPaths, size_bytes: int | None) -> None:
    """Write down what :func:`mail_size` found, for the files as they are now; nothing with None.

    That it cannot be written matters to nobody.
    """
    if size_bytes is None:
        return
    with suppress(OSError):
        inode, files_bytes = _files(paths)
        rounded = -(-size_bytes // GRAIN_BYTES) * GRAIN_BYTES
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC
        descriptor = os.open(paths.folder / SIZE_FILE, flags, FILE_MODE)
        try:
            os.pwrite(descriptor, b"%020d %020d %020d\n" % (inode, files_bytes, rounded), 0)
        finally:
            os.close(descriptor)


def used_bytes(paths: AccountPaths, waiting: int | None = None) -> int:
    """What an account uses of its storage limit, in octets, as far as that is known without its key.

    Mail counts as it is and not as it is compressed, as IMAP's quota does. ``waiting`` are the octets of the
    inbox, for whoever knows them already.
    Raises NoSuchAccount, Busy, StorageFailed.
    """
    if waiting is None:
        waiting = waiting_bytes(paths.inbox)
    with storage_errors():
        inode, files_bytes = _files(paths)
    found = None
    with suppress(OSError):
        found = _RECORD.fullmatch((paths.folder / SIZE_FILE).read_bytes())
    if found is None or int(found[1]) != inode:  # a restore has exchanged the database
        return waiting + files_bytes
    grown = max(0, files_bytes - int(found[2]))
    return waiting + int(found[3]) + grown


def _files(paths: AccountPaths) -> tuple[int, int]:
    """The inode of the database, 0 without one, and octets of it and its log. Raises OSError."""
    database, log = identity(paths.mail_db), identity(paths.wal)
    total = sum(one.size_bytes for one in (database, log) if one is not None)
    return (0 if database is None else database.inode), total
