"""Record the file operations of a function: the system calls of a child under ptrace(2), see ``stepper``.

Every call that could change a file below the folder is either understood or an error; and what is recorded,
done again on what was there at first, has to give what is there in the end. Writes through a mapping are not
seen: SQLite maps its -shm file alone, which is left out. The function must not do its work in threads.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import platform
import struct
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import stepper
from file_operations import (
    VOLATILE,
    Node,
    Operation,
    Put,
    Record,
    Remove,
    Resize,
    Said,
    Sync,
    Write,
    contents,
    scanned,
)
from power import State

_CALLS = {
    "x86_64": {
        "write": 1, "pwrite64": 18, "writev": 20, "pwritev": 296, "mmap": 9, "open": 2, "creat": 85,
        "openat": 257, "openat2": 437, "truncate": 76, "ftruncate": 77, "rename": 82, "renameat": 264,
        "renameat2": 316, "link": 86, "linkat": 265, "unlink": 87, "unlinkat": 263, "mkdir": 83,
        "mkdirat": 258, "rmdir": 84, "fsync": 74, "fdatasync": 75, "fallocate": 285, "sendfile": 40,
        "copy_file_range": 326, "splice": 275, "pwritev2": 328, "symlink": 88, "symlinkat": 266,
        "sync": 162, "syncfs": 306, "sync_file_range": 277, "mknodat": 259,
    },
    "aarch64": {
        "write": 64, "pwrite64": 68, "writev": 66, "pwritev": 70, "mmap": 222, "openat": 56, "openat2": 437,
        "truncate": 45, "ftruncate": 46, "renameat": 38, "renameat2": 276, "linkat": 37, "unlinkat": 35,
        "mkdirat": 34, "fsync": 82, "fdatasync": 83, "fallocate": 47, "sendfile": 71,
        "copy_file_range": 285, "splice": 76, "pwritev2": 287, "symlinkat": 36, "sync": 81, "syncfs": 267,
        "sync_file_range": 84, "mknodat": 33,
    },
}  # fmt: skip
_AT_REMOVEDIR, _AT_FDCWD = 0x200, -100
_O_TMPFILE = 0o20000000

After = Callable[[int], None]
"""What to note when the call has returned, with its result."""


class NotUnderstood(Exception):
    """The function did something to a file that this recorder does not know."""


def record(root: Path, function: stepper.Traced) -> tuple[Record, bytes]:
    """Run ``function(say, begin)`` in a child; what it did below ``root`` since ``begin``, and what it said.

    Raises RuntimeError when it fails, NotUnderstood.
    """
    pid, status, read_end = stepper.start(function)
    try:
        tracer = _Tracer(pid, root, os.fstat(read_end).st_ino)
        after: After | None = None
        while os.WIFSTOPPED(status):
            stop = os.WSTOPSIG(status)
            if stop == stepper.SYSCALL_STOP:
                after = tracer.stopped(after)
            signal_no = 0 if stop in (stepper.SYSCALL_STOP, stepper.signal.SIGSTOP) else stop
            stepper.ptrace(stepper.PTRACE_SYSCALL, pid, 0, signal_no)
            _, status = os.waitpid(pid, 0)
    finally:
        if os.WIFSTOPPED(status):
            os.kill(pid, stepper.signal.SIGKILL)
            os.waitpid(pid, 0)
        with os.fdopen(read_end, "rb") as reader:
            said = reader.read()
    if status != 0:
        raise RuntimeError(f"the function failed in the child (status {status})")
    found = Record(tracer.nodes, tracer.operations)
    assert State.of(found, range(len(found.operations))).contents() == contents(root), "the record is true"
    return found.joined(), said


class Immediate:
    """A pool that does its work in the caller's thread, because only that is recorded."""

    def __init__(self, _threads: int, **_: object) -> None:
        pass

    def __enter__(self) -> Immediate:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def submit(self, function: Callable[..., Any], *args: Any) -> Future[Any]:
        """See ``Executor``."""
        done: Future[Any] = Future()
        done.set_result(function(*args))
        return done

    def shutdown(self, **_: object) -> None:
        """Nothing runs."""


