"""LUKS volumes by cryptsetup(8), mkfs.ext4(8) and mount(8).

A passphrase or key reaches cryptsetup on its standard input, never as an argument. What was begun and not
finished can be told: a new volume has the label ``UNFINISHED`` until its file system is there.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.luks import LUKS_PREFIX, Kernel, Mount, mount_of, mounts

LABEL = "sealbox"
UNFINISHED = "sealbox-unfinished"
FORMAT_OPTIONS = (
    *("--type", "luks2", "--pbkdf", "argon2id", "--cipher", "aes-xts-plain64"),
    *("--key-size", "512", "--hash", "sha256"),
)
MKFS = ("mkfs.ext4", "-q", "-L", LABEL, "-m", "1")
MOUNT_OPTIONS = "noatime,nodev,nosuid,noexec"
MOST_KEY_BYTES = 8 * 1024 * 1024
"""cryptsetup reads no more of a key file (its built-in limit)."""

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,30}")
_NO_SUCH_KEY, _IN_USE = 2, 5  # cryptsetup(8), RETURN CODES
_MOST_PROCESSES = 5


class VolumeError(Exception):
    """Something about a volume is in the way; the text is one sentence that says what to do."""


class WrongKey(VolumeError):
    """No key slot opens with that passphrase, key file or token."""


@dataclass(frozen=True, slots=True)
class Content:
    """What is on a device, as blkid(8) tells it; ``kind`` is empty when nothing is known to be there."""

    kind: str
    label: str
    uuid: str
    mounted: tuple[str, ...]
    """Where the device, or one that lies on it, is mounted or used as swap."""
    parts: tuple[str, ...]
    """Partitions and mapped devices on it."""

    @property
    def is_volume(self) -> bool:
        """Whether ``create`` has made it, and not finished or finished it."""
        return self.kind == "crypto_LUKS" and self.label in (LABEL, UNFINISHED)

    def __str__(self) -> str:
        if not self.kind:
            return "nothing that is known"
        named = f" labelled {self.label}" if self.label else ""
        return f"{self.kind}{named}" + (f", UUID {self.uuid}" if self.uuid else "")


@dataclass(frozen=True, slots=True)
class Volume:
    """An open volume and what lies in it."""

    name: str
    device: Path
    """The LUKS device."""
    mapped: Path
    mount: Mount | None


def require_tools(*names: str) -> None:
    """Raises VolumeError naming the Debian package of a program that is missing."""
    packages = {"cryptsetup": "cryptsetup-bin", "mkfs.ext4": "e2fsprogs", "blkid": "util-linux"}
    for name in names:
        if shutil.which(name) is None:
            raise VolumeError(f"{name} is missing: install {packages.get(name, name)}")


def require_root() -> None:
    """Raises VolumeError for anybody else."""
    if os.geteuid() != 0:
        raise VolumeError("only root may do that: run it with sudo")


def require_name(name: str) -> None:
    """Raises VolumeError for what should not be the name of a mapped device."""
    if not _NAME.fullmatch(name):
        raise VolumeError("a volume's name has small letters, digits, '-' and '_' only, 31 at most")


def _run(command: Sequence[str], key: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run a program in the C locale; its output is what it says, not what it was given."""
    environment = {**os.environ, "LC_ALL": "C"}
    return subprocess.run(command, input=key, capture_output=True, env=environment, check=False)


def _last_line(done: subprocess.CompletedProcess[bytes]) -> str:
    lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
    return lines[-1].strip().rstrip(".") if lines else f"exit code {done.returncode}"


def _do(command: Sequence[str], what: str, key: bytes = b"") -> bytes:
    done = _run(command, key)
    if done.returncode:
        raise VolumeError(f"{what}: {_last_line(done)}")
    return done.stdout


def _export(text: bytes) -> dict[str, str]:
    pairs = (line.partition("=") for line in text.decode("utf-8", "replace").splitlines())
    return {name: value.replace("\\ ", " ") for name, _, value in pairs}


