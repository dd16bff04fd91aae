"""An account's search index in this process: opened, filled batch by batch, and made anew when of no use.

All of it is derived from mail.db, so nothing here is ever the reason why something else fails: where there is
no index, or not all is in it yet, messages are read instead. Everything blocks, in threads.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, TypeVar

from mailstore.account import AccountPaths
from mailstore.damage import DamagedDatabase, named
from mailstore.durable import storage_errors
from mailstore.engine import Database, DatabaseKey, open_connection
from mailstore.errors import Busy, DatabaseDamaged, StorageFailed, StorageFull, StoreError
from mailstore.index_progress import note_change, note_complete, note_progress
from mailstore.limits import StoreLimits
from mailstore.locks import locked
from mailstore.ops import index_text, search_index
from mailstore.ops.search_index import IndexText
from mailstore.room import log_bytes, require_margin
from mailstore.search import Candidates, Key, needles

log = logging.getLogger("sealbox.search")

T = TypeVar("T")

BUSY_RETRY_S = 1.0
"""Seconds until the next look at an index that another process is filling."""

FAILED_RETRY_S = 60.0
"""Seconds until indexing, or looking up, is tried again after it failed; on a full disk most likely."""

MAX_NEEDLES = 16
"""Most texts of one search that are looked up in the index, equal ones counted each.

What is found for each of them becomes part of the statement.
"""

LEAVE_S = 1.0
"""How long an account that closes goes on taking removed mail out of its index; then all of it is removed."""

WRITTEN_TIMES = 180
"""What a batch may take on the disk for a while, in octets for each of its characters.

Ordinary text takes less than a tenth. Where each three characters stand there for the first time, as in
random Chinese, a batch takes 25, and one that FTS5 merges with those before it 172 in a shard nearly full.
"""

_AUTOCHECKPOINT_PAGES = 1_000
_LOOK_BACK = 100
"""Messages at a time, from the last one, until one is found that has not been removed."""


class _DamagedIndex(DamagedDatabase):
    """Nobody has to do anything about a damaged index."""

    def tell(self, code: int) -> None:
        """Log it. ``code`` is SQLite's."""
        log.warning("%s is damaged (code %s): it is made anew", named(self.path), code)


