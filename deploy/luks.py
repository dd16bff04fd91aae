"""Does a folder lie on a dm-crypt LUKS device? Asked of the kernel, without being root.

From the folder's device downwards through partitions, LVM, RAID and loop devices: a device-mapper
UUID that begins with ``CRYPT-LUKS`` anywhere below means that what is written arrives encrypted.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

LUKS_PREFIX = "CRYPT-LUKS"


@dataclass(frozen=True, slots=True)
class Mount:
    """One line of mountinfo (proc(5)): device number, mount point, source."""

    device: str
    point: str
    source: str


@dataclass(frozen=True, slots=True)
class Kernel:
    """Where the kernel shows devices and mounts; tests put folders of their own here."""

    sys_block: Path = Path("/sys/dev/block")
    mountinfo: Path = Path("/proc/self/mountinfo")
    device_number: dict[str, str] = field(default_factory=dict)
    """Device numbers by path, overriding stat; for tests."""

    def number_of(self, path: Path) -> str:
        """``major:minor`` of the device that ``path`` lies on. Raises OSError."""
        if str(path) in self.device_number:
            return self.device_number[str(path)]
        device = path.stat().st_dev
        return f"{os.major(device)}:{os.minor(device)}"


def _unescaped(text: str) -> str:
    """mountinfo writes space, tab, newline and backslash as octal (proc(5))."""
    out = bytearray()
    raw = text.encode("utf-8", "surrogateescape")
    at = 0
    while at < len(raw):
        digits = raw[at + 1 : at + 4]
        if raw[at : at + 1] == b"\\" and len(digits) == 3 and digits.isdigit():
            out.append(int(digits, 8) & 0xFF)
            at += 4
        else:
            out.append(raw[at])
            at += 1
    return out.decode("utf-8", "surrogateescape")


def mounts(kernel: Kernel) -> Iterator[Mount]:
    """All mounts this process sees."""
    for line in kernel.mountinfo.read_text("utf-8", "surrogateescape").splitlines():
        before, dash, after = line.partition(" - ")
        fields, rest = before.split(" "), after.split(" ")
        if dash and len(fields) >= 5 and len(rest) >= 2:
            yield Mount(fields[2], _unescaped(fields[4]), _unescaped(rest[1]))


def mount_of(path: Path, kernel: Kernel) -> Mount | None:
    """The mount that ``path`` lies on: the longest mount point above it, the last one mounted there."""
    best: Mount | None = None
    real = str(path)
    for mount in mounts(kernel):
        inside = real == mount.point or real.startswith(mount.point.rstrip("/") + "/")
        if inside and (best is None or len(mount.point) >= len(best.point)):
            best = mount
    return best


def _uuids(device: str, kernel: Kernel, seen: set[Path]) -> Iterator[str]:
    """Device-mapper UUIDs of a device (``major:minor``) and of all it is built on."""
    folder = (kernel.sys_block / device).resolve()
    if folder in seen or not folder.is_dir():
        return
    seen.add(folder)
    uuid = folder / "dm" / "uuid"
    if uuid.is_file():
        yield uuid.read_text("ascii", "replace").strip()
    if (folder / "partition").exists():
        folder = folder.parent  # a partition's slaves are listed at the whole disk
    slaves = folder / "slaves"
    for slave in sorted(slaves.iterdir()) if slaves.is_dir() else []:
        yield from _uuids((slave / "dev").read_text("ascii").strip(), kernel, seen)
    backing = folder / "loop" / "backing_file"
    if backing.is_file():
        yield from _below(Path(backing.read_text("utf-8", "surrogateescape").strip()).parent, kernel, seen)


def _below(path: Path, kernel: Kernel, seen: set[Path]) -> Iterator[str]:
    mount = mount_of(path, kernel)
    numbers = [kernel.number_of(path)]
    if mount is not None:
        numbers.append(mount.device)
        if mount.source.startswith("/"):
            # btrfs, overlay and zfs show anonymous device numbers; the source names the real device.
            try:
                source = Path(mount.source).stat()
                numbers.append(f"{os.major(source.st_rdev)}:{os.minor(source.st_rdev)}")
            except OSError:
                pass  # the source is not visible from here (container); the numbers above decide
    for number in dict.fromkeys(numbers):
        yield from _uuids(number, kernel, seen)


def is_on_luks(path: Path, kernel: Kernel | None = None) -> bool:
    """Whether what is written below ``path`` (which exists) arrives on a LUKS device.

    What cannot be read counts as not encrypted.
    """
    try:
        found = _below(path.resolve(strict=True), kernel or Kernel(), set())
        return any(uuid.startswith(LUKS_PREFIX) for uuid in found)
    except OSError:
        return False
