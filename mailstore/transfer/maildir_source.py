"""Mail in a Maildir: Maildir++ (``.A.B``) or folders in folders, with Dovecot's keywords and UIDs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from mailstore.model import INBOX, Flags
from mailstore.names import MAX_DEPTH
from mailstore.transfer.keywords import usable_keywords
from mailstore.transfer.line_ends import to_crlf
from mailstore.transfer.maildir_format import (
    EXACT,
    KEYWORDS_FILE,
    MORE_KEYWORDS_FILE,
    SUBSCRIPTIONS_FILE,
    UIDS_FILE,
    base_name,
    flags_in,
    keywords_by_letter,
    levels_of,
    more_keywords,
    order_of,
    readable,
    subscriptions_in,
    uids_by_base_name,
)
from mailstore.transfer.manifest import read_manifest
from mailstore.transfer.reading import NotUsable, read_list, read_ordinary, unusable
from mailstore.transfer.source import Destination, Found, Incoming, SourceMailbox, SourceUnusable

_PARTS = ("cur", "new")
_NOT_MAILBOXES = frozenset({*_PARTS, "tmp"})


class MaildirSource:
    """A Maildir with its folders."""

    def __init__(self, root: Path, max_message_bytes: int) -> None:
        self._root = root
        self._max_message_bytes = max_message_bytes

    def mailboxes(self) -> list[SourceMailbox]:
        """As :meth:`Source.mailboxes`."""
        manifest = read_manifest(self._root)
        if manifest is not None and manifest.format == "maildir":
            return manifest.source_mailboxes(self._root)
        try:
            folders = list(self._folders(self._root, ()))
        except OSError:
            raise SourceUnusable("the folder cannot be read") from None
        if not folders:
            raise SourceUnusable("there is no Maildir: no folder has 'cur' or 'new' in it")
        text = read_list(self._root / SUBSCRIPTIONS_FILE)
        subscribed = subscriptions_in(text)
        return [
            SourceMailbox(os.fspath(folder), levels, subscribed=levels in subscribed if text else None)
            for folder, levels in folders
        ]

    def size_bytes(self, mailboxes: list[SourceMailbox]) -> int:
        """As :meth:`Source.size_bytes`."""
        return sum(size for one in mailboxes for _, _, size in self._files(Path(one.key)))

    def messages(self, mailbox: SourceMailbox, there: Destination) -> Iterator[Found]:
        """As :meth:`Source.messages`: by UID where Dovecot has noted one, then by the time in the names."""
        folder = Path(mailbox.key)
        keywords = _Keywords(folder)
        uids = uids_by_base_name(read_list(folder / UIDS_FILE))
        files = sorted(self._files(folder), key=lambda one: order_of(one[1], uids))
        moved = set()
        for part, name, size in files:
            found = self._message(folder / part / name, keywords, size)
            if found is None:
                moved.add(base_name(name))
            else:
                yield found
        # A program that uses the Maildir meanwhile renames files when flags change.
        for part, name, size in self._files(folder) if moved else ():
            if base_name(name) in moved:
                found = self._message(folder / part / name, keywords, size)
                if found is not None:
                    yield found

    def _message(self, path: Path, keywords: _Keywords, size: int) -> Found | None:
        """The message in a file; None when there is no such file any more."""
        try:
            data, changed = read_ordinary(path, self._max_message_bytes)
        except NotUsable as problem:
            there = path.exists() or path.is_symlink()
            return unusable(self._root, path, problem.reason, size) if there else None
        data = data if base_name(path.name).endswith(EXACT) else to_crlf(data)
        return Incoming(data, keywords.flags(path.name), changed, size, path.name)

    def _folders(self, folder: Path, levels: tuple[str, ...]) -> Iterator[tuple[Path, tuple[str, ...]]]:
        """Folders with messages at or below ``folder``, which is the mailbox ``levels``."""
        with os.scandir(folder) as entries:
            names = sorted(one.name for one in entries if one.is_dir(follow_symlinks=False))
        if not _NOT_MAILBOXES.isdisjoint(names):
            yield folder, levels or (INBOX,)
        for name in names:
            if name in _NOT_MAILBOXES or len(levels) >= MAX_DEPTH:
                continue
            below = levels_of(name) if name.startswith(".") else (readable(name),)
            if below:
                yield from self._folders(folder / name, (*levels, *below))

    def _files(self, folder: Path) -> Iterator[tuple[str, str, int]]:
        """Every message's part (``cur`` or ``new``), name and size; the size is 0 if it has just vanished."""
        for part in _PARTS:
            try:
                with os.scandir(folder / part) as entries:
                    for entry in entries:
                        if not entry.name.startswith(".") and not entry.is_dir(follow_symlinks=False):
                            yield part, entry.name, _size(entry)
            except OSError:
                continue


class _Keywords:
    """The keywords of one folder."""

    def __init__(self, folder: Path) -> None:
        self._by_letter = keywords_by_letter(read_list(folder / KEYWORDS_FILE))
        self._more = more_keywords(read_list(folder / MORE_KEYWORDS_FILE))

    def flags(self, file_name: str) -> Flags:
        """The flags of the message in a file of that name."""
        found = flags_in(file_name, self._by_letter)
        more = self._more.get(base_name(file_name), ())
        return Flags(found.system, usable_keywords((*found.keywords, *more))) if more else found


def _size(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat(follow_symlinks=False).st_size
    except OSError:
        return 0
