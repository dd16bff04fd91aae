"""The connections of one open account: how the first is opened, and how the others."""

from __future__ import annotations

import time
from contextlib import suppress

from mailstore.account import AccountPaths, restored_mark
from mailstore.account_database import another_connection, mail_key, open_database, search_key
from mailstore.damage import DamagedDatabase
from mailstore.durable import storage_errors, sync_folder, write_new
from mailstore.engine import Database, DatabaseKey
from mailstore.ops import mailboxes
from mailstore.schema import migrate
from mailstore.unlock import Unlocked


class Connections:
    """Opens them with the account's key. Its methods block, in the threads of the account's lanes."""

    def __init__(self, paths: AccountPaths, hold: Unlocked, cache_kib: int) -> None:
        self._paths = paths
        self._hold = hold
        self._cache_kib = cache_kib
        self._damage = DamagedDatabase(paths.mail_db)
        self.useless: list[Database] = []
        """Connections that could not be made ready; they have to be closed with the others."""

    def key(self) -> DatabaseKey:
        """The key of the account's database."""
        return mail_key(self._hold.master)

    def search_key(self) -> DatabaseKey:
        """The key of the account's search index."""
        return search_key(self._hold.master)

    def first(self) -> Database:
        """The writer's: it makes or migrates the database, and stays open until all others have ended.

        Raises:
            TooNew: the database belongs to a newer program.
            DatabaseDamaged: it is none, another key's, or lost.
            StorageFailed, StorageFull. Busy: also while the account is being restored.
        """
        database = open_database(
            self._paths,
            self.key(),
            cache_kib=self._cache_kib,
            give_up=self.useless.append,
            damage=self._damage,
            may_create=True,
        )
        try:
            migrate(database, int(time.time()))
            self._finish_restore(database)
            self._note_made()
        except BaseException:
            self.useless.append(database)
            raise
        return database

    def another(self) -> Database:
        """A reader's, while the first one is open.

        Raises:
            DatabaseDamaged, StorageFailed, StorageFull, Busy.
        """
        return another_connection(
            self._paths,
            self.key(),
            cache_kib=self._cache_kib,
            give_up=self.useless.append,
            damage=self._damage,
        )

    def _note_made(self) -> None:
        with storage_errors():
            if not self._paths.made.exists():
                with suppress(FileExistsError):  # another worker was faster
                    write_new(self._paths.made, b"")
                sync_folder(self._paths.folder)

    def _finish_restore(self, database: Database) -> None:
        restore_id = restored_mark(self._paths)
        if restore_id is not None:
            database.write(int(time.time()), mailboxes.after_restore, restore_id)
            with storage_errors():
                self._paths.restored.unlink(missing_ok=True)
