"""``sealbox server-key rotate``. Exit codes: see deploy/cli/sentences.py."""

from __future__ import annotations

import os
import time
from functools import partial
from pathlib import Path

import click

from backup.key_rotation import Rotated, abandon, hand_over, rotate
from deploy import serving
from deploy.cli.owner import as_caller
from deploy.cli.root import EPILOG, EXIT_BUSY, EXIT_SECRET, EXIT_STORAGE, EXIT_USAGE, Cli, Refusal, command
from deploy.cli.snapshot_store import has_snapshots
from mailstore.account import has_directory, read_server_key
from mailstore.damage import GUIDE, SERVER_SECTION
from mailstore.directory import directory_place
from mailstore.durable import storage_errors, sync_folder, write_new
from mailstore.errors import Busy, NotInitialised, ServerKeyLost, StoreError
from mailstore.keys import process_hardening
from mailstore.server_key import SERVER_KEY_NAME, DirectoryUnderKey, WrongServerKey, parse_server_key

_FILE = click.Path(path_type=Path)
_MOST_BYTES = 1024
"""Read of a file that should hold a key."""

_SERVED = (
    "a server runs on this data root: stop it first (systemctl stop sealbox.service, and the sockets);"
    " it may start again when this is done, seconds later"
)


@click.group("server-key", epilog=EPILOG)
def server_key() -> None:
    """Exchange the server's own key, server.key; it opens no account and no mail."""


@server_key.command("rotate", epilog=EPILOG)
@click.option(
    "--new-key", type=_FILE, metavar="FILE", help="File to make for the new key, if you keep it elsewhere."
)
@click.option(
    "--key", type=_FILE, metavar="FILE", help="The present key, where server.key leads nowhere now."
)
@click.option(
    "--abandon", "is_off", is_flag=True, help="Keep the present key, if a new one is not in its place."
)
@command
def rotate_command(cli: Cli, new_key: Path | None, key: Path | None, is_off: bool) -> None:
    """Make a new server's key and bring everything under it that is under the old one; no mail is touched.

    The server has to be stopped; it takes seconds. Directory and snapshot records are copied under the new
    key, compared, and exchanged; snapshots are signed with another key from then on, and those that are
    stored stay valid. Interrupted at any point, the next command or start of the server finishes or undoes
    it.

    A key that does not lie in the data root itself, such as a credential of systemd, is exchanged by you: the
    new one is written to the file of --new-key, and the present one stays in use until you have put the new
    one in its place; the next start of the server does the rest.
    """
    process_hardening()
    try:
        serving.check_not_served(cli.root)
    except serving.CannotServe:
        raise Refusal(_SERVED, EXIT_BUSY) from None
    if not os.path.lexists(cli.root / SERVER_KEY_NAME):
        read_server_key(cli.root)  # says whether it was lost
    if directory_place(cli.root) is None and not has_directory(cli.root):
        raise NotInitialised
    if _owner_of(cli.root) != os.geteuid():
        raise Refusal(f"the data in {cli.root} belong to another user: run it as that user")
    try:
        if is_off:
            _abandon(cli, key)
        elif new_key is None:
            _rotate(cli, key)
        else:
            _hand_over(cli, new_key, key)
    except Busy:
        raise Refusal(
            "another command works on this data root: run it again when that has ended; nothing was changed",
            EXIT_BUSY,
        ) from None
    except WrongServerKey:
        raise _wrong_key(key) from None
    except DirectoryUnderKey:
        raise Refusal(f"{serving.UNDER_KEY}; nothing was changed") from None


def _rotate(cli: Cli, key: Path | None) -> None:
    place = cli.root / SERVER_KEY_NAME
    if place.is_symlink() or (place.exists() and _owner_of(place) != os.geteuid()):
        raise Refusal(
            f"{place} leads elsewhere or is another user's: name a file for the new key with --new-key, which"
            " you then put in its place; see 'sealbox server-key rotate --help'",
            EXIT_USAGE,
        )
    if key is not None:
        raise Refusal(f"--key is for a key that does not lie in {cli.root}", EXIT_USAGE)
    done = rotate(cli.root, _now_ms())
    cli.answer(
        _fields(done, None),
        "the server has a new key, and everything is under it",
        *_lines(cli, done),
        "start the server again",
    )


