"""What a function did to the files below a folder: the record that states after a power cut are made from."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

VOLATILE = "-shm"
"""Ends the names of what SQLite maps and never needs again after a crash: no part of any record."""

ROOT = 0
"""Number of the folder that everything is below."""


@dataclass(frozen=True, slots=True)
class Write:
    """Octets written into a file. ``mtime_ns`` is the file's afterwards, here and below."""

    node: int
    offset: int
    data: bytes = field(repr=False)
    mtime_ns: int

    @property
    def end(self) -> int:
        """Offset behind the last octet."""
        return self.offset + len(self.data)


@dataclass(frozen=True, slots=True)
class Resize:
    """A file was cut, or made longer with zeros."""

    node: int
    size: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class Put:
    """A name of a folder now means this node: created, linked or renamed; ``left``: a rename's old place."""

    folder: int
    name: str
    node: int
    left: tuple[int, str] | None = None


@dataclass(frozen=True, slots=True)
class Remove:
    """A name of a folder means nothing any more."""

    folder: int
    name: str
    node: int


@dataclass(frozen=True, slots=True)
class Sync:
    """fsync or fdatasync of a file or a folder."""

    node: int


@dataclass(frozen=True, slots=True)
class Said:
    """The function reported something: it is a promise from here on."""

    data: bytes = field(repr=False)


Data = Write | Resize
Entry = Put | Remove
Operation = Write | Resize | Put | Remove | Sync | Said


@dataclass(slots=True)
class Node:
    """A file or a folder as it was found when the record began, or was created, empty, later.

    ``number`` is the inode's.
    """

    number: int
    mtime_ns: int
    content: bytes = field(default=b"", repr=False)
    entries: dict[str, int] | None = None
    """Of a folder: names and what they mean. None: this is a file."""


@dataclass(slots=True)
class Record:
    """Everything that was there at first, and what was done then, in order."""

    nodes: list[Node]
    operations: list[Operation] = field(default_factory=list)

    def joined(self) -> Record:
        """The same with writes joined that follow each other without a gap and with nothing in between."""
        found: list[Operation] = []
        for one in self.operations:
            last = found[-1] if found else None
            if (
                isinstance(one, Write)
                and isinstance(last, Write)
                and last.node == one.node
                and last.end == one.offset
            ):
                found[-1] = Write(one.node, last.offset, last.data + one.data, one.mtime_ns)
            else:
                found.append(one)
        return Record(self.nodes, found)


def scanned(root: Path) -> tuple[list[Node], dict[tuple[int, int], int]]:
    """Everything below a folder, the folder first, and which node an inode is."""
    nodes: list[Node] = []
    known: dict[tuple[int, int], int] = {}

    def add(path: Path) -> int:
        found = path.lstat()
        key = found.st_dev, found.st_ino
        if key in known:
            return known[key]
        number = known[key] = len(nodes)
        node = Node(found.st_ino, found.st_mtime_ns)
        nodes.append(node)
        if stat.S_ISDIR(found.st_mode):
            node.entries = {}
            for one in _inside(path):
                node.entries[one.name] = add(one)
        else:
            node.content = path.read_bytes()
        return number

    add(root)
    return nodes, known


def contents(root: Path) -> dict[str, bytes | None]:
    """Every path below a folder, and the content of files; None for folders."""
    found: dict[str, bytes | None] = {}
    for path in root.rglob("*"):
        if not path.name.endswith(VOLATILE):
            found[path.relative_to(root).as_posix()] = None if path.is_dir() else path.read_bytes()
    return found


def _inside(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.iterdir()) if not path.name.endswith(VOLATILE))
