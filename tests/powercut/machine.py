"""A virtual machine with this machine's programs, whose /data is ext4 on LUKS2, for pulling its plug.

Its root is this machine's, read-only over 9p under a layer in memory; what has to outlive it lies on its
disk image or in the folder that both share. ``cache=writeback``: what the guest has not synced is gone when
qemu is killed, and what it has is there.
"""

from __future__ import annotations

import gzip
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

NEEDED = ("qemu-system-x86_64", "cryptsetup", "mkfs.ext4", "busybox", "modprobe", "depmod", "cpio", "dpkg")
PACKAGES = "qemu-system-x86 seabios busybox-static cryptsetup-bin e2fsprogs kmod cpio"
MODULES = (
    *("virtio_pci", "virtio_blk", "virtio_net", "virtio_rng", "ext4", "overlay", "9p", "9pnet_virtio"),
    *("dm-mod", "dm-crypt", "xts", "aesni-intel", "algif_skcipher", "sha256_generic", "crypto_user", "loop"),
)
DISK_BYTES = 2 << 30
MEMORY_MIB = 1536
START_S = 900.0
PASSPHRASE = "correct-horse"  # of a disk that holds generated mail
_FIRST = """#!/bin/busybox sh
export PATH=/bin
/bin/busybox --install -s /bin
mount -t proc p /proc; mount -t sysfs s /sys; mount -t devtmpfs d /dev
while read -r one; do insmod "/lib/$one"; done < /modules
mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,cache=loose,ro root /lower
mount -t tmpfs t /layer && mkdir /layer/upper /layer/work
mount -t overlay -o lowerdir=/lower,upperdir=/layer/upper,workdir=/layer/work o /root
for one in dev proc sys; do mount --move /$one /root/$one; done
mount -t tmpfs t /root/run; mount -t tmpfs t /root/tmp
mkdir -p /root/data /root/tmp/shared
mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,cache=none shared /root/tmp/shared
exec switch_root /root /bin/sh /tmp/shared/start.sh
"""
_NETWORK = """export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 DM_DISABLE_UDEV=1
busybox ip link set lo up
busybox ip addr add 10.0.2.15/24 dev eth0; busybox ip link set eth0 up
"""
_SERVE = """if ! cryptsetup isLuks /dev/vda; then
  printf '%s' {passphrase} | cryptsetup luksFormat -q --type luks2 --pbkdf pbkdf2 \\
    --pbkdf-force-iterations 1000 /dev/vda -
  is_new=1
fi
printf '%s' {passphrase} | cryptsetup open --type luks2 --key-file - /dev/vda mail
[ -z "$is_new" ] || mkfs.ext4 -q /dev/mapper/mail
mount /dev/mapper/mail /data || echo 'NOT MOUNTED'
if [ ! -e /data/root ]; then cp -a /tmp/shared/seed /data/new && mv /data/new /data/root && sync; fi
cd {project}
{python} -m deploy serve --config /tmp/shared/sealbox.toml &
"""
_TASKS = """while :; do
  for task in /tmp/shared/tasks/*.sh; do
    [ -e "$task" ] || continue
    sh "$task" > "$task.said" 2>&1; echo $? > "$task.code.new"; mv "$task" "$task.was"
    mv "$task.code.new" "$task.code"
  done
  sleep 0.2
done
"""


def missing() -> list[str]:
    """Programs that are needed and not there."""
    return [one for one in NEEDED if shutil.which(one) is None]


def fetch_kernel(place: Path) -> Path:
    """Debian's kernel for machines, unpacked, downloaded once."""
    folder = place / "kernel"
    if not (folder / "boot").exists():
        folder.mkdir(parents=True, exist_ok=True)
        depends = subprocess.run(
            ["apt-cache", "depends", "linux-image-amd64"], capture_output=True, text=True, check=True
        ).stdout
        package = next(line.split()[-1] for line in depends.splitlines() if "Depends:" in line)
        subprocess.run(["apt-get", "download", "-q", package], cwd=folder, check=True, capture_output=True)
        archive = next(folder.glob("*.deb"))
        subprocess.run(["dpkg", "-x", str(archive), str(folder)], check=True)
        archive.unlink()
    return folder


