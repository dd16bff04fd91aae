"""The maildrop of one session (RFC 1939 section 5): numbers, sizes and marks for deletion. Pure.

Numbers are fixed when the session begins, whatever other clients do meanwhile. The size of a message
is its size as stored; a message whose lines do not all end with CRLF is a little longer on the wire.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mailstore.model import MaildropEntry, Uid, UidValidity
from mailstore.uidset import UidSet


@dataclass(frozen=True, slots=True)
class Listed:
    """A message of the maildrop."""

    uid: Uid
    size_bytes: int


class NoSuchNumber(Exception):
    """The session has no message with that number, or it is marked for deletion."""


class Maildrop:
    """Messages are numbered from 1."""

    def __init__(self, uid_validity: UidValidity, entries: Sequence[MaildropEntry]) -> None:
        self._uid_validity = uid_validity
        # Arrays, because a maildrop may have a million messages: twelve bytes each.
        self._uids = array("I", (entry.uid for entry in entries))
        self._sizes = array("Q", (entry.size_bytes for entry in entries))
        self._deleted: set[int] = set()
        self._deleted_bytes = 0
        self._total_bytes = sum(self._sizes)

    @property
    def count(self) -> int:
        """Messages not marked for deletion."""
        return len(self._uids) - len(self._deleted)

    @property
    def size_bytes(self) -> int:
        """Octets of the messages not marked for deletion."""
        return self._total_bytes - self._deleted_bytes

    @property
    def deleted(self) -> UidSet:
        """What QUIT removes."""
        return UidSet.of(self._uids[number - 1] for number in sorted(self._deleted))

    def entry(self, number: int) -> Listed:
        """A message that is not marked. Raises NoSuchNumber."""
        if not 1 <= number <= len(self._uids) or number in self._deleted:
            raise NoSuchNumber
        return self._listed(number)

    def _listed(self, number: int) -> Listed:
        return Listed(Uid(self._uids[number - 1]), self._sizes[number - 1])

    def delete(self, number: int) -> None:
        """Mark a message. Raises NoSuchNumber."""
        self._deleted_bytes += self.entry(number).size_bytes
        self._deleted.add(number)

    def reset(self) -> None:
        """Unmark all messages."""
        self._deleted.clear()
        self._deleted_bytes = 0

    def unique_id(self, entry: Listed) -> bytes:
        """The unique-id (RFC 1939 section 7): at most 21 digits and a hyphen, never used again."""
        return b"%d-%d" % (self._uid_validity, entry.uid)

    def scan_lines(self) -> Iterator[bytes]:
        """The lines of LIST."""
        for number, entry in self._numbered():
            yield b"%d %d\r\n" % (number, entry.size_bytes)

    def unique_id_lines(self) -> Iterator[bytes]:
        """The lines of UIDL."""
        for number, entry in self._numbered():
            yield b"%d %s\r\n" % (number, self.unique_id(entry))

    def _numbered(self) -> Iterator[tuple[int, Listed]]:
        for number in range(1, len(self._uids) + 1):
            if number not in self._deleted:
                yield number, self._listed(number)
