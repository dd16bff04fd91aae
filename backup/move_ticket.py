"""What the source of a move tells the target: which segments lead to the account, and what opens them.

It is a part of a sealed row of the directory (``mailstore.directory.moves``), which the nodes alone can read.
mailstore/FORMAT.md section 18.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from backup.segment import Kind, SegmentName, parse_name
from backup.state import Segment
from mailstore.account import AccountPaths
from mailstore.durable import replace_file, storage_errors
from mailstore.errors import StorageFailed
from mailstore.mail_size import note_mail_size, used_bytes
from mailstore.pop3_login import FILE_NAME as POP3_LOGIN


@dataclass(frozen=True, slots=True)
class Notes:
    """What an account's folder has beside the files of snapshots, and has to have at the target, too."""

    restored: str | None = None
    """The content of ``restored``: the next unlock gives every mailbox a new UIDVALIDITY."""

    made: bool = False
    pop3_login_s: float | None = None
    mail_bytes: int | None = None
    """See ``mailstore.mail_size``."""

    @classmethod
    def read(cls, paths: AccountPaths) -> Notes:
        """Those of an account that nobody has open. Raises StorageFailed, NoSuchAccount, Busy."""
        with storage_errors():
            restored, pop3_login_s = None, None
            with suppress(FileNotFoundError):
                restored = paths.restored.read_text("ascii")
            with suppress(FileNotFoundError):
                found = (paths.folder / POP3_LOGIN).stat()
                pop3_login_s = found.st_mtime if found.st_size else None
            return cls(restored, paths.made.exists(), pop3_login_s, used_bytes(paths, waiting=0))

    def write(self, paths: AccountPaths) -> None:
        """Put them into a folder that has been rebuilt. Raises StorageFull, StorageFailed."""
        with storage_errors():
            if self.restored is not None:
                replace_file(paths.restored, self.restored.encode("ascii"))
            if self.made:
                replace_file(paths.made, b"")
            if self.pop3_login_s is not None:
                replace_file(paths.folder / POP3_LOGIN, b"\n")
                os.utime(paths.folder / POP3_LOGIN, (self.pop3_login_s, self.pop3_login_s))
        note_mail_size(paths, self.mail_bytes)


@dataclass(frozen=True, slots=True)
class Ticket:
    """The segments of the account, a full one and the changes behind it, in a store."""

    store: str
    """The URL of the source's store."""

    segments: tuple[Segment, ...] = field(repr=False)
    notes: Notes = field(default_factory=Notes, repr=False)
    rounds: int = 1
    """How often the target is asked to copy."""

    @property
    def names(self) -> tuple[SegmentName, ...]:
        """In order."""
        return tuple(one.name for one in self.segments)

    def bytes_beside(self, other: Iterable[Segment]) -> int:
        """How large those of ``other`` are that are not in this one."""
        known = set(self.names)
        return sum(one.size_bytes for one in other if one.name not in known)

    def value(self) -> dict[str, Any]:
        """As it is written."""
        notes = self.notes
        return {
            "store": self.store,
            "rounds": self.rounds,
            "segments": [
                [str(one.name), one.size_bytes, one.sha256.hex(), one.content_key.hex()]
                for one in self.segments
            ],
            "notes": {
                "restored": notes.restored,
                "made": notes.made,
                "pop3_login_s": notes.pop3_login_s,
                "mail_bytes": notes.mail_bytes,
            },
        }

    @classmethod
    def of(cls, value: Mapping[str, Any] | None) -> Ticket:
        """Read it. Raises StorageFailed: it is none."""
        try:
            assert value is not None
            return cls(
                str(value["store"]),
                tuple(_segment(*one) for one in value["segments"]),
                Notes(**value["notes"]),
                int(value["rounds"]),
            )
        except (AssertionError, KeyError, TypeError, ValueError):
            raise StorageFailed("the ticket of a move cannot be read") from None


def _segment(name: str, size_bytes: int, sha256: str, content_key: str) -> Segment:
    found = parse_name(name)
    if found is None:
        raise ValueError
    return Segment(found, int(size_bytes), bytes.fromhex(sha256), bytes.fromhex(content_key), stored=True)


def newest_chain(segments: Iterable[Segment]) -> tuple[Segment, ...]:
    """The newest full segment, and those behind it; empty where this server does not have the keys to all."""
    chain: list[Segment] = []
    for one in segments:
        if one.name.kind is Kind.FULL:
            chain = []
        chain.append(one)
    is_whole = bool(chain) and chain[0].name.kind is Kind.FULL and all(one.content_key for one in chain)
    return tuple(chain) if is_whole else ()
