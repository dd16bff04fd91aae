"""Export to a Maildir++ that Dovecot can serve, with the UIDs that clients know; see ``maildir_format``.

Lines end with LF where that can be undone; the name of another message's file says so. Keywords for which the
26 letters of ``dovecot-keywords`` do not suffice are in a file of our own.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from mailstore.durable import FILE_MODE, FOLDER_MODE, make_folder, sync_folder, write_new
from mailstore.model import HIERARCHY_DELIMITER, INBOX, MailboxName
from mailstore.transfer.folder_target import FolderTarget, put_message, replace_text
from mailstore.transfer.line_ends import to_lf
from mailstore.transfer.maildir_format import (
    EXACT,
    KEYWORDS_FILE,
    MORE_KEYWORDS_FILE,
    SUBSCRIPTIONS_FILE,
    UIDS_FILE,
    base_name,
    folder_name,
    keywords_by_letter,
    letters_of,
)
from mailstore.transfer.reading import read_list
from mailstore.transfer.target import Leaving, OutgoingFacts

_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_ENDING = ".sealbox"
_OURS = re.compile(r"\d+\.U\d+V\d+\.sealbox(-exact)?(:2,[A-Za-z]*)?")
"""Names that this program gives; other files in the folder are somebody else's, and stay."""


class MaildirWriter:
    """Makes one folder equal to a mailbox: adds, renames where flags differ, removes what is gone."""

    def __init__(self, folder: Path, mailbox: Leaving, done: Callable[[], None]) -> None:
        """``done`` is called once everything is on the disk."""
        self._folder = folder
        self._mailbox = mailbox
        self._done = done
        for part in ("cur", "new", "tmp"):
            (folder / part).mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        found = keywords_by_letter(read_list(folder / KEYWORDS_FILE))
        self._letters = {word: letter for letter, word in found.items()}
        self._there = {base_name(name): name for name in _ours(folder / "cur")}
        self._uids: list[str] = []
        self._more_keywords: list[str] = []

    def has(self, facts: OutgoingFacts) -> bool:
        """As :meth:`MailboxWriter.has`; flags that have changed are changed in the name."""
        for ending in ("", EXACT):
            base = self._base(facts, ending)
            name = self._there.pop(base, None)
            if name is not None:
                wanted = self._note(facts, base)
                if name != wanted:
                    (self._folder / "cur" / name).rename(self._folder / "cur" / wanted)
                return True
        return False

    def add(self, facts: OutgoingFacts, data: bytes) -> None:
        """As :meth:`MailboxWriter.add`."""
        shorter = to_lf(data)
        base = self._base(facts, EXACT if shorter is None else "")
        path, temporary = self._folder / "cur" / self._note(facts, base), self._folder / "tmp" / base
        put_message(path, temporary, data if shorter is None else shorter, facts.internal_date)

    def commit(self) -> None:
        """As :meth:`MailboxWriter.commit`."""
        for name in self._there.values():
            (self._folder / "cur" / name).unlink()
        for name in _ours(self._folder / "tmp"):
            (self._folder / "tmp" / name).unlink()
        first = f"3 V{self._mailbox.uid_validity} N{self._mailbox.uid_next}"
        replace_text(self._folder / UIDS_FILE, [first, *self._uids])
        words = [f"{_LETTERS.index(letter)} {word}" for word, letter in self._letters.items()]
        replace_text(self._folder / KEYWORDS_FILE, words)
        replace_text(self._folder / MORE_KEYWORDS_FILE, self._more_keywords)
        for folder in (self._folder / "cur", self._folder, self._folder.parent):
            sync_folder(folder)
        self._done()

    def close(self) -> None:
        """As :meth:`MailboxWriter.close`."""

    def _base(self, facts: OutgoingFacts, ending: str) -> str:
        return f"{facts.internal_date}.U{facts.uid}V{self._mailbox.uid_validity}{ending or _ENDING}"

    def _note(self, facts: OutgoingFacts, base: str) -> str:
        """The name of a message's file; its UID and keywords are remembered for the lists."""
        self._uids.append(f"{facts.uid} :{base}")
        letters, more = [], []
        for word in facts.flags.keywords:
            if word not in self._letters and len(self._letters) < len(_LETTERS):
                self._letters[word] = _LETTERS[len(self._letters)]
            if word in self._letters:
                letters.append(self._letters[word])
            else:
                more.append(word)
        if more:
            self._more_keywords.append(" ".join((base, *more)))
        return f"{base}:2,{letters_of(facts.flags.system)}{''.join(sorted(letters))}"


class MaildirTarget(FolderTarget):
    """A Maildir++: INBOX in the folder itself, every other mailbox in a folder ``.A.B``."""

    kind = "maildir"

    def mailbox(self, mailbox: Leaving) -> MaildirWriter:
        """As :meth:`Target.mailbox`."""
        name = "." if mailbox.name == INBOX else folder_name(_levels(mailbox.name))
        folder = self.root / name
        if mailbox.name != INBOX:
            make_folder(folder)
            if not (folder / "maildirfolder").exists():
                write_new(folder / "maildirfolder", b"")
        return MaildirWriter(folder, mailbox, lambda: self.done(mailbox, Path(name)))

    def remove(self, path: Path) -> None:
        """As :meth:`FolderTarget.remove`. What somebody else has put there stays."""
        for name in _ours(path / "cur"):
            (path / "cur" / name).unlink()
        if path != self.root and not any(any((path / part).iterdir()) for part in ("cur", "new")):
            shutil.rmtree(path, ignore_errors=True)

    def finish(self, mailboxes: Sequence[Leaving], subscriptions: Sequence[MailboxName]) -> None:
        """As :meth:`Target.finish`, with Dovecot's file of subscriptions."""
        names = [folder_name(_levels(one)).removeprefix(".") for one in subscriptions if one != INBOX]
        inbox = [str(INBOX)] if INBOX in subscriptions else []
        replace_text(self.root / SUBSCRIPTIONS_FILE, [*inbox, *names])
        (self.root / SUBSCRIPTIONS_FILE).chmod(FILE_MODE)
        super().finish(mailboxes, subscriptions)


def _ours(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if _OURS.fullmatch(path.name)] if folder.is_dir() else []


def _levels(name: MailboxName) -> tuple[str, ...]:
    return tuple(name.split(HIERARCHY_DELIMITER))
