"""Objects as files in a folder: the embedded default, for a second disk or a mounted share."""

from __future__ import annotations

import errno
import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from backup.errors import ObjectExists, ObjectMissing, StoreRefused, StoreUnavailable
from backup.stores import StoredObject
from mailstore.durable import FILE_MODE, FOLDER_MODE, sync_folder

_NAME = re.compile(r"[0-9a-zA-Z_-]+(/[0-9a-zA-Z_-]+)*")
_TEMPORARY = ".tmp"
_COPY_BYTES = 1024 * 1024


class FileStore:
    """See ``backup.stores.ObjectStore``. The folder must exist: it may be a disk that is not mounted."""

    def __init__(self, folder: Path, prefix: str = "") -> None:
        self._folder = folder
        self._place = folder / prefix if prefix else folder

    @property
    def description(self) -> str:
        """See ``ObjectStore``."""
        return f"file://{self._place}"

    def place(self) -> str:
        """See ``ObjectStore``: an empty mount point is another folder than the disk that was on it."""
        with self._reported():
            self._require_folder()
            found = self._folder.stat()
        return f"{found.st_dev}:{found.st_ino}"

    def put(self, name: str, path: Path, sha256: bytes) -> None:
        """See ``ObjectStore``; that the file system writes what it was given is not checked."""
        target = self._path(name)
        temporary = target.with_name(f".{target.name}.{os.urandom(4).hex()}{_TEMPORARY}")
        with self._reported():
            self._require_folder()
            target.parent.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
            if target.exists():
                raise ObjectExists(name)
            try:
                descriptor = os.open(
                    temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE
                )
                with os.fdopen(descriptor, "wb") as file, path.open("rb") as source:
                    digest = hashlib.sha256()
                    while piece := source.read(_COPY_BYTES):
                        digest.update(piece)
                        file.write(piece)
                    if digest.digest() != sha256:
                        raise StoreUnavailable("the file to be stored is damaged")
                    file.flush()
                    os.fsync(file.fileno())
                # Unlike a rename, a link fails when another writer was first.
                os.link(temporary, target)
            except FileExistsError:
                raise ObjectExists(name) from None
            finally:
                temporary.unlink(missing_ok=True)
            sync_folder(target.parent)
            sync_folder(self._place)

    def get(self, name: str, offset: int, size: int) -> bytes:
        """See ``ObjectStore``."""
        with self._reported():
            try:
                with self._path(name).open("rb") as file:
                    file.seek(offset)
                    return file.read(size)
            except FileNotFoundError:
                raise ObjectMissing(name) from None

    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        """See ``ObjectStore``."""
        with self._reported():
            self._require_folder()
            # Only folders that can contain such names are listed.
            folder = self._place / prefix.rpartition("/")[0]
            found = [path for path in folder.rglob("*") if path.is_file() and path.suffix != _TEMPORARY]
            objects = []
            for path in found:
                name = path.relative_to(self._place).as_posix()
                if name.startswith(prefix):
                    stat = path.stat()
                    objects.append(StoredObject(name, stat.st_size, stat.st_mtime))
        yield from sorted(objects, key=lambda one: one.name)

    def delete(self, names: Sequence[str]) -> None:
        """See ``ObjectStore``."""
        with self._reported():
            touched: set[Path] = set()
            for name in names:
                path = self._path(name)
                path.unlink(missing_ok=True)
                touched.add(path.parent)
                for folder in path.parents:
                    if folder == self._place or not _removed(folder):
                        break
                    touched.discard(folder)
                    touched.add(folder.parent)
            # A deleted object must not come back after a power cut: nobody would delete it again.
            for folder in touched:
                if folder.is_dir():
                    sync_folder(folder)

    def _require_folder(self) -> None:
        if not self._folder.is_dir():
            next_step = "make it, or mount the disk it is on"
            raise StoreUnavailable(f"the folder for snapshots {self._folder} is not there: {next_step}")

    @contextmanager
    def _reported(self) -> Iterator[None]:
        where = f"the folder for snapshots {self._folder}"
        try:
            yield
        except PermissionError:
            raise StoreRefused(f"{where} cannot be opened: it has to belong to the server's user") from None
        except OSError as error:
            code = errno.errorcode.get(error.errno or 0, str(error.errno))
            raise StoreUnavailable(f"{where} reports an error ({code}): look at its disk") from None

    def _path(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise StoreRefused("this is not the name of an object")
        return self._place / name


def _removed(folder: Path) -> bool:
    """Remove a folder if it is empty; whether it is gone."""
    try:
        folder.rmdir()
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            return False
        raise
    return True
