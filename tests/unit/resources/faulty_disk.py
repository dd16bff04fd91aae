"""A disk that says no at one step of an operation: a call of Python's or a statement of SQLite's.

Closing, locking and looking at an open file are no steps: what counts has been fsynced before it is closed,
and the rest asks no disk.
"""

from __future__ import annotations

import builtins
import errno
import io
import os
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from sqlcipher3 import dbapi2 as driver

from mailstore.engine import SQLITE_FULL, SQLITE_IOERR

_BY_PATH = (
    *("open", "stat", "lstat", "listdir", "scandir", "mkdir", "rmdir", "unlink", "remove"),
    *("rename", "replace", "link", "utime", "truncate"),
)
_BY_DESCRIPTOR = ("read", "write", "pread", "pwrite", "fsync", "ftruncate", "posix_fallocate")
_TAKES_SPACE = {"open", "mkdir", "rename", "replace", "link", "write", "pwrite", "fsync", "posix_fallocate"}
"""Calls that may find the disk full; of ``open`` only what makes a file."""

_RANDOM = re.compile(
    r"(?<=accounts/)../|(?<=invitations/)\.?[0-9a-z]{8}|[0-9a-f]{8,}(-[0-9a-f]{8,})*|\.[0-9a-f]{1,8}\.(?=[0-9a-f*])"
)
_CHANGES = ("COMMIT", "INSERT", "UPDATE", "DELETE", "CREATE", "PRAGMA wal_checkpoint", "PRAGMA user_version")
_NEVER = ("ROLLBACK", "PRAGMA busy_timeout", "PRAGMA key", "PRAGMA cipher", "PRAGMA temp", "PRAGMA cache")
"""Statements that need no disk."""


Step = tuple[str, int]
"""What is done to which file, and how many times that has been done before."""


@dataclass
class FaultyDisk:
    """Notes the steps below ``place`` that may fail with ``code``; the step ``fails`` does."""

    place: Path = Path("/nowhere")
    fails: Step | None = None
    code: int = errno.EIO
    armed: bool = False
    steps: list[Step] = field(default_factory=list)
    failed: bool = False
    _times: Counter[str] = field(default_factory=Counter)

    def begin(self, code: int, fails: Step | None) -> None:
        """Take note from here on."""
        self.steps, self.failed, self._times = [], False, Counter()
        self.fails, self.code, self.armed = fails, code, True

    def end(self) -> None:
        """A good disk again."""
        self.armed = False

    def step(self, call: str, path: object, *, takes_space: bool) -> bool:
        """Take note of a step; whether it fails."""
        if not self.armed or (self.code != errno.EIO and not takes_space):
            return False
        text = os.fsdecode(path) if isinstance(path, str | bytes | os.PathLike) else ""
        if not text.startswith(str(self.place)):
            return False
        what = f"{call} {_RANDOM.sub('*', os.path.relpath(text, self.place))}"
        self.steps.append((what, self._times[what]))
        self._times[what] += 1
        if self.steps[-1] != self.fails:
            return False
        self.failed = True
        return True

    def no(self) -> OSError:
        """What the system says."""
        return OSError(self.code, os.strerror(self.code))

    def path_of(self, descriptor: int) -> str:
        """The file behind a descriptor."""
        try:
            return os.readlink(f"/proc/self/fd/{descriptor}").removesuffix(" (deleted)")
        except OSError:
            return ""

    def install(self, patch: pytest.MonkeyPatch) -> None:
        """Stand in front of ``os``, ``open`` and the driver."""
        for call in _BY_PATH:
            patch.setattr(os, call, self._by_path(call, getattr(os, call)))
        for call in _BY_DESCRIPTOR:
            patch.setattr(os, call, self._by_descriptor(call, getattr(os, call)))
        opened = self._opened(io.open)
        patch.setattr(io, "open", opened)
        patch.setattr(builtins, "open", opened)
        patch.setattr(driver, "connect", self._connect(driver.connect))

    def _by_path(self, call: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(path: Any = ".", *args: Any, **kwargs: Any) -> Any:
            makes = call != "open" or bool(args and args[0] & os.O_CREAT)
            named = self.path_of(path) if isinstance(path, int) else path
            if self.step(call, named, takes_space=call in _TAKES_SPACE and makes):
                raise self.no()
            return real(path, *args, **kwargs)

        return wrapped

    def _by_descriptor(self, call: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(descriptor: int, *args: Any, **kwargs: Any) -> Any:
            if self.armed and self.step(call, self.path_of(descriptor), takes_space=call in _TAKES_SPACE):
                raise self.no()
            return real(descriptor, *args, **kwargs)

        return wrapped

    def _opened(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
            if not self.armed:
                return real(file, mode, *args, **kwargs)
            path = self.path_of(file) if isinstance(file, int) else file
            makes = any(letter in mode for letter in "wxa")
            if not isinstance(file, int) and self.step("open", path, takes_space=makes):
                raise self.no()
            return _File(self, real(file, mode, *args, **kwargs), path)

        return wrapped

    def _connect(self, real: Callable[..., Any]) -> Callable[..., Any]:
        disk = self

        class Connection(driver.Connection):  # type: ignore[misc]
            def execute(self, sql: str, *args: Any) -> Any:
                disk.statement(self.sealbox_path, sql)
                return super().execute(sql, *args)

            def executemany(self, sql: str, *args: Any) -> Any:
                disk.statement(self.sealbox_path, sql)
                return super().executemany(sql, *args)

            def backup(self, target: Any) -> None:
                disk.statement(target.sealbox_path, "INSERT everything")
                super().backup(target)

        def wrapped(path: str, *args: Any, **kwargs: Any) -> Any:
            if disk.step("connect", path, takes_space=False):
                raise _database_error("unable to open database file", 14)
            connection = real(path, *args, factory=Connection, **kwargs)
            connection.sealbox_path = path
            return connection

        return wrapped

    def statement(self, path: str, sql: str) -> None:
        """One statement is about to be executed."""
        if sql.startswith(_NEVER):
            return
        if self.step(" ".join(sql.split()[:2]), path, takes_space=sql.startswith(_CHANGES)):
            if self.code == errno.EIO:
                raise _database_error("disk I/O error", SQLITE_IOERR)
            raise _database_error("database or disk is full", SQLITE_FULL)


def _database_error(text: str, code: int) -> Exception:
    error: Exception = driver.OperationalError(text)
    error.sqlite_errorcode = code  # type: ignore[attr-defined]
    return error


class _File:
    """An open file whose reads and writes are steps."""

    def __init__(self, disk: FaultyDisk, file: Any, path: object) -> None:
        self._disk, self._file, self._path = disk, file, path

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> _File:
        return self

    def __exit__(self, *_error: object) -> None:
        self._file.close()

    def __iter__(self) -> Any:
        return iter(self._file)

    def read(self, *args: Any) -> Any:
        """A step."""
        if self._disk.step("read", self._path, takes_space=False):
            raise self._disk.no()
        return self._file.read(*args)

    def write(self, data: Any) -> Any:
        """A step."""
        if self._disk.step("write", self._path, takes_space=True):
            raise self._disk.no()
        return self._file.write(data)
