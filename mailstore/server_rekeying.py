"""A database copied under another key, compared with what it was made from, and put in its place.

For files whose pages no snapshot copies. Nobody may have the database open; until the copy takes its name, in
one step, nothing is changed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from mailstore.damage import DamagedDatabase
from mailstore.durable import FILE_MODE, storage_errors, synced, take_place
from mailstore.engine import Database, DatabaseKey, Txn, open_connection
from mailstore.errors import StorageFailed, TooNew
from mailstore.integrity import require_equal
from mailstore.room import ROOM_TO_OPEN_BYTES, ROOM_TO_WRITE_BYTES, log_bytes, require_room

T = TypeVar("T")

_ENDINGS = ("-wal", "-shm", "-journal", "")
"""Of the files of a database; itself last."""


@dataclass(frozen=True, slots=True)
class Rekeying:
    """One database and the keys that it is under, and shall be. Methods block.

    ``version`` is the newest of its schema that is known. They raise DatabaseDamaged, TooNew, StorageFailed,
    StorageFull.
    """

    path: Path
    old: DatabaseKey
    new: DatabaseKey
    version: int
    damage: DamagedDatabase

    @property
    def copy(self) -> Path:
        """Where the copy is made."""
        return self.path.with_name(f"{self.path.name}-new")

    def is_there(self) -> bool:
        """Whether there is a database."""
        with storage_errors():
            return self.path.exists()

    def is_under(self, key: DatabaseKey) -> bool:
        """Whether the database is under that key; what its file begins with is the salt."""
        with storage_errors(), self.path.open("rb") as file:
            return file.read(len(key.salt)) == key.salt

    def prepare(self, amend: Callable[[Txn], T]) -> T:
        """Make the copy, see that it holds the same, and change in it what ``amend`` changes."""
        self.discard()
        with storage_errors():
            size = self.path.stat().st_size + 2 * log_bytes(self.path)
            require_room(self.path.parent, 2 * size + ROOM_TO_OPEN_BYTES + ROOM_TO_WRITE_BYTES)
            self.copy.touch(mode=FILE_MODE)
        old = self._open(self.path, self.old)
        try:
            if int(old.pragma("PRAGMA user_version")[0][0]) > self.version:
                raise TooNew
            new = self._open(self.copy, self.new)
            try:
                old.copy_into(new)
                require_equal(new, old)
                return new.write(0, amend)
            finally:
                new.close()
        finally:
            old.close()  # the last close of a file copies its log back

    def place(self) -> None:
        """Put the copy in the old one's place, which is overwritten."""
        with storage_errors():
            if log_bytes(self.path) or log_bytes(self.copy):
                raise StorageFailed("a log was not copied back")
            for path in (self.path, self.copy):  # a log must never meet another database
                for ending in _ENDINGS[:-1]:
                    path.with_name(path.name + ending).unlink(missing_ok=True)
            synced(self.copy)
            take_place((self.copy, self.path))

    def discard(self) -> None:
        """Remove what an interrupted run has left."""
        with storage_errors():
            for ending in _ENDINGS:
                self.copy.with_name(self.copy.name + ending).unlink(missing_ok=True)

    def _open(self, path: Path, key: DatabaseKey) -> Database:
        return open_connection(path, key, damage=self.damage)
