"""The operator's backup key pair and its two files (FORMAT.md section 3)."""

from __future__ import annotations

import base64
import binascii
from contextlib import ExitStack
from pathlib import Path

from backup.errors import KeyFileInvalid
from mailstore.durable import storage_errors, sync_folder, write_new
from mailstore.errors import HeaderTampered
from mailstore.keys import (
    PRIVATE_KEY_BYTES,
    PrivateKey,
    PublicKey,
    load_private_key,
    load_public_key,
    new_private_key,
)

_PRIVATE = b"sealbox-backup-private-1 "
_PUBLIC = b"sealbox-backup-public-1 "
_MAX_FILE_BYTES = 4096


def generate(private_path: Path, public_path: Path) -> None:
    """Make a key pair and write its two files, which must not exist.

    Raises:
        FileExistsError: one of them is there. StorageFailed, StorageFull: neither file stays.
    """
    with storage_errors():
        is_taken = private_path.exists() or public_path.exists()
    if is_taken:
        raise FileExistsError
    raw = new_private_key()
    public = load_private_key(raw).public
    with storage_errors(), ExitStack() as made:
        for path, label, key in ((private_path, _PRIVATE, raw), (public_path, _PUBLIC, public)):
            write_new(path, label + base64.b64encode(key) + b"\n")
            made.callback(path.unlink)
        for folder in {private_path.parent, public_path.parent}:
            sync_folder(folder)
        made.pop_all()


def read_private_key(path: Path) -> PrivateKey:
    """The private key in a file. Raises KeyFileInvalid, StorageFailed."""
    raw = _decoded(path, _PRIVATE)
    if len(raw) != PRIVATE_KEY_BYTES:
        raise KeyFileInvalid("this is not a private backup key")
    return load_private_key(raw)


def read_public_key(path: Path) -> PublicKey:
    """The public key in a file. Raises KeyFileInvalid, StorageFailed."""
    public = PublicKey(_decoded(path, _PUBLIC))
    try:
        load_public_key(public)
    except HeaderTampered:
        raise KeyFileInvalid("this is not a public backup key") from None
    return public


def _decoded(path: Path, label: bytes) -> bytes:
    with storage_errors(), path.open("rb") as file:
        line = file.read(_MAX_FILE_BYTES)
    if not line.startswith(label):
        raise KeyFileInvalid(f"the file does not begin with {label.decode('ascii').strip()!r}")
    try:
        return base64.b64decode(line[len(label) :].strip(), validate=True)
    except binascii.Error:
        raise KeyFileInvalid("the key is not base64") from None
