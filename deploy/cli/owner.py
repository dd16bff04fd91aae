"""Commands run by root switch to the user who owns the data, so that the server can read what they write.

Key files named on the command line may be readable by root only: they are opened as the caller.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mailstore.durable import storage_errors
from mailstore.server_key import SERVER_KEY_NAME


@dataclass(frozen=True, slots=True)
class Owner:
    """A user of this machine; ``name`` is None for one that has an id alone."""

    uid: int
    gid: int
    name: str | None

    def __str__(self) -> str:
        return self.name or f"the user {self.uid}"


def other_owner(root: Path) -> Owner | None:
    """The owner of ``root``, if root runs the command and is not the owner. Raises StorageFailed."""
    if os.geteuid() != 0:
        return None
    key = root / SERVER_KEY_NAME
    # A link leads to a credential of systemd, which belongs to root.
    ids = (None if key.is_symlink() else _ids(key)) or _ids(root)
    return None if ids is None or ids[0] == 0 else _owner(*ids)


def _ids(path: Path) -> tuple[int, int] | None:
    """A file's user and group; None when there is no such file."""
    with storage_errors():
        try:
            found = path.stat()
        except FileNotFoundError:
            return None
    return found.st_uid, found.st_gid


def _owner(uid: int, gid: int) -> Owner:
    try:
        user = pwd.getpwuid(uid)
    except KeyError:
        return Owner(uid, gid, None)
    return Owner(uid, user.pw_gid, user.pw_name)


@contextmanager
def working_as(owner: Owner | None) -> Iterator[None]:
    """Become that user, with that user's groups and no other rights; None changes nothing."""
    if owner is None:
        yield
        return
    groups, gid = os.getgroups(), os.getegid()
    if owner.name is None:
        os.setgroups([])
    else:
        os.initgroups(owner.name, owner.gid)
    os.setegid(owner.gid)
    os.seteuid(owner.uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(gid)
        os.setgroups(groups)


@contextmanager
def as_caller() -> Iterator[None]:
    """Become the user who ran the command again, for files that were named on its command line."""
    uid = os.geteuid()
    os.seteuid(os.getuid())
    try:
        yield
    finally:
        os.seteuid(uid)