class SearchIndex:
    """One connection to search.db, opened when it is first needed."""

    def __init__(self, paths: AccountPaths, key: Callable[[], DatabaseKey], limits: StoreLimits) -> None:
        self._paths = paths
        self._key = key
        self._limits = limits
        self._database: Database | None = None
        self._users = ExitStack()
        self._swept_to = 0
        self._sweep: str | None = None
        self._counted_to = self._indexed = self._to_go = 0
        self._unread_until_s = 0.0

    def close(self) -> None:
        """Close the connection; never raises StoreError."""
        database, self._database = self._database, None
        try:
            if database is not None:
                database.close()
        except StoreError as error:
            self._failed("closing", error)
        finally:
            self._users.close()

    def _failed(self, what: str, error: StoreError) -> None:
        log.error(
            "account %s: %s the search index failed: %s", self._paths.folder.name, what, type(error).__name__
        )

    def leave(self, mail: Database) -> None:
        """Before the account closes: what has left the mail leaves the file of the index, or all does.

        Never raises StoreError. While another process has the index open, that one does it.
        """
        note_change(self._paths)
        deadline = time.monotonic() + LEAVE_S
        try:
            with locked(self._paths.search_write_lock, exclusive=True, timeout_s=0.0):
                database = self._opened(mail, may_make=False)
                if database is None:
                    return
                while self._sweep is not None or self._has_removals(mail, database):
                    if time.monotonic() > deadline:
                        self._discard()
                        return
                    time.sleep(min(self._remove_some(mail, database), LEAVE_S / 20))
        except DatabaseDamaged:
            self._discard()
        except Busy:
            pass
        except StoreError as error:
            self._failed("leaving", error)
            self._discard()

    # -- searching -------------------------------------------------------------------------------------

    def candidates(self, mail: Database, key: Key) -> Candidates | None:
        """What the index says about the texts in ``key``; None when it is of no use.

        It has to be asked before the transaction begins that uses the answer: what leaves the index has
        left mail.db before.
        """
        wanted = needles(key, MAX_NEEDLES)
        if not wanted or time.monotonic() < self._unread_until_s:
            return None
        try:
            database = self._opened(mail, may_make=False)
            if database is None:
                return None
            return database.read(_now(), search_index.candidates, wanted, self._limits.index_candidates)
        except DatabaseDamaged:
            self._discard()
        except Busy:
            pass
        except StoreError as error:
            self._unread_until_s = time.monotonic() + FAILED_RETRY_S
            self._failed("reading", error)
        return None

    # -- indexing --------------------------------------------------------------------------------------

    def work(self, mail: Database) -> float | None:
        """One batch of what there is to do.

        Returns:
            Seconds until there may be more to do; None when all is done until something changes.
        """
        note_change(self._paths)
        try:
            # Whoever has this one indexes; it is let go after each batch.
            with locked(self._paths.search_write_lock, exclusive=True, timeout_s=0.0):
                return self._work(mail)
        except Busy:
            return BUSY_RETRY_S
        except StorageFull:
            return FAILED_RETRY_S
        except StoreError as error:
            self._failed("filling", error)
            return FAILED_RETRY_S

    def _work(self, mail: Database) -> float | None:
        limits = self._limits
        self._require_room()
        try:
            database = self._opened(mail, may_make=True)
            if database is None:
                return FAILED_RETRY_S if self._paths.search_db.exists() else BUSY_RETRY_S
            if self._sweep is not None:
                return self._remove_some(mail, database)
            if self._has_removals(mail, database):
                return 0.0
            after = database.read(_now(), search_index.up_to)
            texts = _texts_after(mail, after, limits)
            if not texts:
                note_complete(self._paths)
                self._empty_log()
                for one in (mail, database):
                    one.pragma("PRAGMA shrink_memory")  # nobody needs what they have cached
                return None
            database.write(_now(), search_index.add, texts)
            self._note_progress(mail, database, after, texts)
        except DatabaseDamaged:
            return BUSY_RETRY_S if self._discard() else FAILED_RETRY_S
        return 0.0

    def _note_progress(
        self, mail: Database, database: Database, after: int, added: Sequence[IndexText]
    ) -> None:
        """Tell how far the index is, unless it is complete; ``added`` follows the message ``after``.

        Messages are counted when a run of batches begins, not with each of them.
        """
        last_id = added[-1].message_id
        if after == self._counted_to and self._to_go > len(added):
            self._indexed, self._to_go = self._indexed + len(added), self._to_go - len(added)
        else:
            self._to_go = _read(mail, search_index.count_after, last_id)
            self._indexed = database.read(_now(), search_index.indexed_count) if self._to_go else 0
        self._counted_to = last_id
        if self._to_go:
            note_progress(self._paths, self._indexed, self._indexed + self._to_go)

    def _require_room(self) -> None:
        """Leave what new mail has to leave, and room for the log of mail.db in its main file.

        A batch goes into the index's own log and from there into its main file, and FTS5 writes anew what it
        merges with it: where mail is taken out, all of a table. Raises StorageFull, StorageFailed.
        """
        limits, mail_db, search_db = self._limits, self._paths.mail_db, self._paths.search_db
        # A batch ends behind the message with which it is full.
        needed = WRITTEN_TIMES * (limits.index_batch_chars + 2 * limits.index_message_chars)
        with storage_errors():
            if self._sweep is not None:
                needed += 2 * search_db.stat().st_size
            needed += log_bytes(mail_db) + log_bytes(search_db)
            try:
                require_margin(self._paths.folder, limits.min_free_bytes, needed)
            except StorageFull:
                self._empty_log()
                raise

    def _empty_log(self) -> bool:
        """Give back the room that the index's log takes; False when a reader was in the way."""
        return self._database is None or not self._database.pragma("PRAGMA wal_checkpoint(TRUNCATE)")[0][0]

    def _has_removals(self, mail: Database, database: Database) -> bool:
        now = _read(mail, search_index.removals)
        if now == database.read(_now(), search_index.removed):
            return False
        self._sweep, self._swept_to = now, 0
        return True

    def _remove_some(self, mail: Database, database: Database) -> float:
        """Take out of one shard what is no longer in mail.db; after the last one the log goes, too."""
        indexed = database.read(_now(), search_index.indexed_after, self._swept_to)
        if indexed:
            alive = _read(mail, search_index.living, indexed[0], indexed[-1])
            gone = [one for one in indexed if one not in alive]
            if gone:
                database.write(_now(), search_index.remove, gone)
            self._swept_to = indexed[-1]
            return 0.0
        # The log still has the pages as they were before.
        if not self._empty_log():
            return BUSY_RETRY_S
        assert self._sweep is not None
        database.write(_now(), search_index.note_removed, self._sweep)
        self._sweep = None
        return 0.0

    # -- opening ---------------------------------------------------------------------------------------

    def _opened(self, mail: Database, *, may_make: bool) -> Database | None:
        """The index, checked; None where there is none, or one of no use is still used by others.

        Raises StoreError.
        """
        if self._database is not None:
            return self._database
        with storage_errors():
            if not may_make and not self._paths.search_db.exists():
                return None
        # Nobody may remove the file while somebody has it open: its log would meet another database.
        self._users.enter_context(locked(self._paths.search_users_lock, exclusive=False, timeout_s=0.0))
        try:
            database = self._database = open_connection(
                self._paths.search_db,
                self._key(),
                cache_kib=self._limits.cache_kib,
                autocheckpoint_pages=_AUTOCHECKPOINT_PAGES,
                damage=_DamagedIndex(self._paths.search_db),
                has_one_writer=True,  # see work
            )
            # A power cut may take the last batches back, in order: then they are done again.
            database.pragma("PRAGMA synchronous=NORMAL")
            mailboxes, last_id = _read(mail, search_index.identity)
            if may_make:
                removals = _read(mail, search_index.removals)
                database.write(_now(), search_index.make, mailboxes, removals)
            elif not database.read(_now(), search_index.is_made):
                self.close()
                return None
            if database.read(_now(), search_index.fits, mailboxes, last_id) and _is_of(database, mail):
                return database
        except DatabaseDamaged:
            pass
        except BaseException:
            self.close()
            raise
        self._discard()
        return None

    def _discard(self) -> bool:
        """Remove an index of no use; False where somebody else still has it open."""
        self.close()
        self._sweep = None
        try:
            return remove_index(self._paths)
        except StoreError as error:
            self._failed("removing", error)
            return False


