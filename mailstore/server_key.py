"""The server's own key: its file, the lock of those who use it, and how an old one is left to a new one.

It opens no account. What is derived from it, and what becomes of that when it is exchanged, is in FORMAT.md,
section 2; the exchange itself is ``backup.key_rotation``.
"""

from __future__ import annotations

import os
import re
from contextlib import AbstractContextManager, suppress
from enum import Enum, auto
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from mailstore.durable import make_folder, shred, storage_errors, sync_folder, write_new
from mailstore.errors import ServerKeyLost
from mailstore.keys import MASTER_KEY_BYTES, NONCE_BYTES, RandomBytes, ServerKeyLabel, derive
from mailstore.locks import LOCK_TIMEOUT_S, HeldLock, locked

SERVER_KEY_NAME = "server.key"
SERVER_KEY_BYTES = 32

KEY_LOCK = "server.key.lock"
"""flock below the data root: shared while something is open that is encrypted under the key."""

NEW_KEY = ".server.key.new"
"""Below the data root: a key that is about to take the other one's place, or is being destroyed."""

HANDOVER = "server.key.handover"
"""Below the data root: the old key, sealed under the new one, until nothing is under the old one any more."""

_NEW_HANDOVER = f".{HANDOVER}.new"

DECOY_NOTE = "decoy_secret"
"""What makes the salts of unknown names, once it is not derived from the key."""

FORMER_KEYS_NOTE = "former_signing_keys"
"""Public halves of the signing keys of before; see ``backup.former_keys``."""

NOTES = (DECOY_NOTE, FORMER_KEYS_NOTE)
"""What outlives a key, in files of this folder below the data root, each sealed under the key of today."""

_NOTES_FOLDER = "notes"
_NOTE_MAGIC = b"SEALNOTE\x01"
_MAGIC = b"SEALHAND\x01"
_TEXT = re.compile(rb"[0-9a-f]{64}\n?")


class WrongServerKey(Exception):
    """The directory was made with another key. Nothing has been changed."""


class DirectoryUnderKey(Exception):
    """The directory is where it cannot be copied, under a key derived from the server's."""


class Found(Enum):
    """What whoever wants to go on with an exchange has met."""

    NOTHING = auto()
    """No exchange was begun."""

    FINISHED = auto()
    """The new key was in its place, and everything is under it now."""

    UNDONE = auto()
    """A run was interrupted before that, and what it had left was removed."""

    WAITING = auto()
    """A new key was made that somebody has to put in its place; the present one opens everything."""


def parse_server_key(raw: bytes) -> bytes:
    """The 32-byte key in the content of its file. Raises ServerKeyLost."""
    if not _TEXT.fullmatch(raw):
        raise ServerKeyLost
    return bytes.fromhex(raw.decode("ascii"))


def key_text(server_key: bytes) -> bytes:
    """The content of a key's file."""
    return server_key.hex().encode("ascii") + b"\n"


def write_first_key(root: Path, server_key: bytes) -> None:
    """Write the key of a new server, unless another process was faster. Raises OSError."""
    temporary = root / f".server.key.{os.urandom(4).hex()}.tmp"
    write_new(temporary, key_text(server_key))
    try:
        # A link, because two first starts may race and the loser must use the winner's key.
        os.link(temporary, root / SERVER_KEY_NAME)
    except FileExistsError:
        pass
    finally:
        temporary.unlink()
    sync_folder(root)


def decoy_secret(root: Path, server_key: bytes) -> bytes:
    """What makes up the salts of unknown names. It outlives the key that it was derived from first.

    Those of accounts stay as well: if only these did, whoever had asked before would know which names are
    unknown. Also right while the key is being exchanged. Raises StorageFailed.
    """
    before = read_handover(root, server_key)
    noted = read_note(root, server_key, DECOY_NOTE)
    if noted is None and before is not None:
        noted, server_key = read_note(root, before, DECOY_NOTE), before
    if noted is not None:
        return bytes.fromhex(noted)
    return derive(server_key, ServerKeyLabel.SCRAM_DUMMY_SALT, MASTER_KEY_BYTES)


def seal_note(server_key: bytes, name: str, text: str, random: RandomBytes = os.urandom) -> bytes:
    """The content of a note's file."""
    nonce = random(NONCE_BYTES)
    data = _NOTE_MAGIC + name.encode("ascii")
    return _NOTE_MAGIC + nonce + _note_cipher(server_key).encrypt(nonce, text.encode("utf-8"), data)


