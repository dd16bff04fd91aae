"""Copies of accounts that restores leave in a data root: what one in place has replaced, and work unfinished.

They open with the secrets of their time, so they go with their account when that is deleted, keys first,
and by themselves when nobody needs them any more.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from mailstore.durable import remove_tree, shred, storage_errors, write_new
from mailstore.errors import Busy, HeaderTampered, NoSuchAccount, TooNew
from mailstore.keys import KEYS_FILE, NEW_KEYS_FILE, AccountId, read_header
from mailstore.locks import locked

REPLACED = "replaced"
"""Folder of a data root: one folder for each account that a restore has replaced, named by its id."""

SCRATCH = Path("backup", "scratch")
"""Folder of a data root in which accounts are put together."""

RESTORE_WORK = SCRATCH / "restore"
"""Folder of a data root in which a restore works, and goes on where one was interrupted."""

RESTORE_LOCK = SCRATCH.with_name("restore.lock")
"""flock of a data root, held by the one restore that may run."""

_SEEN = "seen"
"""File in a copy that was looked at by a clock that is trusted: the folder's time until then (epoch s)."""


@dataclass(frozen=True, slots=True)
class Copy:
    """One folder, when it was last changed (epoch s) and how much is in it."""

    folder: Path = field(repr=False)
    changed: float
    size_bytes: int

    @property
    def account_id(self) -> AccountId:
        """The account that was replaced."""
        return AccountId(self.folder.name.partition("-")[0])

    def expires_s(self, kept_s: float) -> float:
        """When :func:`remove_expired` may remove it (epoch s), if copies are kept for ``kept_s``."""
        return self.changed + kept_s


def replaced_copies(root: Path) -> list[Copy]:
    """What restores in place have set aside, oldest first. Raises StorageFailed."""
    with storage_errors():
        return _copies(root / REPLACED)


def copies_of(root: Path, account_id: AccountId) -> list[Path]:
    """The folders with copies of one account. Raises StorageFailed."""
    with storage_errors():
        found = list((root / REPLACED).glob(f"{account_id}-*"))
        scratch = root / SCRATCH
        found += [path.parent for path in scratch.rglob(KEYS_FILE) if _belongs(path.parent, account_id)]
        found += [path for path in scratch.rglob(account_id) if path.is_dir() and path not in found]
        return found


def shred_keys(folder: Path) -> None:
    """Destroy a copy's keys: nothing opens it afterwards. Raises OSError."""
    for keys in (folder / KEYS_FILE, folder / NEW_KEYS_FILE):
        try:
            alone = keys.stat().st_nlink == 1
        except FileNotFoundError:
            continue
        if alone:
            shred(keys)
        else:
            keys.unlink()  # a restore was interrupted here: the other name is the living account's


def remove_expired(root: Path, now_s: float, kept_s: float) -> int:
    """Remove copies that have not changed for ``kept_s`` seconds; returns how many.

    ``now_s`` (epoch s) is the time by a clock that is trusted. The clock may have been wrong when a copy was
    made: one that seems too old at its first look here counts as made now. Raises StorageFailed, StorageFull.
    """
    before_s = now_s - kept_s
    with storage_errors():
        for one in _copies(root / REPLACED):
            _look_at_age(one, before_s, now_s)
        work = root / RESTORE_WORK
        removed = _remove_unchanged(root / REPLACED, before_s)
        removed += _remove_unchanged(root / SCRATCH, before_s, but=work)
        if work.exists():
            # While it is held a restore goes on there, perhaps with what another has left long ago.
            with suppress(Busy), locked(root / RESTORE_LOCK, exclusive=True, timeout_s=0.0):
                removed += _remove_unchanged(work, before_s)
        return removed


def _look_at_age(one: Copy, before_s: float, now_s: float) -> None:
    """Have the folder's time say from when on the copy is kept. Raises OSError."""
    seen = one.folder / _SEEN
    if not seen.exists():
        is_credible = before_s <= one.changed <= now_s
        write_new(seen, b"%d" % one.changed)
        os.utime(one.folder, (one.changed, one.changed) if is_credible else (now_s, now_s))
    elif one.changed < (at_first := float(seen.read_bytes() or 0)) <= now_s:
        # It was the clock of the first look that was behind.
        os.utime(one.folder, (at_first, at_first))


def _remove_unchanged(place: Path, before_s: float, but: Path | None = None) -> int:
    old = [one.folder for one in _copies(place) if one.changed < before_s and one.folder != but]
    for folder in old:
        for keys in [*folder.rglob(KEYS_FILE), *folder.rglob(NEW_KEYS_FILE)]:
            shred_keys(keys.parent)
        remove_tree(folder)
    return len(old)


def _belongs(folder: Path, account_id: AccountId) -> bool:
    try:
        return read_header(folder).header.account_id == account_id
    except (HeaderTampered, TooNew, NoSuchAccount):
        return False  # a header that cannot be read now may be readable tomorrow


def _copies(place: Path) -> list[Copy]:
    if not place.is_dir():
        return []
    found = []
    for folder in place.iterdir():
        everything = [folder, *folder.rglob("*")]
        # Files keep the time of the account that they were; a folder's tells when they came into it.
        changed = max(path.stat().st_mtime for path in everything if path.is_dir() or path == folder)
        found.append(Copy(folder, changed, sum(path.stat().st_size for path in everything if path.is_file())))
    return sorted(found, key=lambda one: one.changed)