def _listed(device: Path) -> list[dict[str, str]]:
    """The device and all that lies on it, as lsblk(8) tells it."""
    columns = "NAME,TYPE,SIZE,MOUNTPOINT,PATH"
    said = _do(["lsblk", "--pairs", "--output", columns, str(device)], f"{device} cannot be looked at")
    lines = said.decode("utf-8", "replace").splitlines()
    return [dict(re.findall(r'([A-Z]+)="([^"]*)"', line)) for line in lines]


def content_of(device: Path) -> Content:
    """What is on a device now.

    Raises:
        VolumeError: it is no block device, or cannot be read.
    """
    if not device.is_block_device():
        raise VolumeError(f"{device} is no block device: lsblk lists them")
    done = _run(["blkid", "--probe", "--output", "export", str(device)])
    if done.returncode not in (0, 2):  # 2: nothing was recognised
        raise VolumeError(f"{device} cannot be read: {_last_line(done)}")
    found = _export(done.stdout) if done.returncode == 0 else {}
    kind = found.get("TYPE") or (f"a {found['PTTYPE']} partition table" if "PTTYPE" in found else "")
    if not kind and _begins_with_data(device):
        kind = "data of an unknown kind"
    whole = _listed(device)
    return Content(
        kind,
        found.get("LABEL", ""),
        found.get("UUID", ""),
        tuple(one["MOUNTPOINT"] for one in whole if one.get("MOUNTPOINT")),
        tuple(f"{one['PATH']} ({one['TYPE']}, {one['SIZE']})" for one in whole[1:]),
    )


def _begins_with_data(device: Path) -> bool:
    with device.open("rb") as file:
        return any(file.read(1 << 20))


def find_labelled() -> Path:
    """The device of the volume that ``create`` has made. Raises VolumeError when there is none."""
    done = _run(["blkid", "--label", LABEL])
    found = [Path(line) for line in done.stdout.decode("utf-8", "replace").splitlines() if line]
    found = [one for one in found if content_of(one).kind == "crypto_LUKS"]
    if len(found) != 1:
        raise VolumeError(f"there is no device labelled '{LABEL}': name the device (lsblk lists them)")
    return found[0]


def size_of(device: Path) -> str:
    """The size of a device for people."""
    return _listed(device)[0].get("SIZE", "?")


def luks_uuid(device: Path) -> str:
    """The UUID that crypttab(5) names the volume by. Raises VolumeError."""
    return _do(["cryptsetup", "luksUUID", str(device)], f"{device} holds no LUKS volume").decode().strip()


def create(device: Path, name: str, mount_point: Path, key: bytes) -> None:
    """Destroy what is on ``device`` and make a volume of it, open and mounted.

    Raises:
        VolumeError: a step failed; what had been opened is closed again.
    """
    where = str(device)
    _do(["wipefs", "--all", "--quiet", where], f"{device} cannot be wiped")
    _do(
        [
            *("cryptsetup", "luksFormat", "--batch-mode", *FORMAT_OPTIONS),
            *("--label", UNFINISHED, "--key-file=-", where),
        ],
        f"{device} cannot be formatted",
        key,
    )
    mapped = open_device(device, name, key)
    try:
        _do([*MKFS, str(mapped)], f"there is no file system on {device}")
        _do(["cryptsetup", "config", where, "--label", LABEL], f"{device} cannot be labelled")
        mount(mapped, mount_point)
    except VolumeError:
        _run(["cryptsetup", "close", name])
        raise


