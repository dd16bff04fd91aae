"""What exports into a folder share: the manifest, files that are there whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from mailstore.durable import FILE_MODE, write_new
from mailstore.model import MailboxName
from mailstore.transfer.manifest import Manifest, begin_manifest
from mailstore.transfer.target import Leaving


class FolderTarget:
    """A folder with a manifest; what lies in it for each mailbox is the subclass's own."""

    kind: str

    def __init__(self, root: Path) -> None:
        self.root = root
        self._manifest: Manifest

    def remove(self, path: Path) -> None:
        """Remove what lies there for a mailbox that the account has no more; ``path`` is in the folder."""
        raise AssertionError

    def begin(self, account_id: str, update: bool) -> None:
        """As :meth:`Target.begin`."""
        self._manifest = begin_manifest(self.root, self.kind, account_id, update)

    def is_done(self, mailbox: Leaving) -> bool:
        """As :meth:`Target.is_done`."""
        entry = self._manifest.mailboxes.get(mailbox.name)
        return entry is not None and entry.is_like(mailbox) and (self.root / entry.path).exists()

    def done(self, mailbox: Leaving, path: Path) -> None:
        """The mailbox lies on the disk, whole, at ``path`` in the folder."""
        self._manifest.note(mailbox, os.fspath(path))
        self._manifest.write(self.root)

    def finish(self, mailboxes: Sequence[Leaving], subscriptions: Sequence[MailboxName]) -> None:
        """As :meth:`Target.finish`: what the account has no more is removed."""
        there = {one.name for one in mailboxes}
        for name in [one for one in self._manifest.mailboxes if one not in there]:
            self.remove(self.root / self._manifest.mailboxes.pop(name).path)
        self._manifest.subscriptions = list(subscriptions)
        self._manifest.complete = True
        self._manifest.write(self.root)


def put_message(path: Path, temporary: Path, data: bytes, internal_date: int) -> None:
    """Write a message's file under a temporary name, with its internal date; rename it. Raises OSError."""
    temporary.unlink(missing_ok=True)
    write_new(temporary, data)
    os.utime(temporary, (internal_date, internal_date))
    temporary.rename(path)


def replace_text(path: Path, lines: Sequence[str]) -> None:
    """Replace a file of lines in one step; the folder is not fsynced. Raises OSError."""
    temporary = path.with_name(path.name + ".partial")
    temporary.unlink(missing_ok=True)
    write_new(temporary, "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape"))
    temporary.chmod(FILE_MODE)
    temporary.rename(path)
