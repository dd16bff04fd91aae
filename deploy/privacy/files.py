"""Checks of the files below the data root: who may read them, and whether they are ciphertext."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from deploy.config import Config
from deploy.privacy.finding import Check, Finding, listed
from deploy.texts import counted
from mailstore.plain import FIRST_BYTES, plain_kind

_MODES = Check("file modes", (1, 2))
_OTHERS = Check("keys in files", (4, 6))
_PLAIN = Check("plain content", (1, 5))

_KNOWN_FOLDER = re.compile(
    r"control|accounts(/[0-9a-f]{2}(/[0-9a-f]{32}(/inbox)?)?)?|backup(/staging|/scratch)?|log|metrics|invitations|notes|tls|replaced(/[0-9a-f]{32}-\d+)?"
)
"""Folders whose names tell nothing about anybody; other names are not repeated."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A file or folder. ``first`` is how a regular file begins; None if it cannot be read."""

    path: Path = field(repr=False)
    found: os.stat_result = field(repr=False)
    first: bytes | None = field(repr=False)


def entries(root: Path) -> Iterator[Entry]:
    """Everything below ``root``, and ``root``; what vanishes meanwhile is left out.

    Links to folders are followed, each folder once; one to a file may lead to a credential of systemd, which
    has other modes on purpose. Opens every file once. No database of ``root`` may be open in this process:
    closing a descriptor of its file would drop SQLite's locks. Raises OSError when ``root`` cannot be read.
    """
    waiting, seen = [(root, root.stat())], set[tuple[int, int]]()
    while waiting:
        path, found = waiting.pop()
        if stat.S_ISDIR(found.st_mode):
            if (found.st_dev, found.st_ino) in seen:
                continue
            seen.add((found.st_dev, found.st_ino))
        first: bytes | None = b""
        if stat.S_ISDIR(found.st_mode):
            below = _below(path)
            waiting += below or []
            first = None if below is None else first
        elif stat.S_ISREG(found.st_mode):
            first = _beginning(path)
        yield Entry(path, found, first)


def _below(folder: Path) -> list[tuple[Path, os.stat_result]] | None:
    """What is in a folder; None if it cannot be read."""
    found = []
    try:
        for path in folder.iterdir():
            try:
                found.append((path, path.stat() if path.is_dir() else path.lstat()))
            except FileNotFoundError:
                continue
    except FileNotFoundError:
        return []
    except PermissionError:
        return None
    return found


def _beginning(path: Path) -> bytes | None:
    try:
        with path.open("rb") as file:
            return file.read(FIRST_BYTES)
    except FileNotFoundError:
        return b""
    except PermissionError:
        return None


def named(entry: Entry, root: Path) -> str:
    """A file for people: its folder and inode, because names that others gave may tell who they are."""
    place = entry.path if stat.S_ISDIR(entry.found.st_mode) else entry.path.parent
    inside = place.relative_to(root).as_posix() if place.is_relative_to(root) else ""
    while inside not in ("", ".") and not _KNOWN_FOLDER.fullmatch(inside):
        inside = inside.rpartition("/")[0]
    return f"inode {entry.found.st_ino} in {inside if inside not in ('', '.') else 'the data root'}"


def _is_private(entry: Entry, public: Path, sockets: frozenset[Path]) -> bool:
    """Whether only its owner may read and change it; ``public`` is the certificate, which anybody may see."""
    mode = stat.S_IMODE(entry.found.st_mode)
    if entry.path in sockets or stat.S_ISLNK(entry.found.st_mode):
        return True  # sockets have their group's mode on purpose; a link has none of its own
    if entry.path == public:
        return not mode & 0o022
    if stat.S_ISDIR(entry.found.st_mode) and public.is_relative_to(entry.path):
        return not mode & 0o066  # so that others reach the certificate, and see nothing else
    return not mode & 0o077


_FOUND_BY_FSCK = "lost+found"
"""Made by mkfs.ext4 in every volume; root's, and empty."""


def modes(found: Sequence[Entry], config: Config) -> Finding:
    """Everything in the data root is for its owner alone, and belongs to one user."""
    root, owner = config.data, found[0].found.st_uid
    sockets = frozenset(
        Path(one.removeprefix("unix:"))
        for endpoints in config.listen.model_dump().values()
        for one in endpoints
        if one.startswith("unix:")
    )
    public = config.tls.certificate
    # A folder may be entered on the way to the certificate only.
    wrong = [one for one in found if not _is_private(one, public, sockets)]
    foreign = [one for one in found if one.found.st_uid != owner and one.path != root / _FOUND_BY_FSCK]
    if wrong:
        return _MODES.broken(
            f"others may read, change or enter {listed([named(one, root) for one in wrong])}",
            f"find it with 'find {root} -inum NUMBER', then 'chmod go= FILE'; nothing there is for others",
        )
    if foreign:
        return _MODES.broken(
            f"another user owns {listed([named(one, root) for one in foreign])}",
            f"give it to the server's user: 'chown -R --reference={root} {root}'",
        )
    return _MODES.holds(
        f"{counted(len(found), 'file or folder', 'files and folders')} below {root}, for their owner alone"
    )


def content(found: Sequence[Entry], root: Path) -> Finding:
    """Nothing in the data root begins like a database in the clear, like mail or like a core dump."""
    plain = [(one, kind) for one in found if one.first and (kind := plain_kind(one.first)) is not None]
    if plain:
        return _PLAIN.broken(
            f"there is {listed([f'{kind} ({named(one, root)})' for one, kind in plain])}",
            f"find it with 'find {root} -inum NUMBER', find out what wrote it, and 'shred -u' it",
        )
    unread = [one for one in found if one.first is None]
    if unread:
        return _PLAIN.unseen(
            f"this user may not read {listed([named(one, root) for one in unread])}", "run it as root"
        )
    return _PLAIN.holds(
        f"none of {counted(len(found), 'file')} begins like a database, mail or a core dump in the clear"
    )


def _mode(path: Path) -> int:
    """Who may do what with a file; nobody where there is none, or where not even this user gets that far."""
    try:
        return path.stat().st_mode
    except (FileNotFoundError, PermissionError):
        return 0


def secrets(config: Config) -> Finding:
    """The keys that the configuration names are not for everybody."""
    paths = [
        config.tls.private_key,
        config.backup.credentials,
        config.backup.drill_password,
        config.directory.key_file,
    ]
    there = [path for path in paths if path is not None]
    open_to_all = [str(path) for path in there if _mode(path) & 0o007]
    if open_to_all:
        return _OTHERS.broken(f"everybody may read {listed(open_to_all)}", "'chmod o= FILE'")
    return _OTHERS.holds(f"{listed([path.name for path in there])}: not for everybody")
