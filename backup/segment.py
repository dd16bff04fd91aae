"""What is in a segment: its name, its header and the order of what follows (FORMAT.md sections 2, 4, 5)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NewType

from mailstore.sealed import padded_size

StreamId = NewType("StreamId", str)

VERSION = 2
"""Written; version 1 is read."""

PAGE_BYTES = 4096
MAX_HEADER_BYTES = 64 * 1024 * 1024
SERVER = "server"
SERVER_FILE = "server.json"
KEYS_FILE = "keys"
INBOX_PREFIX = "inbox/"
LENGTH_BYTES = 4

_NAME = re.compile(
    r"(?P<stream>[0-9a-f]{32})/(?P<sequence>\d{8,15})-(?P<taken>\d{1,15})-(?P<kind>full|changes)"
)
_ACCOUNT = re.compile(r"[0-9a-f]{32}|server")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_FILE = re.compile(r"keys|server\.json|inbox/[0-9a-f]{16}-[0-9a-f]{16}\.sealed")

Run = tuple[int, int]
"""First page and how many."""


class Kind(StrEnum):
    """Whether a segment stands alone."""

    FULL = "full"
    CHANGES = "changes"


class Malformed(ValueError):
    """The octets are not a name or header of the versions that are read."""


@dataclass(frozen=True, slots=True, order=True)
class SegmentName:
    """The name of an object below the prefix; sorts by stream, then by sequence."""

    stream: StreamId
    sequence: int
    taken_ms: int
    kind: Kind

    def __str__(self) -> str:
        return f"{self.stream}/{self.sequence:08d}-{self.taken_ms}-{self.kind}"


def parse_name(text: str) -> SegmentName | None:
    """The segment that an object's name, without prefix, stands for; None for a foreign one."""
    found = _NAME.fullmatch(text)
    if found is None:
        return None
    name = SegmentName(
        StreamId(found["stream"]), int(found["sequence"]), int(found["taken"]), Kind(found["kind"])
    )
    return name if str(name) == text else None


@dataclass(frozen=True, slots=True)
class DatabasePart:
    """Size of the image in pages, and which of them follow."""

    pages: int
    runs: tuple[Run, ...] = field(repr=False)

    @property
    def held(self) -> int:
        """Pages that the segment itself holds."""
        return sum(count for _, count in self.runs)


@dataclass(frozen=True, slots=True)
class Header:
    """The header of one segment; ``previous`` is the SHA-256 of the segment before."""

    name: SegmentName
    account: str
    previous: bytes | None
    database: DatabasePart | None
    files: tuple[tuple[str, int], ...] = field(repr=False)
    removed: tuple[str, ...] = field(default=(), repr=False)
    version: int = VERSION
    generation: int = 0
    """How often the account had been given to a node when this was taken, as the directory counts; 0 for 1,
    too: such an account never was on another node."""

    @property
    def payload_bytes(self) -> int:
        """Octets between header and padding."""
        pages = self.database.held if self.database else 0
        return pages * PAGE_BYTES + sum(size for _, size in self.files)

    def encode(self) -> bytes:
        """The header as it is written, its length in front."""
        database = self.database and {
            "pages": self.database.pages,
            "page_size": PAGE_BYTES,
            "runs": self.database.runs,
        }
        tree = {
            "version": self.version,
            "stream": self.name.stream,
            "sequence": self.name.sequence,
            "kind": self.name.kind,
            "account": self.account,
            "taken": self.name.taken_ms,
            "previous": self.previous.hex() if self.previous else None,
            "database": database,
            "files": self.files,
            "removed": self.removed,
        } | ({"generation": self.generation} if self.generation else {})
        text = json.dumps(tree, separators=(",", ":")).encode("ascii")
        return len(text).to_bytes(LENGTH_BYTES, "big") + text


def padding_bytes(header: Header, header_bytes: int) -> int:
    """Zeros behind the payload. ``header_bytes`` is the length of ``header.encode()``."""
    size = header_bytes + header.payload_bytes
    return padded_size(size) - size


def decode_header(text: bytes) -> Header:
    """Read the JSON of a header. Raises Malformed for anything but what ``encode`` writes."""
    try:
        header = _header(json.loads(text))
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        raise Malformed("the header is not one of these versions") from None
    if header.encode()[LENGTH_BYTES:] != text:
        raise Malformed("the header is not spelt as it has to be")
    return header


def _header(tree: Any) -> Header:
    version = tree["version"]
    if type(version) is not int or not 1 <= version <= VERSION or not _ACCOUNT.fullmatch(tree["account"]):
        raise Malformed
    name = SegmentName(StreamId(tree["stream"]), tree["sequence"], tree["taken"], Kind(tree["kind"]))
    if parse_name(str(name)) != name:
        raise Malformed
    previous = tree["previous"]
    if previous is not None and not _SHA256.fullmatch(previous):
        raise Malformed
    files = tuple((name, size) for name, size in tree["files"])
    names = [one for one, _ in files]
    if not all(_FILE.fullmatch(one) for one in (*names, *tree["removed"])) or len({*names}) != len(names):
        raise Malformed
    if any(type(size) is not int or size < 0 for _, size in files):
        raise Malformed
    generation = tree.get("generation", 0)
    if type(generation) is not int or generation < 0:
        raise Malformed
    return Header(
        name,
        tree["account"],
        bytes.fromhex(previous) if previous else None,
        _database(tree["database"], name.kind),
        files,
        tuple(tree["removed"]),
        version,
        generation,
    )


def _database(tree: Any, kind: Kind) -> DatabasePart | None:
    if tree is None:
        return None
    pages, runs = tree["pages"], tuple((first, count) for first, count in tree["runs"])
    if type(pages) is not int or pages < 1 or tree["page_size"] != PAGE_BYTES:
        raise Malformed
    at = 0
    for first, count in runs:
        if type(first) is not int or type(count) is not int or first <= at or count < 1:
            raise Malformed
        at = first + count
    if at > pages + 1 or (kind is Kind.FULL and runs != ((1, pages),)):
        raise Malformed
    return DatabasePart(pages, runs)


def runs_of(pages: Iterable[int]) -> tuple[Run, ...]:
    """Page numbers as ascending runs with gaps between them."""
    runs: list[list[int]] = []
    for page in sorted(pages):
        if runs and runs[-1][0] + runs[-1][1] == page:
            runs[-1][1] += 1
        else:
            runs.append([page, 1])
    return tuple((first, count) for first, count in runs)


def pages_of(runs: Iterable[Run]) -> Iterator[int]:
    """The page numbers of runs, ascending."""
    for first, count in runs:
        yield from range(first, first + count)
