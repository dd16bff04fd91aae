"""kill -9 before the nth system call that can change a file: no step of a function is left out.

The function runs in a forked child under ptrace(2); the parent lets it go from one system call to
the next, counts those that write, create, sync, rename or remove, and kills it before number n.
"""

from __future__ import annotations

import ctypes
import os
import platform
import signal
import struct
from collections.abc import Callable
from dataclasses import dataclass

PTRACE_TRACEME, PTRACE_SYSCALL, PTRACE_SETOPTIONS, PTRACE_GET_SYSCALL_INFO = 0, 24, 0x4200, 0x420E
PTRACE_O_TRACESYSGOOD, PTRACE_O_EXITKILL = 1, 0x100000
SYSCALL_STOP = signal.SIGTRAP | 0x80
SYSCALL_ENTRY = 1
INFO_BYTES, INFO_NUMBER_AT = 88, 24

_OPENAT = {"x86_64": 257, "aarch64": 56}
_CHANGING = {
    # write pwrite64 writev flock fsync fdatasync ftruncate rename mkdir rmdir link unlink, then the
    # *at forms, fallocate and pwritev
    "x86_64": {1, 18, 20, 73, 74, 75, 77, 82, 83, 84, 86, 87, 258, 263, 264, 265, 285, 296, 316, 257},
    "aarch64": {32, 34, 35, 37, 38, 46, 47, 56, 64, 66, 68, 70, 82, 83, 276},
}
_OPEN_CHANGES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
_libc.ptrace.restype = ctypes.c_long


def ptrace(request: int, pid: int, address: int = 0, data: int = 0) -> int:
    """ptrace(2). Raises OSError."""
    result: int = _libc.ptrace(request, pid, address, data)
    if result < 0:
        raise OSError(ctypes.get_errno(), "ptrace")
    return result


def to_be_tried() -> bool:
    """Whether the kills are tried here; where CI runs, always: a missing proof must not look green."""
    return bool(os.environ.get("CI")) or possible()


def possible() -> bool:
    """Whether this machine lets us trace our own children."""
    if platform.machine() not in _CHANGING:
        return False
    pid = os.fork()
    if not pid:
        os._exit(0 if _libc.ptrace(PTRACE_TRACEME, 0, None, None) == 0 else 1)
    return os.waitpid(pid, 0)[1] == 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended. ``said`` are the bytes that the function wrote with its first argument."""

    killed: bool
    steps: int
    said: bytes


def syscall_info(pid: int) -> bytes:
    """What PTRACE_GET_SYSCALL_INFO tells of the system call at which the child has stopped."""
    info = ctypes.create_string_buffer(INFO_BYTES)
    ptrace(PTRACE_GET_SYSCALL_INFO, pid, INFO_BYTES, ctypes.addressof(info))
    return info.raw


def _is_step(pid: int) -> bool:
    """Whether the child is about to make a system call that can change a file."""
    info = syscall_info(pid)
    if info[0] != SYSCALL_ENTRY:
        return False
    number, _first, _path, flags = struct.unpack_from("=QQQQ", info, INFO_NUMBER_AT)
    machine = platform.machine()
    if number == _OPENAT[machine]:
        return bool(flags & _OPEN_CHANGES)
    return number in _CHANGING[machine]


Traced = Callable[[Callable[[bytes], object], Callable[[], None]], None]
"""``function(say, begin)``: what it says is read when it has ended; it is traced from ``begin`` on."""


def _child(function: Traced, write_end: int) -> None:
    def begin() -> None:
        _libc.ptrace(PTRACE_TRACEME, 0, None, None)
        os.kill(os.getpid(), signal.SIGSTOP)

    code = 1
    try:
        function(lambda data: os.write(write_end, data), begin)
        code = 0
    finally:
        os._exit(code)


def start(function: Traced) -> tuple[int, int, int]:
    """Run ``function`` in a child up to ``begin``: its pid, its status and where to read what it says."""
    read_end, write_end = os.pipe()
    pid = os.fork()
    if not pid:
        _child(function, write_end)
    os.close(write_end)
    _, status = os.waitpid(pid, os.WUNTRACED)
    if os.WIFSTOPPED(status):
        ptrace(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL)
    return pid, status, read_end


def run(function: Traced, kill_at: int | None) -> Outcome:
    """Run ``function(say, begin)`` in a child and kill it before step ``kill_at`` (from 1); None: never.

    Steps count from the call of ``begin``. A function that fails raises RuntimeError here.
    """
    pid, status, read_end = start(function)
    steps, killed = 0, False
    while os.WIFSTOPPED(status):
        stop = os.WSTOPSIG(status)
        if stop == SYSCALL_STOP and _is_step(pid):
            steps += 1
            if steps == kill_at:
                os.kill(pid, signal.SIGKILL)
                killed = True
        if not killed:
            ptrace(PTRACE_SYSCALL, pid, 0, 0 if stop in (SYSCALL_STOP, signal.SIGSTOP) else stop)
        _, status = os.waitpid(pid, 0)
    with os.fdopen(read_end, "rb") as reader:
        said = reader.read()
    if not killed and status != 0:
        raise RuntimeError(f"the function failed in the child (status {status})")
    return Outcome(killed, steps, said)
