"""Export to mbox files: one for each mailbox, those of inferior mailboxes in a folder ``NAME.sbd``."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from mailstore.durable import FILE_MODE, FOLDER_MODE, sync_folder
from mailstore.model import MailboxName
from mailstore.transfer.manifest import Manifest, begin_manifest, name_of
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


class MboxTarget:
    """A folder of mbox files."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._manifest: Manifest

    def begin(self, account_id: str, update: bool) -> None:
        """As :meth:`Target.begin`."""
        self._manifest = begin_manifest(self._root, "mbox", account_id, update)

    def is_done(self, mailbox: Leaving) -> bool:
        """As :meth:`Target.is_done`."""
        entry = self._manifest.mailboxes.get(mailbox.name)
        return entry is not None and entry.is_like(mailbox) and (self._root / entry.path).is_file()

    def mailbox(self, mailbox: Leaving) -> MboxWriter:
        """As :meth:`Target.mailbox`."""
        path = mbox_path(mailbox.name)
        (self._root / path).parent.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)

        def done() -> None:
            self._manifest.note(mailbox, os.fspath(path))
            self._manifest.write(self._root)

        return MboxWriter(self._root / path, done)

    def finish(self, mailboxes: Sequence[Leaving], subscriptions: Sequence[MailboxName]) -> None:
        """As :meth:`Target.finish`: files of mailboxes that the account has no more are removed."""
        there = {one.name for one in mailboxes}
        for name in [one for one in self._manifest.mailboxes if one not in there]:
            (self._root / self._manifest.mailboxes.pop(name).path).unlink(missing_ok=True)
        self._manifest.subscriptions = list(subscriptions)
        self._manifest.complete = True
        self._manifest.write(self._root)


def mbox_path(name: MailboxName) -> Path:
    """Where the file of a mailbox lies, from the export's folder on."""
    *above, last = name_of(name)
    return Path(*(level + FOLDER_SUFFIX for level in above), last + MBOX_SUFFIX)
