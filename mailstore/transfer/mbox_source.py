"""Mail in mbox files: a file, a folder of them (Thunderbird's ``.sbd``, Apple's ``.mbox``), or an export."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from mailstore.names import MAX_DEPTH
from mailstore.transfer.arrival import arrival_date
from mailstore.transfer.manifest import read_manifest
from mailstore.transfer.mbox_format import FROM, begins_message, from_line_date, parse
from mailstore.transfer.reading import NotUsable, open_ordinary, unusable
from mailstore.transfer.source import (
    Destination,
    Found,
    Incoming,
    Passed,
    Reason,
    SourceMailbox,
    SourceUnusable,
    Unusable,
)

FILE_SUFFIX, FOLDER_SUFFIX = ".mbox", ".sbd"
_APPLE_FILE = "mbox"
_LINE_BYTES = 64 * 1024
_BUFFER_BYTES = 1024 * 1024
_QUOTING_SHARE = 4
"""A message's lines may be quoted, and have fields added: it may be longer in the file by this part of it."""


class MboxSource:
    """An mbox file, or a folder with several."""

    def __init__(self, root: Path, max_message_bytes: int) -> None:
        self._root = root
        self._max_message_bytes = max_message_bytes

    def mailboxes(self) -> list[SourceMailbox]:
        """As :meth:`Source.mailboxes`."""
        if not self._root.is_dir():
            if not _is_mbox(self._root):
                raise SourceUnusable("there is no mbox: a file that begins with 'From ', or a folder of them")
            return [SourceMailbox(os.fspath(self._root), (self._root.name.removesuffix(FILE_SUFFIX),))]
        manifest = read_manifest(self._root)
        if manifest is not None and manifest.format == "mbox":
            return manifest.source_mailboxes(self._root)
        try:
            found = list(self._files(self._root, ()))
        except OSError:
            raise SourceUnusable("the folder cannot be read") from None
        if not found:
            raise SourceUnusable("there is no mbox in the folder: no file begins with 'From '")
        return found

    def size_bytes(self, mailboxes: list[SourceMailbox]) -> int:
        """As :meth:`Source.size_bytes`."""
        return sum(_size(Path(one.key)) for one in mailboxes)

    def messages(self, mailbox: SourceMailbox, there: Destination) -> Iterator[Found]:
        """As :meth:`Source.messages`: in the order of the file."""
        path = Path(mailbox.key)
        top = self._root if self._root.is_dir() else self._root.parent
        try:
            pieces = enumerate(_pieces(path, self._most_bytes()), 1)
            for number, (date, raw, size) in pieces:
                yield self._message(
                    f"{os.fspath(path.relative_to(top))!a}, message {number}", date, raw, size
                )
        except NotUsable as problem:
            yield unusable(top, path, problem.reason)

    def _most_bytes(self) -> int:
        return self._max_message_bytes + self._max_message_bytes // _QUOTING_SHARE + _LINE_BYTES

    def _message(self, place: str, date: int | None, raw: bytes | None, size: int) -> Found:
        if date is None or raw is None:
            return Unusable(place, Reason.CUT if date is None else Reason.TOO_LARGE, size)
        data, flags, is_expunged = parse(raw)
        if is_expunged:
            return Passed(size, is_deleted=True)
        if len(data) > self._max_message_bytes:
            return Unusable(place, Reason.TOO_LARGE, size)
        return Incoming(data, flags, date or arrival_date(data), size, place)

    def _files(self, folder: Path, levels: tuple[str, ...]) -> Iterator[SourceMailbox]:
        with os.scandir(folder) as entries:
            found = sorted(entries, key=lambda one: one.name)
        for entry in found:
            if entry.name.startswith(".") or len(levels) >= MAX_DEPTH:
                continue
            if entry.is_dir(follow_symlinks=False):
                name = entry.name.removesuffix(FOLDER_SUFFIX).removesuffix(FILE_SUFFIX)
                yield from self._files(folder / entry.name, (*levels, name))
            elif entry.is_file(follow_symlinks=False) and _is_mbox(folder / entry.name):
                inside = levels and entry.name == _APPLE_FILE
                name = entry.name.removesuffix(FILE_SUFFIX)
                yield SourceMailbox(entry.path, levels if inside else (*levels, name))


def _is_mbox(path: Path) -> bool:
    try:
        with os.fdopen(open_ordinary(path), "rb", buffering=0) as file:
            return file.read(len(FROM)) == FROM
    except (NotUsable, OSError):
        return False


def _size(path: Path) -> int:
    try:
        return path.lstat().st_size
    except OSError:
        return 0


def _pieces(path: Path, most_bytes: int) -> Iterator[tuple[int | None, bytes | None, int]]:
    """What stands between lines ``From``: the date of the line, the text, and how long both are in the file.

    The date is None for what stands before the first; the text where it is longer than ``most_bytes``. Raises
    NotUsable.
    """
    with os.fdopen(open_ordinary(path), "rb", buffering=_BUFFER_BYTES) as file:
        piece = _Piece(None, most_bytes)
        is_whole, is_start = True, True  # the line before has ended, and was empty
        waiting = b""  # a line From, until the next one confirms it
        while line := _line(file):
            if waiting and begins_message(line):
                yield from piece.result()
                piece = _Piece(from_line_date(waiting), most_bytes)
                piece.size += len(waiting)
            elif waiting:
                piece.add(waiting)
            waiting = line if is_start and line.startswith(FROM) and from_line_date(line) is not None else b""
            if not waiting:
                piece.add(line)
            is_start = is_whole and line in (b"\n", b"\r\n")
            is_whole = line.endswith(b"\n")
        yield from piece.result()
        if waiting:
            yield from_line_date(waiting), b"", len(waiting)


def _line(file: BinaryIO) -> bytes:
    try:
        return file.readline(_LINE_BYTES)
    except OSError:
        raise NotUsable(Reason.UNREADABLE) from None


class _Piece:
    """What has been read of one message; nothing is kept once it is too long."""

    def __init__(self, date: int | None, most_bytes: int) -> None:
        self.date = date
        self.size = 0
        self._most_bytes = most_bytes
        self._text = bytearray()

    def add(self, line: bytes) -> None:
        """One more line, or a part of one."""
        self.size += len(line)
        if self.size <= self._most_bytes:
            self._text += line
        else:
            self._text.clear()

    def result(self) -> Iterator[tuple[int | None, bytes | None, int]]:
        """As :func:`_pieces` gives it, unless nothing was read."""
        if self.size:
            yield self.date, bytes(self._text) if self.size <= self._most_bytes else None, self.size
