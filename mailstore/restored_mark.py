"""What a restore leaves in an account's folder until the next unlock."""

from mailstore.account import AccountPaths
from mailstore.durable import replace_file, storage_errors
from mailstore.errors import StorageFailed

_WITHOUT_DATABASE = b" without a database\n"
"""Ends the mark of a restore to a state before the first login."""


def mark_restored(paths: AccountPaths, restore_id: int) -> None:
    """Make the next unlock give every mailbox a new UIDVALIDITY; also record a restore without database.

    Raises StorageFull, StorageFailed.
    """
    with storage_errors():
        ending = b"\n" if paths.mail_db.exists() else _WITHOUT_DATABASE
        replace_file(paths.restored, b"%d%b" % (restore_id, ending))


def restored_mark(paths: AccountPaths) -> int | None:
    """What :func:`mark_restored` left; None when there is nothing. Raises StorageFailed."""
    with storage_errors():
        try:
            return int(paths.restored.read_bytes().removesuffix(_WITHOUT_DATABASE))
        except FileNotFoundError:
            return None
        except ValueError:
            raise StorageFailed from None


def restored_without_database(paths: AccountPaths) -> bool:
    """Whether a restore left the account without a database, and nobody has unlocked it since.

    Raises StorageFailed.
    """
    with storage_errors():
        try:
            return paths.restored.read_bytes().endswith(_WITHOUT_DATABASE)
        except FileNotFoundError:
            return False
