"""Keep keys out of swap and core dumps, as far as the system lets a Python program.

Every function is best effort and reports what it achieved. Python copies bytes as it likes, so wiping
a buffer removes the long-lived copy, not every trace; that is why core dumps are off and swap is to
be encrypted or absent.
"""

import ctypes
import resource
from dataclasses import dataclass

_PR_SET_DUMPABLE = 4
_PR_GET_DUMPABLE = 3
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Hardening:
    """What :func:`process_hardening` achieved. ``lockable_bytes`` None means without limit."""

    core_dumps_off: bool
    not_dumpable: bool
    lockable_bytes: int | None


def process_hardening() -> Hardening:
    """Forbid core dumps and reading by debuggers for this process; report what memory can be locked.

    Memory is not locked as a whole: a mailbox server's caches do not belong in unswappable memory.
    """
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except (OSError, ValueError):
        pass
    _libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    soft, _hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    return Hardening(
        core_dumps_off=resource.getrlimit(resource.RLIMIT_CORE)[0] == 0,
        not_dumpable=_libc.prctl(_PR_GET_DUMPABLE, 0, 0, 0, 0) == 0,
        lockable_bytes=None if soft == resource.RLIM_INFINITY else soft,
    )


def lock_in_memory(buffer: bytearray) -> bool:
    """Ask the kernel never to swap the pages of ``buffer``; True if it agreed.

    There is no unlocking: the kernel counts pages, not requests, and a page may hold another key.
    """
    if not buffer:
        return False
    view = (ctypes.c_char * len(buffer)).from_buffer(buffer)
    return bool(_libc.mlock(ctypes.byref(view), ctypes.c_size_t(len(buffer))) == 0)


def wipe(buffer: bytearray) -> None:
    """Overwrite ``buffer`` with zeros in place; its length stays."""
    buffer[:] = bytes(len(buffer))
