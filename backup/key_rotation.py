"""Exchange the server's key: copy what is encrypted under it, and change the key that signs snapshots.

The order is such that, whatever interrupts it, the key that is in its place opens everything or leads to
the one that does: the old key is sealed under the new one (the handover), copies are made and compared, the
new key takes the old one's place, the copies take theirs, the handover is destroyed. Before the new key is in
its place nothing has changed; from then on :func:`finish` does the rest, whoever put it there.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from backup.former_keys import FormerKey, decode_former, encode_former
from backup.job import Places
from backup.segment import StreamId
from backup.signing import Signer
from backup.state import Numbers, rekeying_of_state, sign_anew
from mailstore.account import read_server_key
from mailstore.directory import rekeying_of_directory
from mailstore.durable import FILE_MODE, storage_errors, take_place, write_new
from mailstore.errors import StoreError
from mailstore.server_key import (
    DECOY_NOTE,
    FORMER_KEYS_NOTE,
    NEW_KEY,
    SERVER_KEY_BYTES,
    SERVER_KEY_NAME,
    Found,
    WrongServerKey,
    decoy_secret,
    is_begun,
    is_handed_over,
    is_unfinished,
    key_lock,
    key_text,
    read_handover,
    read_note,
    remove_handover,
    write_handover,
    write_note,
)
from mailstore.server_rekeying import Rekeying

PATIENCE_S = 10.0
"""Seconds to wait for other commands to end."""


@dataclass(frozen=True, slots=True)
class Rotated:
    """The public halves of the signing keys, no secrets."""

    before: bytes
    now: bytes


def rotate(root: Path, now_ms: int) -> Rotated:
    """Exchange a key that lies in the data root. What an interrupted run left is finished or undone first.

    Raises:
        WrongServerKey, DirectoryUnderKey. Busy: a server or a command has something open. StorageFull,
        StorageFailed: the server may start, with one key or the other, and this may be repeated.
        ServerKeyLost, DatabaseDamaged, TooNew.
    """
    new = os.urandom(SERVER_KEY_BYTES)
    with _alone(root):
        old = read_server_key(root)
        _go_on(root, old, now_ms)
        _databases(root, old, new)  # refused before anything is written
        try:
            with storage_errors():
                write_new(root / NEW_KEY, key_text(new))
            write_handover(root, old, new)
            prepared = _prepare(root, old, new, now_ms)
            with storage_errors():
                (root / SERVER_KEY_NAME).chmod(FILE_MODE)  # to be overwritten it has to be writable
                take_place((root / NEW_KEY, root / SERVER_KEY_NAME))
        except BaseException:
            with suppress(StoreError):
                _undo(root, read_server_key(root))
            raise
        prepared.place(root, new)
        remove_handover(root)
    return Rotated(Signer(old).public, Signer(new).public)


def hand_over(root: Path, old: bytes, write: Callable[[bytes], object], now_ms: int) -> Rotated:
    """Prepare the exchange of a key that is kept elsewhere; ``write`` gets the content of the new one's file.

    ``old`` is the present key. It stays in use until the new one is in its place, and then :func:`finish`
    goes on; that it can is tried here. Raises as :func:`rotate`, and what ``write`` raises.
    """
    new = os.urandom(SERVER_KEY_BYTES)
    with _alone(root):
        _go_on(root, old, now_ms)
        for one in _prepare(root, old, new, now_ms).copies:
            one.discard()
        write(key_text(new))
        write_handover(root, old, new)
    return Rotated(Signer(old).public, Signer(new).public)


def abandon(root: Path, present: bytes) -> bool:
    """Let the present key stay, where a new one was made and is not in its place; whether there was one.

    Raises WrongServerKey: something is not under ``present``, so that nothing has been changed; Busy,
    StorageFailed.
    """
    with _alone(root):
        if not is_handed_over(root) or read_handover(root, present) is not None:
            return False
        directory, state = _databases(root, present, present)
        if directory is not None and not directory.is_under(directory.old):
            raise WrongServerKey
        if state.is_there() and not state.is_under(state.old):
            raise WrongServerKey
        _undo(root, present)
        return True


def finish(root: Path, now_ms: int) -> Found:
    """Bring everything under the key that is in its place, if the one before was left to it.

    Raises as :func:`rotate`.
    """
    if not is_begun(root):
        return Found.NOTHING
    if not is_unfinished(root) and read_handover(root, read_server_key(root)) is None:
        return Found.WAITING
    with _alone(root):
        return _go_on(root, read_server_key(root), now_ms)


def _go_on(root: Path, present: bytes, now_ms: int) -> Found:
    """What :func:`finish` does; nobody else has anything open."""
    was_begun, is_left = is_handed_over(root), is_unfinished(root)
    old = read_handover(root, present)
    if old is not None:
        _prepare(root, old, present, now_ms).place(root, present)
        remove_handover(root)
        return Found.FINISHED
    if is_left:
        _undo(root, present)
        return Found.UNDONE if was_begun else Found.NOTHING
    return Found.WAITING if was_begun else Found.NOTHING


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    with key_lock(root, exclusive=True, timeout_s=PATIENCE_S):
        yield


@dataclass(frozen=True, slots=True)
class _Prepared:
    """What takes its place once the key has."""

    copies: tuple[Rekeying, ...]
    notes: Mapping[str, str] = field(repr=False)

    def place(self, root: Path, new: bytes) -> None:
        """The notes first: what they say can be seen in the old copies alone."""
        for name, text in self.notes.items():
            write_note(root, new, name, text)
        for one in self.copies:
            one.place()


def _prepare(root: Path, old: bytes, new: bytes, now_ms: int) -> _Prepared:
    """Copy what is still under the old key; what is there then takes no more room when it takes its place."""
    directory, state = _databases(root, old, new)
    if directory is not None and not (directory.is_under(directory.old) or directory.is_under(directory.new)):
        raise WrongServerKey
    copies: list[Rekeying] = []
    numbers: dict[StreamId, Numbers] = {}
    try:
        if directory is not None and directory.is_under(directory.old):
            copies.append(directory)
            directory.prepare(lambda _txn: None)
        if state.is_there() and not state.is_under(state.new):
            copies.append(state)
            numbers = state.prepare(sign_anew)
    except BaseException:
        with suppress(StoreError):
            for one in copies:
                one.discard()
        raise
    return _Prepared(tuple(copies), _notes(root, old, new, numbers, now_ms))


def _databases(root: Path, old: bytes, new: bytes) -> tuple[Rekeying | None, Rekeying]:
    """The directory, if it is under the server's key, and the snapshot records. Raises DirectoryUnderKey."""
    return rekeying_of_directory(root, old, new), rekeying_of_state(Places(root).folder, old, new)


