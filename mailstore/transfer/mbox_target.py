"""Export to mbox files: one for each mailbox, those of inferior mailboxes in a folder ``NAME.sbd``."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from mailstore.durable import FILE_MODE, FOLDER_MODE, sync_folder
from mailstore.model import MailboxName
from mailstore.transfer.file_names import file_names
from mailstore.transfer.folder_target import FolderTarget
from mailstore.transfer.mbox_format import render
from mailstore.transfer.target import Leaving, OutgoingFacts

MBOX_SUFFIX, FOLDER_SUFFIX, PARTIAL_SUFFIX = ".mbox", ".sbd", ".partial"


class MboxWriter:
    """Writes the messages of one mailbox beside its file, which it replaces at the end."""

    def __init__(self, path: Path, done: Callable[[], None]) -> None:
        """``done`` is called once the file has its name and is on the disk."""
        self._path = path
        self._done = done
        self._partial = path.with_name(path.name + PARTIAL_SUFFIX)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        self._file = os.fdopen(os.open(self._partial, flags, FILE_MODE), "wb")

    def has(self, facts: OutgoingFacts) -> bool:
        """Never: a file that was interrupted is begun again."""
        return False

    def add(self, facts: OutgoingFacts, data: bytes) -> None:
        """As :meth:`MailboxWriter.add`."""
        self._file.write(render(data, facts.flags, facts.internal_date))

    def commit(self) -> None:
        """As :meth:`MailboxWriter.commit`."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._partial.rename(self._path)
        sync_folder(self._path.parent)
        self._done()

    def close(self) -> None:
        """As :meth:`MailboxWriter.close`."""
        self._file.close()


class MboxTarget(FolderTarget):
    """A folder of mbox files."""

    kind = "mbox"

    def mailbox(self, mailbox: Leaving) -> MboxWriter:
        """As :meth:`Target.mailbox`."""
        path = mbox_path(mailbox.name)
        (self.root / path).parent.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        return MboxWriter(self.root / path, lambda: self.done(mailbox, path))

    def remove(self, path: Path) -> None:
        """As :meth:`FolderTarget.remove`."""
        path.unlink(missing_ok=True)


def mbox_path(name: MailboxName) -> Path:
    """Where the file of a mailbox lies, from the export's folder on."""
    *above, last = file_names(name)
    return Path(*(level + FOLDER_SUFFIX for level in above), last + MBOX_SUFFIX)
