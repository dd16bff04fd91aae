"""Does a folder lie on LUKS devices, and is swap encrypted? Asked of the kernel, without being root.

From the folder's device downwards through partitions, LVM, RAID, loop devices and btrfs: on every way
down there has to be a device-mapper UUID that begins with ``CRYPT-LUKS``; only then does all that is
written arrive encrypted. A file system's external log or realtime device is not looked at.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

LUKS_PREFIX = "CRYPT-LUKS"
CRYPT_PREFIX = "CRYPT-"
"""Of any dm-crypt device: swap is often opened with a new random key at each start, without LUKS."""


@dataclass(frozen=True, slots=True)
class Mount:
    """One line of mountinfo (proc(5)): mount point, file system type, source."""

    point: str
    kind: str
    source: str


@dataclass(frozen=True, slots=True)
class Kernel:
    """Where the kernel shows devices and mounts; tests put folders of their own here."""

    sys_block: Path = Path("/sys/dev/block")
    mountinfo: Path = Path("/proc/self/mountinfo")
    device_number: dict[str, str] = field(default_factory=dict)
    """Device numbers by path, overriding stat; for tests."""
    sys_btrfs: Path = Path("/sys/fs/btrfs")
    swaps: Path = Path("/proc/swaps")
    sys_class_block: Path = Path("/sys/class/block")

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
            yield Mount(_unescaped(fields[4]), rest[0], _unescaped(rest[1]))


def mount_of(path: Path, kernel: Kernel) -> Mount | None:
    """The mount that ``path`` lies on: the longest mount point above it, the last one mounted there."""
    best: Mount | None = None
    real = str(path)
    for mount in mounts(kernel):
        inside = real == mount.point or real.startswith(mount.point.rstrip("/") + "/")
        if inside and (best is None or len(mount.point) >= len(best.point)):
            best = mount
    return best


def _is_called(device: Path, names: set[str]) -> bool:
    """Whether a device (its folder in sysfs) goes by one of these names below /dev."""
    mapped = device / "dm" / "name"
    return f"/dev/{device.name}" in names or (
        mapped.is_file() and f"/dev/mapper/{mapped.read_text('utf-8', 'surrogateescape').strip()}" in names
    )


def _btrfs_devices(source: str, kernel: Kernel) -> list[Path]:
    """All devices of the btrfs that has ``source`` among them; none if the kernel knows no such one."""
    # By name and not by stat: systemd's PrivateDevices=yes hides the device files.
    names = {source, str(Path(source).resolve())}
    for listing in kernel.sys_btrfs.glob("*/devices"):
        devices = [one.resolve() for one in listing.iterdir()]
        if any(_is_called(one, names) for one in devices):
            return devices
    return []


class _Search:
    """The way down from a folder or a device, each device looked at once."""

    def __init__(self, kernel: Kernel, prefix: str) -> None:
        """``prefix`` is how the device-mapper UUIDs begin that end the way."""
        self._kernel = kernel
        self._prefix = prefix
        self._known: dict[Path, bool] = {}

    def devices(self, devices: list[Path]) -> bool:
        """Whether there are any, and all of them are."""
        return bool(devices) and all(self.device(one) for one in devices)

    def device(self, device: Path) -> bool:
        """Whether a device (its folder in sysfs) is encrypted or built on nothing but encrypted ones."""
        if device not in self._known:
            self._known[device] = False  # what a circle of devices comes back to
            self._known[device] = self._is_encrypted(device)
        return self._known[device]

    def _is_encrypted(self, device: Path) -> bool:
        uuid = device / "dm" / "uuid"
        backing = device / "loop" / "backing_file"
        slaves = device / "slaves"
        if uuid.is_file() and uuid.read_text("ascii", "replace").startswith(self._prefix):
            return True
        if (device / "partition").exists():
            return self.device(device.parent)
        if backing.is_file():
            file = Path(backing.read_text("utf-8", "surrogateescape").strip())
            return self.path(file.parent)
        return self.devices([one.resolve() for one in slaves.iterdir()] if slaves.is_dir() else [])

    def path(self, path: Path) -> bool:
        """Whether all that is written below ``path`` arrives on encrypted devices."""
        device = (self._kernel.sys_block / self._kernel.number_of(path)).resolve()
        if device.is_dir():
            return self.device(device)
        mount = mount_of(path, self._kernel)
        if mount is not None and mount.kind == "btrfs":  # shows device numbers that belong to no device
            return self.devices(_btrfs_devices(mount.source, self._kernel))
        return False


def is_on_luks(path: Path, kernel: Kernel | None = None) -> bool:
    """Whether all that is written below ``path`` (which exists) arrives on LUKS devices.

    What cannot be read, and file systems that do not show their devices (overlay, ZFS, network), count
    as not encrypted.
    """
    try:
        return _Search(kernel or Kernel(), LUKS_PREFIX).path(path.resolve(strict=True))
    except OSError:
        return False


def plain_swaps(kernel: Kernel | None = None) -> list[str]:
    """The swap devices and files, as the kernel calls them, that are not encrypted.

    Compressed memory (zram) without a device behind it is none. What cannot be read counts as plain.
    """
    kernel = kernel or Kernel()
    try:
        lines = kernel.swaps.read_text("utf-8", "surrogateescape").splitlines()[1:]
    except OSError as error:
        # A kernel without swap has no such file; nor has a /proc that shows processes only (ProcSubset=pid).
        known = isinstance(error, FileNotFoundError) and kernel.swaps.with_name("meminfo").exists()
        return [] if known else [str(kernel.swaps)]
    areas = [(_unescaped(fields[0]), fields[1]) for line in lines if len(fields := line.split()) >= 2]
    return [area for area, kind in areas if not _is_kept_secret(area, kind, kernel)]


def _is_kept_secret(area: str, kind: str, kernel: Kernel) -> bool:
    try:
        if kind == "file":
            return _Search(kernel, LUKS_PREFIX).path(Path(area).resolve(strict=True).parent)
        # By name and not by stat: systemd's PrivateDevices=yes hides the device files.
        device = (kernel.sys_class_block / Path(area).name).resolve(strict=True)
        behind = device / "backing_dev"
        if device.name.startswith("zram") and behind.is_file():
            return behind.read_text("utf-8", "surrogateescape").strip() == "none"
        return _Search(kernel, CRYPT_PREFIX).device(device)
    except OSError:
        return False
