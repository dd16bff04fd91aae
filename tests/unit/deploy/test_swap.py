"""Which swap is encrypted, by folders shaped like the kernel's."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy import config, serving
from deploy.first_run import make_certificate
from deploy.luks import Kernel, plain_swaps


class Machine:
    """A made-up /proc/swaps and /sys/class/block."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._swaps = folder / "swaps"
        self._swaps.write_text("Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n")
        (folder / "class").mkdir()
        (folder / "mountinfo").write_text("1 0 7:7 / / rw - ext4 rootfs rw\n")
        self.kernel = Kernel(
            folder / "numbers",
            folder / "mountinfo",
            swaps=self._swaps,
            sys_class_block=folder / "class",
        )

    def swap(self, area: str, kind: str = "partition") -> None:
        """Use it as swap."""
        with self._swaps.open("a") as file:
            file.write(f"{area}                              {kind}\t524284\t\t0\t\t-2\n")

    def device(self, name: str, uuid: str | None = None, **files: str) -> Path:
        """A block device, with a device-mapper UUID or files of its own."""
        folder = self._folder / "devices" / name
        (folder / "slaves").mkdir(parents=True)
        if uuid is not None:
            (folder / "dm").mkdir()
            (folder / "dm/uuid").write_text(uuid + "\n")
        for file, content in files.items():
            (folder / file).write_text(content + "\n")
        (self._folder / "class" / name).symlink_to(folder)
        return folder


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A machine without swap."""
    return Machine(tmp_path)


def test_no_swap(machine: Machine, tmp_path: Path) -> None:
    """Nothing in the list, or a kernel that has no such list; but not a /proc that does not show it."""
    assert plain_swaps(machine.kernel) == []
    assert plain_swaps(Kernel(swaps=tmp_path / "none")) == [str(tmp_path / "none")]
    (tmp_path / "meminfo").touch()
    assert plain_swaps(Kernel(swaps=tmp_path / "none")) == []


@pytest.mark.parametrize("uuid", ["CRYPT-PLAIN-cryptswap", "CRYPT-LUKS2-0123-swap"])
def test_encrypted_swap(machine: Machine, uuid: str) -> None:
    """With a new random key at each start, or a volume of its own, or on LVM inside of one."""
    inner = machine.device("dm-0", uuid)
    machine.swap("/dev/dm-0")
    machine.device("dm-1", "LVM-abc")
    (machine.device("dm-2", "LVM-def") / "slaves/dm-0").symlink_to(inner)
    machine.swap("/dev/dm-2")
    assert plain_swaps(machine.kernel) == []
    machine.swap("/dev/dm-1")
    assert plain_swaps(machine.kernel) == ["/dev/dm-1"]


def test_plain_swap(machine: Machine) -> None:
    """A disk, a partition of it, and what the kernel does not show."""
    disk = machine.device("sda")
    (disk / "sda2").mkdir()
    (disk / "sda2/partition").write_text("2\n")
    (machine.kernel.sys_class_block / "sda2").symlink_to(disk / "sda2")
    for one in ("/dev/sda2", "/dev/sda", "/dev/nosuch"):
        machine.swap(one)
    assert plain_swaps(machine.kernel) == ["/dev/sda2", "/dev/sda", "/dev/nosuch"]


def test_compressed_memory(machine: Machine) -> None:
    """It is no swap in the sense of the promise, unless it is written to a device behind it."""
    machine.device("zram0", backing_dev="none")
    machine.device("zram1", backing_dev="/dev/sda3")
    machine.swap("/dev/zram0")
    machine.swap("/dev/zram1")
    assert plain_swaps(machine.kernel) == ["/dev/zram1"]


def test_swap_file(machine: Machine, tmp_path: Path) -> None:
    """It is as encrypted as the file system that it lies in; a blank in its name is written as octal."""
    file = tmp_path / "swap file"
    file.touch()
    machine.swap(str(file).replace(" ", "\\040"), "file")
    assert plain_swaps(machine.kernel) == [str(file)]
    (machine.kernel.sys_block).mkdir()
    (machine.device("dm-0", "CRYPT-LUKS2-0123-data")).rename(machine.kernel.sys_block / "253:0")
    kernel = Kernel(
        machine.kernel.sys_block,
        machine.kernel.mountinfo,
        {str(tmp_path): "253:0"},
        swaps=machine.kernel.swaps,
        sys_class_block=machine.kernel.sys_class_block,
    )
    assert plain_swaps(kernel) == []


def test_swap_that_cannot_be_read_counts_as_plain(tmp_path: Path) -> None:
    """What is not known must not pass."""
    assert plain_swaps(Kernel(swaps=tmp_path)) == [str(tmp_path)]


@pytest.mark.parametrize("allowed", [False, True])
def test_the_server_refuses_plain_swap(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path, allowed: bool
) -> None:
    """As it refuses a plain volume, with the same override, and names what is plain."""
    make_certificate(tmp_path / "c.pem", tmp_path / "k.pem")
    text = (
        f'data = "{tmp_path}"\nallow_unencrypted_volume = {str(allowed).lower()}\n'
        f'[tls]\ncertificate = "{tmp_path}/c.pem"\nprivate_key = "{tmp_path}/k.pem"\n'
    )
    loaded = config.parse(text, tmp_path / "x")
    monkeypatch.setattr(serving, "is_on_luks", lambda _: True)
    monkeypatch.setattr(serving, "plain_swaps", lambda: ["/dev/sda2"])
    if allowed:
        serving.check_volume(loaded)
        assert "/dev/sda2" in caplog.text
        return
    with pytest.raises(serving.CannotServe, match="/dev/sda2"):
        serving.check_volume(loaded)