def _hand_over(cli: Cli, new_key: Path, key: Path | None) -> None:
    with as_caller():
        if new_key.exists():
            raise Refusal(f"{new_key} is there already: keys are never overwritten, choose another name")
    if cli.root.resolve() in new_key.resolve().parents:
        raise Refusal(f"{new_key} lies in the data root: choose a folder outside of it", EXIT_USAGE)
    try:
        done = hand_over(cli.root, _present(cli.root, key), partial(_write_as_caller, new_key), _now_ms())
    except StoreError:
        with as_caller():
            if new_key.exists():
                click.echo(f"{new_key} is good for nothing: destroy it, and try again", err=True)
        raise
    place = cli.root / SERVER_KEY_NAME
    leads = f"{place}, which leads to {place.readlink()}," if place.is_symlink() else str(place)
    cli.answer(
        _fields(done, new_key),
        f"the new key is in {new_key.absolute()}; until it is in its place the present one stays in use",
        f"1. keep a copy of it elsewhere, as of the present one; then put it in the place of {leads}",
        "   (a credential: systemd-creds encrypt --name=server.key FILE /etc/sealbox/server.key.cred)",
        "2. start the server, which brings everything under it and says so in its log",
        "3. destroy the old key and its copies, and the file that was made here (shred -u)",
        *_lines(cli, done),
    )


def _abandon(cli: Cli, key: Path | None) -> None:
    if not abandon(cli.root, _present(cli.root, key)):
        raise Refusal("there is nothing to abandon: no new key waits to be put in its place")
    cli.answer({"abandoned": True}, "the present key stays; the new one is good for nothing, destroy it")


def _owner_of(path: Path) -> int:
    with storage_errors():
        return path.stat().st_uid


def _present(root: Path, key: Path | None) -> bytes:
    """The present key. Raises Refusal, ServerKeyLost."""
    if key is None:
        try:
            return read_server_key(root)
        except ServerKeyLost:
            place = root / SERVER_KEY_NAME
            if not place.is_symlink():
                raise
            raise Refusal(
                f"{place} leads nowhere while the server is stopped: give the present key with --key"
                " (a credential: systemd-creds decrypt --name=server.key CREDENTIAL FILE)",
                EXIT_USAGE,
            ) from None
    try:
        with as_caller(), key.open("rb") as file:
            return parse_server_key(file.read(_MOST_BYTES))
    except OSError as error:
        raise Refusal(f"{key} cannot be read: {error.strerror}", EXIT_USAGE) from None
    except ServerKeyLost:
        raise Refusal(f"{key} holds no server's key, which is 64 hexadecimal digits", EXIT_USAGE) from None


def _write_as_caller(path: Path, data: bytes) -> None:
    try:
        with as_caller():
            write_new(path, data)
            sync_folder(path.parent)
    except OSError as error:
        sentence = f"{path} cannot be written: {error.strerror}; nothing was changed"
        raise Refusal(sentence, EXIT_STORAGE) from None


def _wrong_key(key: Path | None) -> Refusal:
    if key is not None:
        return Refusal(
            f"{key} is not the key that directory.db was made with: nothing was changed", EXIT_SECRET
        )
    return Refusal(
        "directory.db is damaged, or server.key is not the one it was made with: nothing was changed, see"
        f' {GUIDE}, "{SERVER_SECTION}"',
        EXIT_STORAGE,
    )


def _now_ms() -> int:
    return int(time.time() * 1000)


def _fields(done: Rotated, new_key: Path | None) -> dict[str, object]:
    return {
        "signing_key": done.now.hex(),
        "signing_key_before": done.before.hex(),
        "in_place": new_key is None,
        "new_key": None if new_key is None else str(new_key),
    }


def _lines(cli: Cli, done: Rotated) -> tuple[str, ...]:
    """What to keep of the signing keys; nothing where no snapshot was ever taken."""
    if not has_snapshots(cli.root):
        return ()
    return (
        f"signing key of snapshots from now on: {done.now.hex()}  (write it down beside the private key)",
        f"until now:                            {done.before.hex()}  (keep it until 'sealbox backup run' has"
        " succeeded with the new one)",
    )
