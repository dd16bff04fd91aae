"""What has to be done to an account's database before anything else is: migrations, the end of a restore."""

from __future__ import annotations

import time
from contextlib import suppress

from mailstore.account import AccountPaths
from mailstore.durable import storage_errors, sync_folder, write_new
from mailstore.engine import Database
from mailstore.ops import mailboxes
from mailstore.restored_mark import restored_mark
from mailstore.schema import migrate


def make_ready(paths: AccountPaths, database: Database) -> None:
    """Bring an open database to today's schema, finish a restore, and note that there is a database now.

    Raises:
        TooNew: the database belongs to a newer program. StorageFailed, StorageFull, Busy.
    """
    migrate(database, int(time.time()))
    _finish_restore(paths, database)
    _note_made(paths)


def _note_made(paths: AccountPaths) -> None:
    with storage_errors():
        if not paths.made.exists():
            with suppress(FileExistsError):  # another process was faster
                write_new(paths.made, b"")
            sync_folder(paths.folder)


def _finish_restore(paths: AccountPaths, database: Database) -> None:
    restore_id = restored_mark(paths)
    if restore_id is not None:
        database.write(int(time.time()), mailboxes.after_restore, restore_id)
        with storage_errors():
            paths.restored.unlink(missing_ok=True)
