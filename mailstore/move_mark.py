"""The marks that a move leaves in an account's folder: a file with the move's id.

``moving`` closes the account at the source: nobody opens it, nothing is delivered, no command changes it.
``arrived`` says that the folder at the target is what that move has built; it keeps nobody out. Only the
process that takes snapshots writes and removes them, after a look at the directory (``directory.moves``).
"""

from __future__ import annotations

from pathlib import Path

from mailstore.account import AccountPaths
from mailstore.directory import MoveId
from mailstore.durable import replace_file, storage_errors, sync_folder
from mailstore.errors import AccountMoving


def mark_at(path: Path) -> MoveId | None:
    """What is marked there. Raises StorageFailed."""
    with storage_errors():
        try:
            return MoveId(path.read_text("ascii", "replace").strip())
        except FileNotFoundError:
            return None


def put_mark(path: Path, move_id: MoveId) -> None:
    """Mark it, durably. Raises StorageFull, StorageFailed."""
    with storage_errors():
        replace_file(path, move_id.encode("ascii") + b"\n")


def remove_mark(path: Path) -> None:
    """Remove the mark, durably; nothing where there is none. Raises StorageFailed."""
    with storage_errors():
        path.unlink(missing_ok=True)
        if path.parent.is_dir():
            sync_folder(path.parent)


def require_not_moving(paths: AccountPaths) -> None:
    """Raises AccountMoving, StorageFailed."""
    with storage_errors():
        if paths.moving.exists():
            raise AccountMoving("it is being moved to another node: wait until it is there")
