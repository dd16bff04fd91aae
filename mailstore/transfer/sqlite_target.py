"""Export to one SQLite file; ``mailstore.ops.export_file`` says what is in it.

It is ``FILE.partial`` until everything is in it.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from mailstore.durable import FILE_MODE, sync_folder
from mailstore.engine import Database, open_export
from mailstore.errors import DatabaseDamaged, StorageFailed, StorageFull
from mailstore.model import MailboxName
from mailstore.ops import export_file
from mailstore.ops.export_file import FileMailbox, FileMessage
from mailstore.transfer.eml_format import system_flags
from mailstore.transfer.target import Leaving, OutgoingFacts, TargetUnusable

BATCH_BYTES = 4 * 1024 * 1024
"""Messages are written in one transaction once they make so many bytes."""


class SqliteWriter:
    """Writes the messages of one mailbox."""

    def __init__(self, database: Database, mailbox: FileMailbox) -> None:
        self._database = database
        self._mailbox_id = database.write(0, export_file.begin_mailbox, mailbox)
        self._uids: list[int] = []
        self._new: list[tuple[FileMessage, bytes]] = []
        self._new_bytes = 0
        self._changed: list[FileMessage] = []

    def has(self, facts: OutgoingFacts) -> bool:
        """As :meth:`MailboxWriter.has`; other flags are written."""
        message = _message(facts)
        with _as_os_errors():
            found = self._database.read(0, export_file.has, self._mailbox_id, message)
        if found is None:
            self._changed.append(message)
        if found is not False:
            self._uids.append(facts.uid)
        return found is not False

    def add(self, facts: OutgoingFacts, data: bytes) -> None:
        """As :meth:`MailboxWriter.add`."""
        self._uids.append(facts.uid)
        self._new.append((_message(facts), data))
        self._new_bytes += len(data)
        if self._new_bytes >= BATCH_BYTES:
            self._write()

    def commit(self) -> None:
        """As :meth:`MailboxWriter.commit`."""
        self._write()
        with _as_os_errors():
            self._database.write(0, export_file.finish_mailbox, self._mailbox_id, self._uids)

    def close(self) -> None:
        """As :meth:`MailboxWriter.close`."""

    def _write(self) -> None:
        with _as_os_errors():
            self._database.write(0, export_file.write, self._mailbox_id, self._new, self._changed)
        self._new, self._new_bytes, self._changed = [], 0, []


class SqliteTarget:
    """A file, encrypted by a passphrase where there is one."""

    def __init__(self, path: Path, passphrase: str | None = None) -> None:
        self._path = path
        self._partial = path.with_name(path.name + ".partial")
        self._passphrase = passphrase
        self._database: Database | None = None

    def begin(self, account_id: str, update: bool) -> None:
        """As :meth:`Target.begin`."""
        _require_ordinary(self._path)
        _require_ordinary(self._partial)
        if self._path.exists() and not update:
            raise TargetUnusable("the file is there: choose another one, or bring it up to date: --update")
        if self._path.exists():
            self._open(self._path, account_id)
            self.close()
            self._path.rename(self._partial)
        self._open(self._partial, account_id)

    def is_done(self, mailbox: Leaving) -> bool:
        """As :meth:`Target.is_done`."""
        with _as_os_errors():
            return self._opened.read(0, export_file.is_done, _mailbox(mailbox))

    def mailbox(self, mailbox: Leaving) -> SqliteWriter:
        """As :meth:`Target.mailbox`."""
        with _as_os_errors():
            return SqliteWriter(self._opened, _mailbox(mailbox))

    def finish(self, mailboxes: Sequence[Leaving], subscriptions: Sequence[MailboxName]) -> None:
        """As :meth:`Target.finish`."""
        with _as_os_errors():
            self._opened.write(0, export_file.finish, [one.name for one in mailboxes], subscriptions)
            self.close()
        self._partial.rename(self._path)
        sync_folder(self._path.parent)

    def close(self) -> None:
        """Close the file, whether it is complete or not."""
        database, self._database = self._database, None
        if database is not None:
            database.close()

    @property
    def _opened(self) -> Database:
        assert self._database is not None, "begin comes first"
        return self._database

    def _open(self, path: Path, account_id: str) -> None:
        """Open an export of that account, which is made where there is no file, or an empty one."""
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, FILE_MODE))
        with _as_os_errors():
            try:
                self._database = open_export(path, self._passphrase)
            except DatabaseDamaged:
                raise TargetUnusable("the file is something else, or has another passphrase") from None
            if self._database.read(0, export_file.is_empty):
                self._database.write(0, export_file.create, account_id)
            found = self._database.read(0, export_file.facts)
            if (found.get("version"), found.get("account")) != (export_file.VERSION, account_id):
                self.close()
                raise TargetUnusable("the file is something else, or another account's: choose another one")
            self._database.write(0, export_file.begin_again)


def _require_ordinary(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISREG(mode):
        raise TargetUnusable("there is something else in the place of the file: choose another one")


def _mailbox(mailbox: Leaving) -> FileMailbox:
    use = None if mailbox.special_use is None else mailbox.special_use.value
    numbers = (mailbox.uid_validity, mailbox.uid_next, mailbox.modseq, mailbox.messages)
    return FileMailbox(mailbox.name, use, *numbers)


def _message(facts: OutgoingFacts) -> FileMessage:
    system, keywords = " ".join(system_flags(facts.flags)), " ".join(facts.flags.keywords)
    return FileMessage(facts.uid, facts.internal_date, system, keywords, facts.size_bytes)


@contextmanager
def _as_os_errors() -> Iterator[None]:
    """The store's errors are about its own volume; here they are about the owner's file."""
    try:
        yield
    except StorageFull:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from None
    except StorageFailed:
        raise OSError(errno.EIO, os.strerror(errno.EIO)) from None