def _notes(
    root: Path, old: bytes, new: bytes, numbers: Mapping[StreamId, Numbers], now_ms: int
) -> dict[str, str]:
    """What has to outlive the old key; nothing where that is noted under the new one already."""
    if read_note(root, new, FORMER_KEYS_NOTE) is not None:
        return {}
    earlier = decode_former(read_note(root, old, FORMER_KEYS_NOTE))
    if numbers:
        earlier = tuple(_still_needed(one, numbers) for one in earlier)
    before, now = Signer(old), Signer(new)
    last = {stream: known.newest for stream, known in numbers.items()}
    former = FormerKey(before.public, now.public, before.name_successor(now.public), now_ms, last)
    # In this order: the last one says that all are there.
    return {
        DECOY_NOTE: _decoy_secret(root, old, new),
        FORMER_KEYS_NOTE: encode_former([*earlier, former]),
    }


def _decoy_secret(root: Path, old: bytes, new: bytes) -> str:
    return read_note(root, new, DECOY_NOTE) or decoy_secret(root, old).hex()


def _still_needed(key: FormerKey, numbers: Mapping[StreamId, Numbers]) -> FormerKey:
    """Without the streams of which everything has expired that it signed."""
    last = {
        stream: number
        for stream, number in key.last.items()
        if stream in numbers and numbers[stream].oldest <= number
    }
    return replace(key, last=last)


def _undo(root: Path, present: bytes) -> None:
    """Remove what was prepared for a key that is not in its place."""
    if read_handover(root, present) is not None:
        return  # it is in its place after all
    for one in _databases(root, present, present):
        if one is not None:
            one.discard()
    remove_handover(root)
