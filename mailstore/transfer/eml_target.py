"""Export to ``.eml`` files: a folder for each mailbox, folders in it for its inferiors; see ``eml_format``.

The files are the messages byte for byte.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from mailstore.durable import FILE_MODE, FOLDER_MODE, sync_folder
from mailstore.transfer.eml_format import LIST, file_name, first_line, line_of, parse_line
from mailstore.transfer.file_names import file_names
from mailstore.transfer.folder_target import FolderTarget, put_message
from mailstore.transfer.reading import read_list
from mailstore.transfer.target import Leaving, OutgoingFacts

_OURS = re.compile(r"\d{10,}\.eml(\.partial)?")
"""Names that this program gives; other files in the folder are somebody else's, and stay."""


class EmlWriter:
    """Makes one folder equal to a mailbox."""

    def __init__(self, folder: Path, mailbox: Leaving, done: Callable[[], None]) -> None:
        """``done`` is called once everything is on the disk."""
        self._folder = folder
        self._done = done
        self._partial = folder / f"{LIST}.partial"
        self._left = set(_ours(folder))
        self._valid = self._left if mailbox.uid_validity in _validities(folder) else frozenset[str]()
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        self._list = os.fdopen(os.open(self._partial, flags, FILE_MODE), "w", encoding="ascii")
        print(first_line(mailbox.uid_validity), file=self._list, flush=True)

    def has(self, facts: OutgoingFacts) -> bool:
        """As :meth:`MailboxWriter.has`."""
        path = self._folder / file_name(facts.uid)
        if path.name not in self._valid or path.lstat().st_size != facts.size_bytes:
            return False
        self._note(facts)
        return True

    def add(self, facts: OutgoingFacts, data: bytes) -> None:
        """As :meth:`MailboxWriter.add`."""
        path = self._folder / file_name(facts.uid)
        put_message(path, path.with_name(path.name + ".partial"), data, facts.internal_date)
        self._note(facts)

    def commit(self) -> None:
        """As :meth:`MailboxWriter.commit`."""
        for name in self._left:
            (self._folder / name).unlink(missing_ok=True)  # a partial file has got its name
        self._list.flush()
        os.fsync(self._list.fileno())
        self._partial.rename(self._folder / LIST)
        sync_folder(self._folder)
        sync_folder(self._folder.parent)
        self._done()

    def close(self) -> None:
        """As :meth:`MailboxWriter.close`."""
        self._list.close()

    def _note(self, facts: OutgoingFacts) -> None:
        self._left.discard(file_name(facts.uid))
        print(line_of(facts.uid, facts.internal_date, facts.flags), file=self._list)


class EmlTarget(FolderTarget):
    """A folder of folders."""

    kind = "eml"

    def mailbox(self, mailbox: Leaving) -> EmlWriter:
        """As :meth:`Target.mailbox`."""
        path = Path(*file_names(mailbox.name))
        (self.root / path).mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        return EmlWriter(self.root / path, mailbox, lambda: self.done(mailbox, path))

    def remove(self, path: Path) -> None:
        """As :meth:`FolderTarget.remove`. What somebody else has put there stays, and inferior mailboxes."""
        for name in _ours(path):
            (path / name).unlink()
        (path / LIST).unlink(missing_ok=True)
        if path.is_dir() and not any(path.iterdir()):
            shutil.rmtree(path, ignore_errors=True)


def _ours(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if _OURS.fullmatch(path.name)] if folder.is_dir() else []


def _validities(folder: Path) -> set[int]:
    """The UIDVALIDITYs of which there are files: what was written last, whole or not."""
    found = (read_list(folder / name) for name in (f"{LIST}.partial", LIST))
    lines = (parse_line(text.partition(b"\n")[0]) for text in found if text)
    return {one["uid_validity"] for one in lines if isinstance(one.get("uid_validity"), int)}
