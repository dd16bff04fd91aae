"""Where invitations lie: ``invitations/ID`` below the data root, one file each. Blocks; for threads.

They are in no snapshot: a restore brings no link back to life.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from mailstore.durable import make_folder, replace_file, shred, storage_errors
from mailstore.errors import HeaderTampered
from mailstore.keys import (
    INVITATION_FILE_BYTES,
    AccountId,
    Invitation,
    SlotId,
    decode_invitation,
    encode_invitation,
)

FOLDER = "invitations"
_LEFTOVER_AGE_S = 3600.0


def read_invitation(root: Path, slot_id: SlotId) -> Invitation | None:
    """The invitation with that id, None if there is none (any more) or its file is damaged.

    Raises StorageFailed.
    """
    with storage_errors():
        try:
            with _path(root, slot_id).open("rb") as file:
                data = file.read(INVITATION_FILE_BYTES + 1)
        except FileNotFoundError:
            return None
    try:
        found = decode_invitation(data)
    except HeaderTampered:
        return None
    return found if found.id == slot_id else None


def write_invitation(root: Path, invitation: Invitation) -> None:
    """Keep an invitation; on disk for good when this returns. Raises StorageFull, StorageFailed: not kept."""
    path = _path(root, invitation.id)
    with storage_errors():
        make_folder(root / FOLDER)
        try:
            replace_file(path, encode_invitation(invitation))
        except OSError:
            with suppress(OSError):
                shred(path)
            raise


def remove_invitation(root: Path, slot_id: SlotId) -> None:
    """Destroy an invitation; nothing happens when it is not there. Raises StorageFull, StorageFailed."""
    with storage_errors():
        shred(_path(root, slot_id))


def invitations(root: Path, account_id: AccountId | None = None) -> list[Invitation]:
    """All that are there, also those that have run out, the oldest first; of one account if given.

    Raises StorageFailed.
    """
    with storage_errors():
        names = [path.name for path in _files(root)]
    found = (read_invitation(root, SlotId(name)) for name in names)
    mine = [one for one in found if one is not None and account_id in (None, one.account_id)]
    return sorted(mine, key=lambda one: (one.created, one.id))


def remove_invitations(root: Path, account_id: AccountId) -> None:
    """Destroy all invitations of an account. Raises StorageFull, StorageFailed."""
    for one in invitations(root, account_id):
        remove_invitation(root, one.id)


def remove_expired(root: Path, now_s: float) -> int:
    """Destroy those that have run out, and what is no invitation; how many. ``now_s`` is in epoch seconds.

    Raises StorageFull, StorageFailed.
    """
    with storage_errors():
        gone = [path for path in _files(root) if _is_over(root, path, now_s)]
        for path in gone:
            shred(path)
    return len(gone)


def _is_over(root: Path, path: Path, now_s: float) -> bool:
    found = read_invitation(root, SlotId(path.name))
    if found is not None:
        return found.not_after < now_s
    try:
        # Perhaps one that is being written; what a killed process has left is older.
        return path.stat().st_mtime < now_s - _LEFTOVER_AGE_S
    except FileNotFoundError:
        return False


def _files(root: Path) -> list[Path]:
    folder = root / FOLDER
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _path(root: Path, slot_id: SlotId) -> Path:
    return root / FOLDER / slot_id