def open_device(device: Path, name: str, key: bytes | None) -> Path:
    """Open a volume by a passphrase or the content of a key file, or without one by its token.

    Raises:
        WrongKey: no key slot opens with it. VolumeError: it cannot be opened.
    """
    by = ["--token-only"] if key is None else ["--key-file=-"]
    done = _run(["cryptsetup", "open", "--type", "luks2", *by, str(device), name], key or b"")
    mapped = Path("/dev/mapper") / name
    if done.returncode == 0:
        return mapped
    if done.returncode == _IN_USE:
        raise VolumeError(f"{device} or the name {name} is in use: see 'sealbox volume status'")
    if done.returncode == _NO_SUCH_KEY or key is None:
        kind = "no token of the volume opens it" if key is None else "no key slot opens with that"
        raise WrongKey(f"{kind}: {_last_line(done)}")
    raise VolumeError(f"{device} cannot be opened: {_last_line(done)}")


def require_place(point: Path) -> None:
    """Raises VolumeError where nothing can be mounted: what is in the folder would be hidden."""
    try:
        point.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(point.iterdir()):
            raise VolumeError(f"{point} is not empty: move what is in it away before mounting there")
    except OSError as error:
        raise VolumeError(f"{point} cannot be used: {error.strerror}") from None


def mount(mapped: Path, point: Path) -> None:
    """Mount an open volume. Raises VolumeError."""
    require_place(point)
    _do(
        ["mount", "-t", "ext4", "-o", MOUNT_OPTIONS, str(mapped), str(point)],
        f"it cannot be mounted at {point}",
    )


def unmount(point: Path) -> None:
    """Raises VolumeError that names whoever uses files below."""
    done = _run(["umount", str(point)])
    if done.returncode:
        users = ", ".join(users_of(point)) or "nobody that can be seen"
        raise VolumeError(f"{point} cannot be unmounted ({_last_line(done)}); it is used by {users}")


def close_device(name: str) -> None:
    """Forget the key; afterwards the device is ciphertext. Raises VolumeError."""
    _do(["cryptsetup", "close", name], f"the volume {name} cannot be closed")


def users_of(point: Path, proc: Path = Path("/proc")) -> list[str]:
    """Processes that have files open below a mount point or work there, a few of them, for people."""
    device = point.stat().st_dev
    found = []
    for folder in sorted(proc.glob("[0-9]*"), key=lambda one: int(one.name)):
        if any(_lies_on(one, device) for one in (folder / "cwd", folder / "root", *_descriptors(folder))):
            found.append(f"{_command(folder)} ({folder.name})")
        if len(found) == _MOST_PROCESSES:
            break
    return found


def _descriptors(folder: Path) -> list[Path]:
    try:
        return list((folder / "fd").iterdir())
    except OSError:
        return []  # it has ended, or is another user's


def _lies_on(link: Path, device: int) -> bool:
    try:
        return link.stat().st_dev == device
    except OSError:
        return False


def _command(folder: Path) -> str:
    try:
        return (folder / "comm").read_text("utf-8", "replace").strip()
    except OSError:
        return "a process"


def open_volumes(kernel: Kernel | None = None) -> Iterator[Volume]:
    """All open LUKS devices of this machine, and where each is mounted."""
    kernel = kernel or Kernel()
    for folder in sorted(kernel.sys_class_block.glob("dm-*")):
        try:
            if not (folder / "dm/uuid").read_text("ascii", "replace").startswith(LUKS_PREFIX):
                continue
            name = (folder / "dm/name").read_text("utf-8", "surrogateescape").strip()
            below = next(iter((folder / "slaves").iterdir())).name
        except (OSError, StopIteration):
            continue  # closed while we looked
        mapped = Path("/dev/mapper") / name
        sources = {str(mapped), f"/dev/{folder.name}"}
        where = next((one for one in mounts(kernel) if one.source in sources), None)
        yield Volume(name, Path("/dev") / below, mapped, where)


def volume_below(path: Path, kernel: Kernel | None = None) -> Volume | None:
    """The open volume whose file system ``path`` lies on, if it lies directly on one."""
    kernel = kernel or Kernel()
    found = mount_of(path.resolve(), kernel)
    same = (one for one in open_volumes(kernel) if one.mount is not None and found == one.mount)
    return next(same, None)
