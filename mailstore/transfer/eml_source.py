"""Mail in ``.eml`` files: a folder is a mailbox, and folders in it its inferiors; or an export of ours."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from mailstore.model import Flags
from mailstore.names import MAX_DEPTH
from mailstore.transfer.arrival import arrival_date
from mailstore.transfer.eml_format import LIST, SUFFIX, facts_in, parse_line
from mailstore.transfer.line_ends import to_crlf
from mailstore.transfer.manifest import read_manifest
from mailstore.transfer.reading import NotUsable, read_list, read_ordinary, unusable
from mailstore.transfer.source import Destination, Found, Incoming, SourceMailbox, SourceUnusable


class EmlSource:
    """A folder of such files, or of folders with them."""

    def __init__(self, root: Path, max_message_bytes: int) -> None:
        self._root = root
        self._max_message_bytes = max_message_bytes

    def mailboxes(self) -> list[SourceMailbox]:
        """As :meth:`Source.mailboxes`."""
        manifest = read_manifest(self._root)
        if manifest is not None and manifest.format == "eml":
            return manifest.source_mailboxes(self._root)
        try:
            found = list(self._folders(self._root, ()))
        except OSError:
            raise SourceUnusable("the folder cannot be read") from None
        if not found:
            raise SourceUnusable("there is no file that ends with '.eml' in the folder")
        return found

    def size_bytes(self, mailboxes: list[SourceMailbox]) -> int:
        """As :meth:`Source.size_bytes`."""
        paths = (Path(one.key) / name for one in mailboxes for name in self._files(Path(one.key)))
        return sum(_size(path) for path in paths)

    def messages(self, mailbox: SourceMailbox, there: Destination) -> Iterator[Found]:
        """As :meth:`Source.messages`: by the names of the files."""
        folder = Path(mailbox.key)
        lines = map(parse_line, read_list(folder / LIST).splitlines())
        known = {facts[0]: facts[1:] for facts in map(facts_in, lines) if facts is not None}
        for name in self._files(folder):
            path = folder / name
            try:
                data, changed = read_ordinary(path, self._max_message_bytes)
            except NotUsable as problem:
                yield unusable(self._root, path, problem.reason, _size(path))
                continue
            size, told = len(data), known.get(name)
            if told is None:
                data = to_crlf(data)
                # A file that was downloaded or copied says nothing of when its message arrived.
                told = arrival_date(data) or changed, Flags()
            yield Incoming(data, told[1], told[0], size, name)

    def _folders(self, folder: Path, levels: tuple[str, ...]) -> Iterator[SourceMailbox]:
        with os.scandir(folder) as entries:
            inside = sorted(one.name for one in entries if one.is_dir(follow_symlinks=False))
        if self._files(folder):
            yield SourceMailbox(os.fspath(folder), levels or (folder.resolve().name,))
        for name in inside:
            if not name.startswith(".") and len(levels) < MAX_DEPTH:
                text = os.fsencode(name).decode("utf-8", "replace")
                yield from self._folders(folder / name, (*levels, text))

    def _files(self, folder: Path) -> list[str]:
        try:
            with os.scandir(folder) as entries:
                found = [one.name for one in entries if not one.is_dir(follow_symlinks=False)]
        except OSError:
            return []
        return sorted(one for one in found if one.lower().endswith(SUFFIX) and not one.startswith("."))


def _size(path: Path) -> int:
    try:
        return path.lstat().st_size
    except OSError:
        return 0
