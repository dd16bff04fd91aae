"""sealbox volume: the encrypted volume that the data lies on. Exit codes: see deploy/cli/sentences.py."""

from __future__ import annotations

import os
import pwd
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import click

from deploy import volume as volumes
from deploy.cli.root import EPILOG, EXIT_SECRET, EXIT_STORAGE, EXIT_USAGE, Cli, Refusal, machine_command
from deploy.luks import is_on_luks, plain_swaps
from deploy.serving import CannotServe, check_not_served
from deploy.volume import Content, VolumeError, WrongKey

SERVER_USER = "sealbox"
MIN_PASSPHRASE_CHARS = 8


@click.group(epilog=EPILOG)
def volume() -> None:
    """Make, open, close and inspect the encrypted volume (LUKS2) that all data lies on."""


@dataclass(frozen=True, slots=True)
class _Key:
    """Where a passphrase or key comes from."""

    file: Path | None
    from_stdin: bool

    def read(self, *, is_new: bool) -> bytes:
        """The octets that cryptsetup is given. Raises Refusal."""
        if self.file is not None:
            return _key_file(self.file)
        key = sys.stdin.buffer.readline().removesuffix(b"\n") if self.from_stdin else _ask(is_new)
        if is_new and len(key.decode("utf-8", "replace")) < MIN_PASSPHRASE_CHARS:
            raise Refusal(f"the passphrase is short: use {MIN_PASSPHRASE_CHARS} characters or more")
        if not key:
            raise Refusal("the passphrase is empty", EXIT_USAGE)
        return key


def _ask(is_new: bool) -> bytes:
    if not sys.stdin.isatty():
        raise Refusal("there is no terminal to ask on: use --passphrase-stdin or --key-file", EXIT_USAGE)
    said: str = click.prompt(
        "Passphrase of the volume", hide_input=True, confirmation_prompt=is_new, err=True
    )
    return said.encode("utf-8")


