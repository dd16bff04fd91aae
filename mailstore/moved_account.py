"""What becomes of an account's folder when the account has another node, or does not come here after all.

Everything here is done inside ``placing.placing``, by callers who have looked there what is due.
"""

from __future__ import annotations

import os
from pathlib import Path

from mailstore.account import AccountPaths
from mailstore.directory import MoveId
from mailstore.durable import make_folder, remove_tree, replace_file, storage_errors, sync_folder
from mailstore.errors import Busy, StorageFailed
from mailstore.eviction import is_closed
from mailstore.invitation_files import remove_invitations
from mailstore.keys import KEYS_LOCK, AccountId
from mailstore.move_mark import mark_at, put_mark, remove_mark
from mailstore.set_aside import REPLACED, shred_keys
from mailstore.this_node import last_generation


def set_aside_moved(root: Path, paths: AccountPaths, move_id: MoveId, generation: int) -> None:
    """Put away the files of an account that has gone with ``move_id``, and which ``moving`` keeps closed.

    A folder remains that says which ``generation`` it has at its new node: however old the directory is that
    somebody brings back here, nothing is opened or delivered. After a crash, call it again. Raises
    StorageFull, StorageFailed.
    """
    with storage_errors():
        replace_file(paths.node, b"%d\n" % generation)
        for path in paths.search_db_files:
            path.unlink(missing_ok=True)
        kept = _kept(root, paths, move_id[:14])
        make_folder(kept)
        stays = {paths.node.name, paths.moving.name, paths.lock.name, KEYS_LOCK}
        for path in sorted(paths.folder.iterdir()):
            if path.name not in stays:
                path.rename(kept / path.name)
        sync_folder(kept)
        sync_folder(paths.folder)
    remove_invitations(root, AccountId(paths.folder.name))
    remove_mark(paths.moving)


def put_in_place(root: Path, built: Path, paths: AccountPaths, move_id: MoveId, generation: int) -> None:
    """Give the folder that ``move_id`` has built its place; nobody opens it before the directory says so.

    What is there from an earlier time is put away. After a crash, call it again. Raises Busy: somebody has
    that open. StorageFull, StorageFailed.
    """
    if mark_at(paths.arrived) == move_id:
        return
    fresh = AccountPaths(built)
    with storage_errors():
        replace_file(fresh.node, b"%d\n" % generation)
        put_mark(fresh.arrived, move_id)
        if paths.folder.exists():
            if not is_closed(paths):
                raise Busy
            if paths.keys.exists() or paths.mail_db.exists() or paths.inbox.exists():
                _put_away(root, paths, f"{move_id[:13]}0")
            else:
                remove_tree(paths.folder)
        make_folder(root / "accounts")
        make_folder(paths.folder.parent)
        built.rename(paths.folder)
        sync_folder(paths.folder.parent)


def throw_away(root: Path, paths: AccountPaths, generation: int | None) -> None:
    """Remove a folder that a move has put in its place and that the directory gives to another node.

    ``generation`` is the directory's, None for an account that was deleted. If it has come as far as the
    folder's, or the folder cannot tell its own, the account may have been here for a time: then the folder is
    put away. Raises StorageFailed.
    """
    move_id = mark_at(paths.arrived)
    with storage_errors():
        if generation is not None and generation >= _generation_at(paths):
            _put_away(root, paths, f"{(move_id or 'lost')[:13]}1")
            return
        shred_keys(paths.folder)
        remove_tree(paths.folder)


def _generation_at(paths: AccountPaths) -> int:
    """That of the folder; 0 where it is damaged, so that any other one is as new."""
    try:
        return last_generation(paths)
    except StorageFailed:
        return 0


def _put_away(root: Path, paths: AccountPaths, name: str) -> None:
    """Raises OSError."""
    os.utime(paths.folder)  # from now on it is kept for the retention time
    paths.folder.rename(_kept(root, paths, name))
    sync_folder(paths.folder.parent)


def _kept(root: Path, paths: AccountPaths, name: str) -> Path:
    """Among what restores have replaced, which goes with the retention time. Raises OSError."""
    make_folder(root / REPLACED)
    return root / REPLACED / f"{paths.folder.name}-{name}"