def remove_index(paths: AccountPaths) -> bool:
    """Remove an account's index, which is made anew while it is open; False where somebody uses it.

    Raises StorageFailed.
    """
    try:
        with locked(paths.search_users_lock, exclusive=True, timeout_s=0.0), storage_errors():
            for path in paths.search_db_files:
                path.unlink(missing_ok=True)
    except Busy:
        return False
    return True


def _is_of(database: Database, mail: Database) -> bool:
    """False where messages are other ones than those that were indexed: mail.db was put back, and grew.

    Ids are given one after the other and never twice, so if the last indexed message that is still there is
    the same one, all before it are. Where none is left the index has nothing about any message.
    """
    end = search_index.END
    while known := database.read(_now(), search_index.indexed_before, end, _LOOK_BACK):
        end = min(known)
        now = _read(mail, search_index.object_ids, end, max(known))
        last = max(known.keys() & now.keys(), default=None)
        if last is not None:
            return known[last] == now[last]
    return True


def _texts_after(mail: Database, after: int, limits: StoreLimits) -> list[IndexText]:
    """The next batch; of one message where some of it cannot be read, so that all others are indexed.

    Raises as :func:`_read`.
    """
    try:
        return mail.read(_now(), index_text.texts_after, after, limits)
    except StorageFailed:
        first = _read(mail, search_index.next_after, after)
    try:
        return mail.read(_now(), index_text.texts_after, after, replace(limits, index_batch_messages=1))
    except StorageFailed:
        # Whoever searches it is told.
        return [] if first is None else [IndexText(*first, None, None)]


def _now() -> int:
    return int(time.time())


def _read(mail: Database, fn: Callable[..., T], *args: Any) -> T:
    """As ``Database.read`` on mail.db; its damage is not the index's.

    Raises StoreError other than DatabaseDamaged.
    """
    try:
        return mail.read(_now(), fn, *args)
    except DatabaseDamaged:
        raise StorageFailed("the database is damaged") from None
