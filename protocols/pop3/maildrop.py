"""The maildrop of one session (RFC 1939 section 5): numbers, sizes and marks for deletion. Pure.

Numbers are fixed when the session begins, whatever other clients do meanwhile. The size of a message
is its size as stored; a message whose lines do not all end with CRLF is a little longer on the wire.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mailstore.model import MaildropEntry, UidValidity
from mailstore.uidset import UidSet


class NoSuchNumber(Exception):
    """The session has no message with that number, or it is marked for deletion."""


class Maildrop:
    """Messages are numbered from 1."""

    def __init__(self, uid_validity: UidValidity, entries: Sequence[MaildropEntry]) -> None:
        self._uid_validity = uid_validity
        self._entries = tuple(entries)
        self._deleted: set[int] = set()
        self._deleted_bytes = 0
        self._total_bytes = sum(entry.size_bytes for entry in self._entries)

    @property
    def count(self) -> int:
        """Messages not marked for deletion."""
        return len(self._entries) - len(self._deleted)

    @property
    def size_bytes(self) -> int:
        """Octets of the messages not marked for deletion."""
        return self._total_bytes - self._deleted_bytes

    @property
    def deleted(self) -> UidSet:
        """What QUIT removes."""
        return UidSet.of([self._entries[number - 1].uid for number in sorted(self._deleted)])

    def entry(self, number: int) -> MaildropEntry:
        """A message that is not marked. Raises NoSuchNumber."""
        if not 1 <= number <= len(self._entries) or number in self._deleted:
            raise NoSuchNumber
        return self._entries[number - 1]

    def delete(self, number: int) -> None:
        """Mark a message. Raises NoSuchNumber."""
        self._deleted_bytes += self.entry(number).size_bytes
        self._deleted.add(number)

    def reset(self) -> None:
        """Unmark all messages."""
        self._deleted.clear()
        self._deleted_bytes = 0

    def unique_id(self, entry: MaildropEntry) -> bytes:
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

    def _numbered(self) -> Iterator[tuple[int, MaildropEntry]]:
        for number, entry in enumerate(self._entries, 1):
            if number not in self._deleted:
                yield number, entry