class _Tracer:
    """Understands the calls of one stopped child."""

    def __init__(self, pid: int, root: Path, pipe_number: int) -> None:
        self._pid = pid
        self._root = os.path.realpath(root)
        self._pipe_number = pipe_number
        self.nodes, self._known = scanned(root)
        self.operations: list[Operation] = []
        self._names = {number: name for name, number in _CALLS[platform.machine()].items()}

    def stopped(self, after: After | None) -> After | None:
        """At a call's entry: what is to be done at its exit; at its exit it is done."""
        info = stepper.syscall_info(self._pid)
        if info[0] == stepper.SYSCALL_ENTRY:
            number, *arguments = struct.unpack_from("=Q6Q", info, stepper.INFO_NUMBER_AT)
            name = self._names.get(number)
            return None if name is None else self._entered(name, arguments)
        result, failed = struct.unpack_from("=qB", info, stepper.INFO_NUMBER_AT)
        if after is not None and not failed:
            after(result)
        return None

    def _entered(self, name: str, a: list[int]) -> After | None:
        match name:
            case "write" | "pwrite64" | "writev" | "pwritev":
                return self._writes(name, a)
            case "open" | "creat":
                return self._opens(_AT_FDCWD, a[0], a[1] if name == "open" else os.O_CREAT | os.O_TRUNC)
            case "openat":
                return self._opens(a[0], a[1], a[2])
            case "ftruncate":
                return self._resizes(self._descriptor(a[0]), f"/proc/{self._pid}/fd/{a[0]}", a[1])
            case "truncate":
                path = self._path(_AT_FDCWD, a[0])
                return self._resizes(self._node_at(path), path, a[1])
            case "fallocate":
                if a[1]:
                    raise NotUnderstood("fallocate with a mode")
                return self._allocates(a)
            case "fsync" | "fdatasync":
                return self._syncs(a[0])
            case "mmap":
                return self._maps(a)
            case "rename" | "link":
                return self._moves(name, self._path(_AT_FDCWD, a[0]), self._path(_AT_FDCWD, a[1]))
            case "renameat" | "renameat2" | "linkat":
                if name == "renameat2" and a[4]:
                    raise NotUnderstood("renameat2 with flags")
                return self._moves(name, self._path(a[0], a[1]), self._path(a[2], a[3]))
            case "unlink" | "rmdir":
                return self._removes(self._path(_AT_FDCWD, a[0]))
            case "unlinkat":
                return self._removes(self._path(a[0], a[1]))
            case "mkdir" | "mkdirat":
                path = self._path(_AT_FDCWD, a[0]) if name == "mkdir" else self._path(a[0], a[1])
                return self._makes(path, is_folder=True)
            case _:
                return self._unknown(name, a)

    # -- what the calls mean ---------------------------------------------------------------------

    def _writes(self, name: str, a: list[int]) -> After | None:
        if self._is_pipe(a[0]):
            data = self._memory(a[1], a[2])
            return lambda _result: self.operations.append(Said(data))
        node = self._descriptor(a[0])
        if node is None:
            return None
        data = self._memory(a[1], a[2]) if name in ("write", "pwrite64") else self._vector(a[1], a[2])
        place = f"/proc/{self._pid}/fd/{a[0]}"
        offset = a[3] if name in ("pwrite64", "pwritev") else self._position(a[0])

        def after(result: int) -> None:
            written = Write(node, offset, data[:result], os.stat(place).st_mtime_ns)
            self.operations.append(written)

        return after

    def _opens(self, folder: int, address: int, flags: int) -> After | None:
        if flags & _O_TMPFILE == _O_TMPFILE:
            raise NotUnderstood("O_TMPFILE")
        if not flags & (os.O_CREAT | os.O_TRUNC):
            return None
        path = self._path(folder, address)
        if not self._inside(path):
            return None
        if not os.path.lexists(path):
            return self._makes(path, is_folder=False)
        if flags & os.O_TRUNC and os.stat(path).st_size:
            return self._resizes(self._node_at(path), path, 0)
        return None

    def _makes(self, path: str, *, is_folder: bool) -> After | None:
        if not self._inside(path):
            return None

        def after(_result: int) -> None:
            found = os.lstat(path)
            node = Node(found.st_ino, found.st_mtime_ns, entries={} if is_folder else None)
            self._known[found.st_dev, found.st_ino] = len(self.nodes)
            self.nodes.append(node)
            folder, name = self._entry(path)
            self.operations.append(Put(folder, name, len(self.nodes) - 1))

        return after

    def _resizes(self, node: int | None, path: str, size: int) -> After | None:
        if node is None:
            return None
        # Where the size stays the time changes all the same.
        return lambda _result: self.operations.append(Resize(node, size, os.stat(path).st_mtime_ns))

    def _allocates(self, a: list[int]) -> After | None:
        path = f"/proc/{self._pid}/fd/{a[0]}"
        return self._resizes(self._descriptor(a[0]), path, max(a[2] + a[3], os.stat(path).st_size))

    def _syncs(self, descriptor: int) -> After | None:
        node = self._descriptor(descriptor)
        return None if node is None else lambda _result: self.operations.append(Sync(node))

    def _maps(self, a: list[int]) -> After | None:
        shared_and_written = a[3] & mmap.MAP_SHARED and a[2] & mmap.PROT_WRITE
        anonymous = a[3] & mmap.MAP_ANONYMOUS
        if shared_and_written and not anonymous and self._descriptor(_signed(a[4])) is not None:
            raise NotUnderstood("a file is mapped to be written")
        return None

    def _moves(self, name: str, old: str, new: str) -> After | None:
        if not self._inside(old) and not self._inside(new):
            return None
        node = self._node_at(old)
        if node is None:
            return None  # it will fail
        if not (self._inside(old) and self._inside(new)):
            raise NotUnderstood("a file comes or goes over the edge of what is recorded")
        left = self._entry(old) if name.startswith("rename") else None

        def after(_result: int) -> None:
            self.operations.append(Put(*self._entry(new), node, left))

        return after

    def _removes(self, path: str) -> After | None:
        node = self._node_at(path) if self._inside(path) else None
        if node is None:
            return None
        folder, name = self._entry(path)
        return lambda _result: self.operations.append(Remove(folder, name, node))

    def _unknown(self, name: str, a: list[int]) -> After | None:
        if name in ("sendfile", "pwritev2", "sync_file_range"):
            touched = self._descriptor(a[0]) is not None
        elif name in ("copy_file_range", "splice"):
            touched = self._descriptor(a[2]) is not None
        else:
            touched = True
        if touched:
            raise NotUnderstood(name)
        return None

    # -- the child's view ------------------------------------------------------------------------

    def _inside(self, path: str) -> bool:
        return path.startswith(self._root + "/") and not path.endswith(VOLATILE)

    def _path(self, folder: int, address: int) -> str:
        """The path in the child's memory, without links in its folder."""
        text = bytearray()
        while b"\0" not in text:
            text += self._memory(address + len(text), 256 - (address + len(text)) % 256)
        named = os.fsdecode(bytes(text[: text.index(0)]))
        base = "cwd" if _signed(folder) == _AT_FDCWD else f"fd/{folder}"
        if not named.startswith("/"):
            named = os.path.join(os.readlink(f"/proc/{self._pid}/{base}"), named)
        return os.path.join(os.path.realpath(os.path.dirname(named)), os.path.basename(named))

    def _entry(self, path: str) -> tuple[int, str]:
        folder = self._node_at(os.path.dirname(path))
        assert folder is not None, "folders are known"
        return folder, os.path.basename(path)

    def _node_at(self, path: str) -> int | None:
        if path != self._root and not self._inside(path):
            return None
        try:
            found = os.lstat(path)
        except OSError:
            return None
        return self._known[found.st_dev, found.st_ino]

    def _descriptor(self, number: int) -> int | None:
        """The node of an open file; None when it is not below the root, or not of interest."""
        place = f"/proc/{self._pid}/fd/{number}"
        try:
            path = os.readlink(place)
        except OSError:
            return None  # no descriptor: the call will fail
        path = path.removesuffix(" (deleted)")
        if path != self._root and not self._inside(path):
            return None
        found = os.stat(place)
        return self._known[found.st_dev, found.st_ino]

    def _is_pipe(self, number: int) -> bool:
        try:
            path = os.readlink(f"/proc/{self._pid}/fd/{number}")
        except OSError:
            return False
        return path == f"pipe:[{self._pipe_number}]"

    def _position(self, number: int) -> int:
        facts: dict[str, str] = {}
        with open(f"/proc/{self._pid}/fdinfo/{number}") as file:
            for line in file:
                key, _, value = line.partition(":")
                facts[key] = value.strip()
        if int(facts["flags"], 8) & os.O_APPEND:
            return os.stat(f"/proc/{self._pid}/fd/{number}").st_size
        return int(facts["pos"])

    def _memory(self, address: int, size: int) -> bytes:
        with open(f"/proc/{self._pid}/mem", "rb", buffering=0) as file:
            file.seek(address)
            found = b""
            while len(found) < size and (piece := file.read(size - len(found))):
                found += piece
        return found

    def _vector(self, address: int, count: int) -> bytes:
        pairs = struct.iter_unpack("=QQ", self._memory(address, 16 * count))
        return b"".join(self._memory(base, size) for base, size in pairs)


def _signed(descriptor: int) -> int:
    """A descriptor out of a register: a C int."""
    return ctypes.c_int(descriptor & 0xFFFFFFFF).value
