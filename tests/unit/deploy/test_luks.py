"""The LUKS probe against folders shaped like the kernel's, and against this machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.luks import Kernel, is_on_luks


class Machine:
    """A made-up /sys/dev/block and mountinfo."""

    def __init__(self, tmp_path: Path) -> None:
        self.data = tmp_path / "data folder"
        self.data.mkdir()
        self._block = tmp_path / "block"
        self._block.mkdir()
        self._devices = tmp_path / "devices"
        self._mounts = tmp_path / "mountinfo"
        self._mounts.write_text("1 0 7:7 / / rw - ext4 rootfs rw\n")
        self._numbers: dict[str, str] = {}

    def device(self, number: str, uuid: str | None = None, slaves: tuple[str, ...] = ()) -> Path:
        """A block device with an optional device-mapper UUID, built on ``slaves``."""
        folder = self._devices / number.replace(":", "_")
        (folder / "slaves").mkdir(parents=True)
        (folder / "dev").write_text(number + "\n")
        if uuid is not None:
            (folder / "dm").mkdir()
            (folder / "dm" / "uuid").write_text(uuid + "\n")
        for slave in slaves:
            (folder / "slaves" / slave.replace(":", "_")).symlink_to(self._devices / slave.replace(":", "_"))
        (self._block / number).symlink_to(folder)
        return folder

    def mount(self, path: Path, number: str) -> None:
        """Mount a device at ``path``."""
        escaped = str(path).replace(" ", "\\040")
        with self._mounts.open("a") as file:
            file.write(f"2 1 {number} / {escaped} rw - ext4 nosource rw\n")
        self._numbers[str(path)] = number

    def kernel(self) -> Kernel:
        """What the probe asks."""
        return Kernel(self._block, self._mounts, self._numbers)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A machine without devices."""
    return Machine(tmp_path)


def test_plain_luks(machine: Machine) -> None:
    """A file system directly on an opened LUKS device."""
    machine.device("253:0", "CRYPT-LUKS2-0123-data")
    machine.mount(machine.data, "253:0")
    assert is_on_luks(machine.data, machine.kernel())


def test_lvm_on_luks(machine: Machine) -> None:
    """A logical volume whose physical volume is LUKS counts."""
    machine.device("253:0", "CRYPT-LUKS1-0123-pv")
    machine.device("253:1", "LVM-abc", ("253:0",))
    machine.mount(machine.data, "253:1")
    assert is_on_luks(machine.data, machine.kernel())


def test_luks_on_lvm_partition(machine: Machine) -> None:
    """A partition's slaves are those of its disk."""
    machine.device("253:0", "CRYPT-LUKS2-0123-x")
    disk = machine.device("9:0", None, ("253:0",))
    partition = disk / "part1"
    partition.mkdir()
    (partition / "partition").write_text("1")
    (machine._block / "9:1").symlink_to(partition)
    machine.mount(machine.data, "9:1")
    assert is_on_luks(machine.data, machine.kernel())


def test_loop_file_on_luks(machine: Machine, tmp_path: Path) -> None:
    """A loop device is as encrypted as the volume its file lies on."""
    machine.device("253:0", "CRYPT-LUKS2-0123-x")
    loop = machine.device("7:0")
    outer = tmp_path / "outer"
    outer.mkdir()
    (loop / "loop").mkdir()
    (loop / "loop" / "backing_file").write_text(f"{outer}/image\n")
    machine.mount(outer, "253:0")
    machine.mount(machine.data, "7:0")
    assert is_on_luks(machine.data, machine.kernel())


@pytest.mark.parametrize("uuid", [None, "CRYPT-PLAIN-x", "CRYPT-VERITY-x", "LVM-abc"])
def test_anything_else_is_not_luks(machine: Machine, uuid: str | None) -> None:
    """Plain disks, plain dm-crypt, verity and bare LVM do not count."""
    machine.device("253:0", uuid)
    machine.mount(machine.data, "253:0")
    assert not is_on_luks(machine.data, machine.kernel())


def test_unknown_device_and_missing_folder(machine: Machine, tmp_path: Path) -> None:
    """What the kernel does not show counts as not encrypted."""
    machine.mount(machine.data, "0:42")
    assert not is_on_luks(machine.data, machine.kernel())
    assert not is_on_luks(tmp_path / "nothing here")


def test_devices_in_a_circle_end(machine: Machine) -> None:
    """A loop in the device tree does not hang the start."""
    machine.device("253:0", "LVM-a")
    machine.device("253:1", "LVM-b", ("253:0",))
    (machine._devices / "253_0" / "slaves" / "back").symlink_to(machine._devices / "253_1")
    machine.mount(machine.data, "253:1")
    assert not is_on_luks(machine.data, machine.kernel())


def test_a_volume_spread_over_luks_and_a_plain_disk_is_not_encrypted(machine: Machine) -> None:
    """Every way down has to pass LUKS, not just one."""
    machine.device("253:0", "CRYPT-LUKS2-0123-a")
    machine.device("8:0")
    machine.device("253:1", "LVM-abc", ("253:0", "8:0"))
    machine.mount(machine.data, "253:1")
    assert not is_on_luks(machine.data, machine.kernel())


def test_a_device_used_twice_counts_as_what_it_is(machine: Machine) -> None:
    """Two logical volumes on one LUKS device, joined again."""
    machine.device("253:0", "CRYPT-LUKS2-0123-a")
    machine.device("253:1", "LVM-b", ("253:0",))
    machine.device("253:2", "LVM-c", ("253:0",))
    machine.device("253:3", None, ("253:1", "253:2"))
    machine.mount(machine.data, "253:3")
    assert is_on_luks(machine.data, machine.kernel())


def _btrfs(machine: Machine, tmp_path: Path, *devices: Path) -> Kernel:
    """A btrfs whose source is /dev/mapper/data and whose device numbers are anonymous."""
    (devices[0] / "dm" / "name").write_text("data\n")
    listing = tmp_path / "btrfs" / "0123" / "devices"
    listing.mkdir(parents=True)
    for device in devices:
        (listing / device.name).symlink_to(device)
    machine._numbers[str(machine.data)] = "0:29"
    escaped = str(machine.data).replace(" ", "\\040")
    with machine._mounts.open("a") as file:
        file.write(f"2 1 0:29 / {escaped} rw - btrfs /dev/mapper/data rw\n")
    return Kernel(machine._block, machine._mounts, machine._numbers, tmp_path / "btrfs")


def test_btrfs_is_found_by_the_name_of_its_device(machine: Machine, tmp_path: Path) -> None:
    """Without /dev, as under systemd's PrivateDevices=yes."""
    luks = machine.device("253:0", "CRYPT-LUKS2-0123-data")
    assert is_on_luks(machine.data, _btrfs(machine, tmp_path, luks))


def test_btrfs_with_a_plain_second_device_is_not_encrypted(machine: Machine, tmp_path: Path) -> None:
    """All devices of a btrfs have to be LUKS."""
    luks, plain = machine.device("253:0", "CRYPT-LUKS2-0123-data"), machine.device("8:0")
    assert not is_on_luks(machine.data, _btrfs(machine, tmp_path, luks, plain))
