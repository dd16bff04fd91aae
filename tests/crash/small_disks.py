"""Small file systems of their own, to be filled to the last octet."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

DISK_BYTES = 16 * 1024 * 1024
KINDS = ("ext4-1k", "ext4-4k", "tmpfs")


@contextlib.contextmanager
def small_disk(folder: Path, kind: str) -> Iterator[Path]:
    """A file system of ``DISK_BYTES``, mounted below ``folder``; skips the test where none may be."""
    mounted = folder / kind
    mounted.mkdir()
    if kind == "tmpfs":
        command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES},mode=700", "tmpfs", str(mounted)]
    else:
        image = folder / f"{kind}.img"
        with image.open("wb") as file:
            file.truncate(DISK_BYTES)
        block = {"ext4-1k": "1024", "ext4-4k": "4096"}[kind]
        make = shutil.which("mkfs.ext4") or pytest.skip("mkfs.ext4 is not there (Debian's e2fsprogs)")
        subprocess.run([make, "-q", "-b", block, "-m", "0", str(image)], check=True)
        command = ["mount", "-o", "loop", str(image), str(mounted)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        # A loop device is not to be had everywhere that a tmpfs is.
        must = kind == "tmpfs" and os.environ.get("CI")
        assert not must, "CI has to be able to mount a tmpfs, or the proof is missing"
        pytest.skip(f"this machine does not allow mounting {kind}")
    try:
        yield mounted
    finally:
        subprocess.run(["umount", str(mounted)], check=True)


def free_bytes(disk: Path) -> int:
    """What is left."""
    found = os.statvfs(disk)
    return found.f_bavail * found.f_frsize


def fill(disk: Path, leave_bytes: int) -> None:
    """Write or shorten a file until only so much is left, or as near to it as blocks allow."""
    with (disk / "filler").open("ab", buffering=0) as file:
        missing = leave_bytes - free_bytes(disk)
        if missing > 0:
            os.ftruncate(file.fileno(), max(0, os.fstat(file.fileno()).st_size - missing))
            os.fsync(file.fileno())
        for size in (1 << 20, 1 << 12, 1 << 10, 1):
            while free_bytes(disk) - leave_bytes >= (size if size > 1 or leave_bytes else 0):
                try:
                    written = file.write(b"x" * size)
                except OSError:
                    break
                if size == 1 or written < size:
                    break
        os.fsync(file.fileno())
