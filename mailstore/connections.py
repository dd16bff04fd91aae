"""The connections of one open account: how the first is opened, and how the others."""

from __future__ import annotations

from mailstore.account import AccountPaths
from mailstore.account_database import another_connection, mail_key, open_database, search_key
from mailstore.damage import DamagedDatabase
from mailstore.engine import Database, DatabaseKey
from mailstore.ready_database import make_ready
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
            KeysChanged: the account was unlocked before its keys changed.
            StorageFailed, StorageFull. Busy: also while the account is being restored.
        """
        database = open_database(
            self._paths,
            self.key(),
            cache_kib=self._cache_kib,
            give_up=self.useless.append,
            damage=self._damage,
            may_create=True,
            public_key=self._hold.private_key.public,
        )
        try:
            make_ready(self._paths, database)
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
