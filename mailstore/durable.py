"""Files that are there entirely or not at all, also after a power cut: write, fsync, rename, fsync folder."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from mailstore.errors import StorageFailed, StorageFull

FILE_MODE = 0o600
FOLDER_MODE = 0o700
_REMOVAL_ATTEMPTS = 10
_CHUNK_BYTES = 1024 * 1024

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@contextmanager
def storage_errors() -> Iterator[None]:
    """Turn OSError into StorageFull or StorageFailed, without the path in the text."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise StorageFull("the disk is full") from error
        raise StorageFailed from error


def write_new(path: Path, data: bytes) -> None:
    """Create ``path`` (it must not exist) with ``data`` on the disk; the folder is not fsynced.

    A failed write leaves no file. Raises OSError.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)
    try:
        with os.fdopen(descriptor, "wb", buffering=0) as file:
            rest = memoryview(data)
            while rest:
                rest = rest[file.write(rest) :]
            os.fsync(file.fileno())
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def replace_file(path: Path, data: bytes) -> None:
    """Put ``data`` at ``path`` in one step; a reader sees the old bytes or the new. Raises OSError."""
    temporary = path.with_name(f".{path.name}.{os.getpid():x}.{os.urandom(4).hex()}.tmp")
    write_new(temporary, data)
    try:
        temporary.rename(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def synced(path: Path) -> int:
    """Have a database on the disk, which SQLite does not promise of a copy; its size. Raises OSError."""
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        path.chmod(FILE_MODE)
        os.fsync(descriptor)
        return os.fstat(descriptor).st_size
    finally:
        os.close(descriptor)


def take_place(*pairs: tuple[Path, Path]) -> list[int]:
    """Give the first file of each pair, which is on the disk, the name of the second; each durably, in order.

    What the second ones held is overwritten afterwards, unless it has another name, too. Returns how many
    octets that were. Raises OSError: what has not been renamed is as it was.
    """
    with ExitStack() as stack:
        replaced = []
        for new, old in pairs:
            descriptor = os.open(old, os.O_RDWR | os.O_CLOEXEC)
            stack.callback(os.close, descriptor)
            new.rename(old)
            sync_folder(old.parent)
            replaced.append((descriptor, os.fstat(descriptor)))
        for descriptor, before in replaced:
            if not before.st_nlink:
                with suppress(OSError):
                    _overwrite(descriptor, before.st_size)
        return [before.st_size for _, before in replaced]


def _overwrite(descriptor: int, size_bytes: int) -> None:
    """So that what is deleted later does not stay in space that nobody uses. Raises OSError."""
    for at in range(0, size_bytes, _CHUNK_BYTES):
        os.pwrite(descriptor, bytes(min(_CHUNK_BYTES, size_bytes - at)), at)
    os.fsync(descriptor)


def sync_folder(folder: Path) -> None:
    """Make renames and unlinks in ``folder`` durable. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Create ``folder`` (parents must exist) for its owner only, and make that durable.

    Also if it exists: whoever created it may have died before making that durable.
    """
    with suppress(FileExistsError):  # exist_ok would pass over any other error, too
        folder.mkdir(mode=FOLDER_MODE)
    sync_folder(folder.parent)


def make_folders(folder: Path) -> None:
    """As ``make_folder``, with the folders above where they are missing; those get the usual mode."""
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
    for one in missing:
        sync_folder(one.parent)


def shred(path: Path) -> None:
    """Overwrite a file and remove it, durably; nothing happens when it is not there. Raises OSError."""
    # Overwriting helps on disks that write in place; elsewhere LUKS and the unlink have to suffice.
    try:
        with path.open("r+b", buffering=0) as file:
            file.write(os.urandom(path.stat().st_size))
            os.fsync(file.fileno())
        path.unlink()
    except FileNotFoundError:
        return
    sync_folder(path.parent)


def remove_tree(folder: Path) -> None:
    """Remove a folder, or a file, with all that is in it, durably. Raises StorageFailed."""
    for _attempt in range(_REMOVAL_ATTEMPTS):
        # A delivery that was already under way may put a file back between listing and rmdir.
        if folder.is_dir():
            shutil.rmtree(folder, ignore_errors=True)
        else:
            folder.unlink(missing_ok=True)
        if not folder.exists():
            if folder.parent.is_dir():
                sync_folder(folder.parent)
            return
    raise StorageFailed
