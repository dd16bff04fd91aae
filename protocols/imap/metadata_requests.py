"""What the commands of METADATA ask for (RFC 5464). Entry names are in lower case: they have no case."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum


class Depth(Enum):
    """How far below a named entry to look (section 4.2.2)."""

    ENTRY = b"0"
    CHILDREN = b"1"
    ALL = b"INFINITY"


@dataclass(frozen=True, slots=True)
class GetMetadata:
    """GETMETADATA (section 4.2); the mailbox ``""`` is the server. ``max_size`` in octets."""

    mailbox: str
    entries: tuple[str, ...] = field(repr=False)
    depth: Depth = Depth.ENTRY
    max_size: int | None = None


@dataclass(frozen=True, slots=True)
class SetMetadata:
    """SETMETADATA (section 4.3); None takes an entry away."""

    mailbox: str
    values: dict[str, bytes | None] = field(repr=False)