def _note_cipher(server_key: bytes) -> AESGCM:
    return AESGCM(derive(server_key, ServerKeyLabel.NOTES, SERVER_KEY_BYTES))


def read_note(root: Path, server_key: bytes, name: str) -> str | None:
    """A note; None where there is none under this key. Raises StorageFailed."""
    with storage_errors():
        try:
            raw = (root / _NOTES_FOLDER / name).read_bytes()
        except FileNotFoundError:
            return None
    start = len(_NOTE_MAGIC) + NONCE_BYTES
    data = raw[: len(_NOTE_MAGIC)] + name.encode("ascii")
    try:
        return (
            _note_cipher(server_key).decrypt(raw[len(_NOTE_MAGIC) : start], raw[start:], data).decode("utf-8")
        )
    except (InvalidTag, ValueError):
        return None


def read_notes(root: Path, server_key: bytes) -> dict[str, str]:
    """All notes. Raises StorageFailed."""
    found = {name: read_note(root, server_key, name) for name in NOTES}
    return {name: text for name, text in found.items() if text is not None}


def write_note(root: Path, server_key: bytes, name: str, text: str) -> None:
    """Write a note, in place of an earlier one. Raises StorageFailed, StorageFull."""
    with storage_errors():
        make_folder(root / _NOTES_FOLDER)
    _put(root / _NOTES_FOLDER / name, seal_note(server_key, name, text))


def _put(path: Path, data: bytes) -> None:
    """As ``replace_file``; what a crash leaves has the same name each time."""
    with storage_errors():
        fresh = path.with_name(f".{path.name}.new")
        fresh.unlink(missing_ok=True)
        write_new(fresh, data)
        fresh.rename(path)
        sync_folder(path.parent)


def key_lock(
    root: Path, *, exclusive: bool = False, timeout_s: float = LOCK_TIMEOUT_S
) -> AbstractContextManager[HeldLock]:
    """Shared: nobody exchanges the key, nor what is encrypted under it. Exclusive: nobody has that open.

    Raises Busy, StorageFailed.
    """
    return locked(root / KEY_LOCK, exclusive=exclusive, timeout_s=timeout_s)


def seal_handover(old: bytes, new: bytes, random: RandomBytes = os.urandom) -> bytes:
    """The old key, for whoever has the new one."""
    nonce = random(NONCE_BYTES)
    key = derive(new, ServerKeyLabel.HANDOVER, SERVER_KEY_BYTES)
    return _MAGIC + nonce + AESGCM(key).encrypt(nonce, old, _MAGIC)


def open_handover(raw: bytes, server_key: bytes) -> bytes | None:
    """The key that was left to this one; None when it was left to another."""
    start = len(_MAGIC) + NONCE_BYTES
    key = derive(server_key, ServerKeyLabel.HANDOVER, SERVER_KEY_BYTES)
    try:
        return AESGCM(key).decrypt(raw[len(_MAGIC) : start], raw[start:], raw[: len(_MAGIC)])
    except (InvalidTag, ValueError):
        return None


def write_handover(root: Path, old: bytes, new: bytes) -> None:
    """Leave the old key to whoever has the new one. Raises StorageFailed, StorageFull."""
    _put(root / HANDOVER, seal_handover(old, new))


def is_handed_over(root: Path) -> bool:
    """Whether a new key was made that does not have everything yet. Raises StorageFailed."""
    with storage_errors():
        return (root / HANDOVER).exists()


def is_begun(root: Path) -> bool:
    """Whether there is anything to go on with, or to undo. Raises StorageFailed."""
    return is_handed_over(root) or is_unfinished(root)


def is_unfinished(root: Path) -> bool:
    """Whether an interrupted run has left what :func:`remove_handover` removes. Raises StorageFailed."""
    with storage_errors():
        return any((root / name).exists() for name in (NEW_KEY, _NEW_HANDOVER))


def read_handover(root: Path, server_key: bytes) -> bytes | None:
    """The key that was left to this one; None when there is none, or it was left to another.

    Raises StorageFailed.
    """
    with storage_errors():
        try:
            raw = (root / HANDOVER).read_bytes()
        except FileNotFoundError:
            return None
    return open_handover(raw, server_key)


def remove_handover(root: Path) -> None:
    """Destroy the old key. Raises StorageFailed."""
    with storage_errors():
        # Under its own name it would be taken for somebody else's once it is half overwritten.
        with suppress(FileNotFoundError):
            (root / HANDOVER).rename(root / NEW_KEY)
            sync_folder(root)
        for name in (NEW_KEY, _NEW_HANDOVER):
            shred(root / name)