@dataclass
class Machine:
    """One machine; ``shared`` is the folder that it sees as /tmp/shared."""

    place: Path
    kernel: Path
    shared: Path
    ports: dict[int, int]
    """This machine's ports and the guest's behind them."""
    accelerator: str
    _process: subprocess.Popen[bytes] | None = None

    @property
    def _version(self) -> str:
        return next((self.kernel / "lib/modules").iterdir()).name

    def prepare(self, project: Path, python: str, *, begin: str = _SERVE) -> None:
        """Make the first file system, the disk and the guest's script, which begins with ``begin``."""
        (self.shared / "tasks").mkdir(parents=True)
        said = begin.format(passphrase=PASSPHRASE, project=project, python=python)
        (self.shared / "start.sh").write_text(_NETWORK + said + _TASKS)
        with (self.place / "disk.img").open("wb") as disk:
            disk.truncate(DISK_BYTES)
        root = self.place / "first"
        for folder in ("bin", "lib", "proc", "sys", "dev", "root", "lower", "layer"):
            (root / folder).mkdir(parents=True)
        shutil.copy(shutil.which("busybox") or "", root / "bin/busybox")
        (root / "init").write_text(_FIRST)
        (root / "init").chmod(0o755)
        names = []
        for module in self._modules():
            shutil.copy(module, root / "lib")
            names.append(module.name)
        (root / "modules").write_text("\n".join(names) + "\n")
        files = subprocess.run(["find", "."], cwd=root, capture_output=True, check=True).stdout
        packed = subprocess.run(
            ["cpio", "-o", "-H", "newc", "--quiet"], cwd=root, input=files, capture_output=True, check=True
        ).stdout
        (self.place / "first.gz").write_bytes(gzip.compress(packed, 1))

    def _modules(self) -> Iterable[Path]:
        subprocess.run(["depmod", "-b", str(self.kernel), self._version], check=True)
        seen: dict[str, None] = {}
        for module in MODULES:
            command = ["modprobe", "-d", self.kernel, "-S", self._version, "--show-depends", module]
            said = subprocess.run(
                [*map(str, command), "--ignore-install"], capture_output=True, text=True, check=False
            ).stdout
            for line in said.splitlines():
                if line.startswith("insmod "):
                    seen[line.split()[1]] = None
        return [Path(one) for one in seen]

    def start(self, answers: Callable[[], bool]) -> None:
        """Switch it on, and wait until the server answers."""
        forward = "".join(f",hostfwd=tcp:127.0.0.1:{here}-:{there}" for here, there in self.ports.items())
        nothing = ["-nographic", "-nodefaults", "-no-reboot", "-display", "none", "-serial", "stdio"]
        share = "security_model=none,multidevs=remap"
        with (self.place / "console").open("ab") as console:
            self._process = subprocess.Popen(
                [
                    *("qemu-system-x86_64", "-M", "q35,usb=off", "-accel", self.accelerator),
                    *("-cpu", "host" if self.accelerator == "kvm" else "max", "-m", str(MEMORY_MIB)),
                    *("-smp", "2", *nothing, "-kernel", f"{self.kernel}/boot/vmlinuz-{self._version}"),
                    *("-initrd", f"{self.place}/first.gz"),
                    *("-append", "console=ttyS0 quiet panic=-1 mitigations=off random.trust_cpu=on"),
                    *("-device", "virtio-rng-pci", "-netdev", f"user,id=net{forward}"),
                    *("-device", "virtio-net-pci,netdev=net"),
                    *("-drive", f"file={self.place}/disk.img,format=raw,if=virtio,cache=writeback"),
                    *("-virtfs", f"local,path=/,mount_tag=root,readonly=on,{share}"),
                    *("-virtfs", f"local,path={self.shared},mount_tag=shared,{share}"),
                ],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
            )
        self._wait(answers, START_S, "the server does not answer")

    def run(self, name: str, command: str, seconds: float, expected: int = 0) -> str:
        """Run a shell command in the machine; what it said. Raises RuntimeError for another exit code."""
        task = self.shared / "tasks" / f"{name}.sh"
        for old in task.parent.glob(task.name + "*"):
            old.unlink()
        unready = task.with_suffix(".new")
        unready.write_text(command)
        unready.rename(task)
        code = task.with_name(task.name + ".code")
        self._wait(code.exists, seconds, f"{name} does not end")
        said = task.with_name(task.name + ".said").read_text("utf-8", "replace")
        if code.read_text().strip() != str(expected):
            raise RuntimeError(f"{name} ends with {code.read_text().strip()}: {said[-2000:]}")
        return said

    def _wait(self, is_so: Callable[[], bool], seconds: float, what: str) -> None:
        assert self._process is not None
        deadline = time.monotonic() + seconds
        while not is_so():
            if self._process.poll() is not None or time.monotonic() > deadline:
                console = (self.place / "console").read_text("utf-8", "replace")
                raise RuntimeError(f"{what}; the console ends with:\n{console[-3000:]}")
            time.sleep(0.1)

    def pull_the_plug(self) -> None:
        """kill -9."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
