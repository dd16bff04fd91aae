"""Core dumps off, keys wiped: what the system allows, tried in a process of its own."""

import subprocess
import sys

from mailstore.keys import lock_in_memory, wipe

PROBE = """
import ctypes, resource
from mailstore.keys import process_hardening
done = process_hardening()
assert done.core_dumps_off and done.not_dumpable
assert resource.getrlimit(resource.RLIMIT_CORE) == (0, 0)
assert ctypes.CDLL(None).prctl(3, 0, 0, 0, 0) == 0
assert done.lockable_bytes is None or done.lockable_bytes >= 0
print("hardened")
"""


def test_process_hardening():
    """No core file and no debugger, and the report is true."""
    run = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, check=False, timeout=30)
    assert run.stdout == b"hardened\n"


def test_wipe():
    """The same buffer, all zeros."""
    buffer = bytearray(b"secret")
    wipe(buffer)
    assert buffer == bytes(6)


def test_locking_is_best_effort():
    """It answers whether it worked, and leaves the buffer usable."""
    buffer = bytearray(32)
    assert lock_in_memory(buffer) in (True, False)
    buffer += b"more"
    assert lock_in_memory(bytearray()) is False
