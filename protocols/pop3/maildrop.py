"""The maildrop of one session (RFC 1939 section 5): numbers, sizes and marks for deletion. Pure.

Numbers are fixed when the session begins, whatever other clients do meanwhile. The size of a message
is its size as stored; a message whose lines do not all end with CRLF is a little longer on the wire.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mailstore.model import MaildropId, MaildropListing, Uid
from mailstore.uidset import UidSet

_LEAST_BYTES = 1024
"""What a message counts for at least when it is read ahead: it takes memory, and time, without any text."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A message of the maildrop."""

    uid: Uid
    size_bytes: int


class NoSuchNumber(Exception):
    """The session has no message with that number, or it is marked for deletion."""


class Maildrop:
    """Messages are numbered from 1."""

    def __init__(self, listing: MaildropListing) -> None:
        self._uids = listing.uids
        self._sizes = listing.sizes
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

    def after(self, number: int, max_bytes: int) -> tuple[Uid, ...]:
        """The messages that follow, up to one that is marked or does not fit into ``max_bytes`` any more."""
        uids: list[Uid] = []
        for following in range(number + 1, len(self._uids) + 1):
            max_bytes -= max(self._sizes[following - 1], _LEAST_BYTES)
            if max_bytes < 0 or following in self._deleted:
                break
            uids.append(Uid(self._uids[following - 1]))
        return tuple(uids)

    def delete(self, number: int) -> None:
        """Mark a message. Raises NoSuchNumber."""
        self._deleted_bytes += self.entry(number).size_bytes
        self._deleted.add(number)

    def reset(self) -> None:
        """Unmark all messages."""
        self._deleted.clear()
        self._deleted_bytes = 0

    def numbers(self) -> Iterator[int]:
        """The numbers of the messages that are not marked."""
        return (number for number in range(1, len(self._uids) + 1) if number not in self._deleted)


def unique_id(message: MaildropId) -> bytes:
    """The unique-id (RFC 1939 section 7): of 1 to 70 printable characters, never used again.

    It stays when the message comes back from a snapshot; ``mailstore.ops.maildrop.ids`` says why.
    """
    return b"%s-%x-%x" % (message.object_id.encode("ascii"), message.save_date, message.uid)