def _key_file(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
                raise Refusal(f"others may read {path}: chmod 600 it first")
            key = file.read(volumes.MOST_KEY_BYTES + 1)
    except OSError as error:
        raise Refusal(f"the key file {path} cannot be read: {error.strerror}", EXIT_USAGE) from None
    if not 0 < len(key) <= volumes.MOST_KEY_BYTES:
        raise Refusal(f"the key file {path} is empty, or larger than 8 MiB", EXIT_USAGE)
    return key


def _key_options(function: Callable[..., None]) -> Callable[..., None]:
    for option in (
        click.option("--passphrase-stdin", is_flag=True, help="Read the passphrase from standard input."),
        click.option(
            "--key-file",
            type=click.Path(path_type=Path),
            metavar="FILE",
            help="Use all of a file as the key.",
        ),
    ):
        function = option(function)
    return function


def _place_options(function: Callable[..., None]) -> Callable[..., None]:
    for option in (
        click.option("--name", default=volumes.LABEL, show_default=True, help="Of the opened device."),
        click.option(
            "--mount",
            "mount_point",
            type=click.Path(path_type=Path),
            metavar="DIR",
            help="Where; the data root if not given.",
        ),
    ):
        function = option(function)
    return function


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except WrongKey as error:
        raise Refusal(str(error), EXIT_SECRET) from None
    except VolumeError as error:
        raise Refusal(str(error)) from None


@volume.command(epilog=EPILOG)
@click.argument("device", type=click.Path(path_type=Path))
@_place_options
@_key_options
@click.option("--owner", metavar="USER", help=f"Who gets it; {SERVER_USER} if there is such a user.")
@click.option("--erase", is_flag=True, help="Destroy what is on DEVICE without asking.")
@machine_command
def create(
    cli: Cli,
    device: Path,
    name: str,
    mount_point: Path | None,
    key_file: Path | None,
    passphrase_stdin: bool,
    owner: str | None,
    erase: bool,
) -> None:
    """Make DEVICE an encrypted volume with an empty file system, open and mounted.

    LUKS2 with aes-xts-plain64 (512-bit key) and argon2id, ext4, mounted noatime, nodev, nosuid, noexec.
    EVERYTHING ON THE DEVICE IS DESTROYED: what is there is named, and it asks first. A device in use is
    refused. Broken off, it can be run again. Mail in other places is not touched.
    """
    point = mount_point or cli.root
    with _explained():
        volumes.require_root()
        volumes.require_tools("cryptsetup", "mkfs.ext4", "blkid", "wipefs", "lsblk", "mount")
        volumes.require_name(name)
        user = _user(owner)
        content = volumes.content_of(device)
        _refuse_used(device, content)
        volumes.require_place(point)
        _agree(device, content, erase)
        key = _Key(key_file, passphrase_stdin).read(is_new=True)
        volumes.create(device, name, point, key)
        uuid = volumes.luks_uuid(device)
    point.chmod(0o700)
    if user is not None:
        os.chown(point, user.pw_uid, user.pw_gid)
    source = key_file.resolve() if key_file else "none"
    boot = {
        "/etc/crypttab": f"{name} UUID={uuid} {source} luks",
        "/etc/fstab": f"/dev/mapper/{name} {point} ext4 {volumes.MOUNT_OPTIONS},nofail 0 2",
    }
    cli.answer(
        {"device": str(device), "uuid": uuid, "name": name, "mounted": str(point), "boot": boot},
        f"{device} is an encrypted volume now, open and mounted at {point}",
        "to have it opened when the machine starts, add these two lines:",
        *(f"  {file}: {line}" for file, line in boot.items()),
        f"keep a copy of its header somewhere else: cryptsetup luksHeaderBackup {device} ...",
    )
    cli.remark("without the passphrase or key file nothing on it can ever be read again")


def _user(name: str | None) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(name or SERVER_USER)
    except KeyError:
        if name is not None:
            raise Refusal(f"there is no user {name}: adduser --system makes one", EXIT_USAGE) from None
        return None


def _refuse_used(device: Path, content: Content) -> None:
    if content.mounted:
        raise Refusal(f"{device} is in use ({', '.join(content.mounted)}): unmount it first")
    opened = [part for part in content.parts if "(part," not in part]
    if opened:
        raise Refusal(f"{device} is in use by {', '.join(opened)}: close that first")


def _agree(device: Path, content: Content, erase: bool) -> None:
    """Raises Refusal unless there is nothing to lose, or it may be lost."""
    if erase or (not content.kind and not content.parts) or content.label == volumes.UNFINISHED:
        return
    on_it = f"{device} ({volumes.size_of(device)}) holds {content}"
    if content.parts:
        on_it += f" with {', '.join(content.parts)}"
    if not sys.stdin.isatty():
        raise Refusal(f"{on_it}: give --erase if that may be destroyed")
    click.echo(f"{on_it}. ALL OF IT WILL BE DESTROYED.", err=True)
    if click.prompt(f"Type {device} to go on", default="", show_default=False, err=True) != str(device):
        raise Refusal("nothing was changed")


@volume.command("open", epilog=EPILOG)
@click.argument("device", type=click.Path(path_type=Path), required=False)
@_place_options
@_key_options
@click.option("--token", is_flag=True, help="Open by a token: systemd-cryptenroll(1) with TPM2 or FIDO2.")
@machine_command
def open_volume(
    cli: Cli,
    device: Path | None,
    name: str,
    mount_point: Path | None,
    key_file: Path | None,
    passphrase_stdin: bool,
    token: bool,
) -> None:
    """Open the volume on DEVICE and mount it; without DEVICE the one labelled 'sealbox'.

    The mail on it is not changed. Opened and mounted already, it says so. At the machine's start
    /etc/crypttab and /etc/fstab do the same: 'sealbox volume create' prints the lines.
    """
    point = mount_point or cli.root
    with _explained():
        volumes.require_root()
        volumes.require_tools("cryptsetup", "mount")
        volumes.require_name(name)
        there = next((one for one in volumes.open_volumes() if one.name == name), None)
        if there is None:
            chosen = device or volumes.find_labelled()
            key = None if token else _Key(key_file, passphrase_stdin).read(is_new=False)
            mapped, mounted = volumes.open_device(chosen, name, key), None
        else:
            mapped, mounted = there.mapped, there.mount
        if mounted is not None and Path(mounted.point) != point:
            raise Refusal(f"{name} is open and mounted at {mounted.point}: close it first")
        if mounted is None:
            try:
                volumes.mount(mapped, point)
            except VolumeError:
                if there is None:
                    volumes.close_device(name)
                raise
    already = "already " if mounted is not None else ""
    cli.answer(
        {"name": name, "mounted": str(point), "changed": mounted is None},
        f"{name} is {already}open and mounted at {point}",
    )


@volume.command(epilog=EPILOG)
@click.option("--name", default=volumes.LABEL, show_default=True, help="Of the opened device.")
@machine_command
def close(cli: Cli, name: str) -> None:
    """Unmount the volume and forget its key: from then on the device is ciphertext.

    Refused while a server runs on it or files on it are open; says who has them. No mail is lost.
    """
    with _explained():
        volumes.require_root()
        volumes.require_name(name)
        there = next((one for one in volumes.open_volumes() if one.name == name), None)
        if there is not None:
            if there.mount is not None:
                point = Path(there.mount.point)
                try:
                    check_not_served(point)
                except CannotServe:
                    raise Refusal(f"a server runs on {point}: stop it first") from None
                volumes.unmount(point)
            volumes.close_device(name)
    cli.answer(
        {"name": name, "changed": there is not None},
        f"{name} is closed" if there is not None else f"{name} was not open",
    )


@volume.command(epilog=EPILOG)
@machine_command
def status(cli: Cli) -> None:
    """Say whether the data root and the swap are encrypted; exit code 6 if either is not.

    No mail is touched.
    """
    exists = cli.root.exists()
    encrypted = exists and is_on_luks(cli.root)
    swaps = plain_swaps()
    below = volumes.volume_below(cli.root) if exists else None
    fields = {
        "data": str(cli.root),
        "encrypted": encrypted,
        "plain_swap": swaps,
        "volume": None if below is None else _fields(below),
        "open": [_fields(one) for one in volumes.open_volumes()],
    }
    if not exists:
        said = f"{cli.root} is not there: is the volume open? ('sealbox volume open')"
    elif encrypted:
        said = f"{cli.root} is encrypted: its volume is a LUKS device"
    else:
        said = f"{cli.root} is NOT encrypted: 'sealbox volume create' makes an encrypted volume (LUKS)"
    cli.answer(
        fields,
        said,
        *(f"open     {one.name}: {one.device}{_where(one)}" for one in volumes.open_volumes()),
        f"swap     NOT encrypted: {', '.join(swaps)}" if swaps else "swap     none, or encrypted",
    )
    if not encrypted or swaps:
        raise SystemExit(EXIT_STORAGE)


def _fields(one: volumes.Volume) -> dict[str, object]:
    return {
        "name": one.name,
        "device": str(one.device),
        "mounted": None if one.mount is None else one.mount.point,
    }


def _where(one: volumes.Volume) -> str:
    return ", not mounted" if one.mount is None else f", mounted at {one.mount.point} ({one.mount.kind})"
