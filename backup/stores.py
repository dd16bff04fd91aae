"""What this package asks of an object store. All implementations pass one suite of tests.

Names are relative to the store's prefix. Methods block; any number of threads may call them at once.
Every method may raise StoreUnavailable (try again later) and StoreRefused (it says no).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One object as a listing shows it; ``modified`` is in epoch seconds."""

    name: str
    size_bytes: int
    modified: float


class ObjectStore(Protocol):
    """Objects that are created once, read in ranges, listed and deleted."""

    @property
    def description(self) -> str:
        """Where this is, for people; without credentials."""

    def place(self) -> str:
        """Identifies the folder or bucket that is there now: changes when a disk is mounted or unmounted."""

    def put(self, name: str, path: Path, sha256: bytes) -> None:
        """Create an object from a file whose SHA-256 is given; completely or not at all.

        Raises:
            ObjectExists: there is one of that name; it stays as it is.
            StoreUnavailable: also when the file does not have that hash; nothing was created.
        """

    def get(self, name: str, offset: int, size: int) -> bytes:
        """``size`` octets from ``offset``, fewer where the object ends. Raises ObjectMissing.

        With ``size`` 0 the store is not asked: the result is empty.
        """

    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        """Objects whose names begin with ``prefix``, sorted by name."""

    def delete(self, names: Sequence[str]) -> None:
        """Delete objects; missing ones are not an error."""
