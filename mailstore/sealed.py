"""Sealed messages: mail that arrived and that only the account's private key can open.

FORMAT.md section 6 is the specification. Sealing happens in memory; what reaches the disk is ciphertext,
under a name that reveals only the time of arrival.
"""

import os
import re
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, NewType

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from mailstore.durable import storage_errors, sync_folder, write_new
from mailstore.errors import NoSuchAccount, NoSuchMessage, SealedMessageDamaged, StorageFailed, StoreError
from mailstore.inbox_size import SUFFIX, Admit, changing
from mailstore.keys import AccountId, PrivateKey, PublicKey, RandomBytes, load_public_key

SealedId = NewType("SealedId", str)

MAGIC = b"SEALBOX\x01"
DAMAGED_SUFFIX = ".damaged"
LEFTOVER_AGE_S = 3600.0

_SUITE = Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
_ID = re.compile(r"[0-9a-f]{16}-[0-9a-f]{16}")
_TEMPORARY = re.compile(r"\.([0-9a-f]{16}-[0-9a-f]{16})\.tmp")
_INFO_LABEL = b"sealbox/1/sealed"
_FACTS_VERSION = 1
_HEAD = struct.Struct(">IQ")
_FIXED = struct.Struct(">BqB")
_LENGTH = struct.Struct(">I")


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known about a message besides its bytes.

    ``received`` is in epoch seconds. ``trace_header`` holds the header fields that delivery adds in
    front (Return-Path, Delivered-To, Received; RFC 5321, 4.4), complete with their CRLFs.
    """

    received: int
    envelope_from: bytes = field(default=b"", repr=False)
    envelope_to: bytes = field(default=b"", repr=False)
    mailbox_hint: str | None = field(default=None, repr=False)
    trace_header: bytes = field(default=b"", repr=False)
    flags: tuple[bytes, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class SealedLimits:
    """Bounds for reading a sealed message."""

    blob_bytes: int = 256 * 1024 * 1024
    flags: int = 128


DEFAULT_LIMITS = SealedLimits()


def new_sealed_id(
    *, clock_ns: Callable[[], int] = time.time_ns, random: RandomBytes = os.urandom
) -> SealedId:
    """A name for a message that arrives now; names sort by time of arrival."""
    return SealedId(f"{clock_ns():016x}-{random(8).hex()}")


def arrived_s(name: str) -> float:
    """When a message arrived whose id a file's name begins with, in seconds since the epoch; 0 for others."""
    found = _ID.match(name)
    return int(found[0][:16], 16) / 1_000_000_000 if found else 0.0


def seal(
    public_key: PublicKey, account_id: AccountId, sealed_id: SealedId, message: bytes, facts: Facts
) -> bytes:
    """Encrypt ``message`` and ``facts`` so that only the account can open them, under this id only.

    Takes about 0.2 ms and 0.8 ms per MB; large mail belongs in a thread. Raises HeaderTampered if the
    public key is no key.
    """
    plaintext = _pad(_HEAD.pack(len(packed := _pack_facts(facts)), len(message)) + packed + message)
    return MAGIC + _SUITE.encrypt(plaintext, load_public_key(public_key), info=_info(account_id, sealed_id))


def open_sealed(
    private_key: PrivateKey,
    account_id: AccountId,
    sealed_id: SealedId,
    blob: bytes,
    limits: SealedLimits = DEFAULT_LIMITS,
) -> tuple[Facts, bytes]:
    """The facts and the message out of ``blob``. Raises SealedMessageDamaged."""
    if not blob.startswith(MAGIC) or len(blob) > limits.blob_bytes:
        raise SealedMessageDamaged
    try:
        plaintext = _SUITE.decrypt(
            memoryview(blob)[len(MAGIC) :], private_key.hpke, info=_info(account_id, sealed_id)
        )
    except InvalidTag:
        raise SealedMessageDamaged from None
    try:
        return _unpack(plaintext, limits)
    except (struct.error, UnicodeDecodeError):
        raise SealedMessageDamaged from None


def padded_size(size: int) -> int:
    """Padmé: the size that ``size`` is padded to; costs at most 12 % and leaks O(log log size) bits."""
    if size < 2:
        return size
    exponent = size.bit_length() - 1
    low_bits = exponent - exponent.bit_length()
    mask = (1 << low_bits) - 1
    return (size + mask) & ~mask


def deliver(inbox: Path, sealed_id: SealedId, blob: bytes, admit: Admit | None = None) -> None:
    """Put a sealed message into the inbox; when this returns it survives a power cut.

    Nothing is left behind on failure. Raises Busy, StorageFull, StorageFailed, NoSuchAccount, and what
    ``admit`` does.
    """
    temporary = inbox / f".{_checked(sealed_id)}.tmp"
    final = inbox / (sealed_id + SUFFIX)
    with storage_errors():
        try:
            write_new(temporary, blob)
            try:
                with changing(inbox, admit) as change:
                    temporary.rename(final)
                    change.added_bytes += len(blob)
                sync_folder(inbox)
            except BaseException:
                temporary.unlink(missing_ok=True)
                _take_back(inbox, sealed_id)
                raise
        except FileNotFoundError:
            raise NoSuchAccount from None


def _take_back(inbox: Path, sealed_id: SealedId) -> None:
    try:
        remove(inbox, sealed_id)
    except StoreError:
        (inbox / (sealed_id + SUFFIX)).unlink(missing_ok=True)  # its size is wrong until it is counted again


def pending(inbox: Path) -> list[SealedId]:
    """The ids of the messages that wait, in order of arrival. Raises StorageFailed, NoSuchAccount."""
    with storage_errors():
        try:
            names = os.listdir(inbox)  # noqa: PTH208 - names only, a folder may hold very many
        except FileNotFoundError:
            raise NoSuchAccount from None
    stems = (name.removesuffix(SUFFIX) for name in names if name.endswith(SUFFIX))
    return sorted(SealedId(stem) for stem in stems if _ID.fullmatch(stem))


def damaged_messages(inbox: Path) -> list[Path]:
    """Messages that could not be opened and that filing has renamed. Raises StorageFailed."""
    with storage_errors():
        return sorted(inbox.glob("*" + DAMAGED_SUFFIX))


class SealedFile(NamedTuple):
    """One waiting message's file, to tell it from another that has come under the same id."""

    size_bytes: int
    inode: int
    written_ns: int


def sealed_file(inbox: Path, sealed_id: SealedId) -> SealedFile:
    """The file of one waiting message. Raises NoSuchMessage, StorageFailed."""
    with storage_errors():
        try:
            found = (inbox / (_checked(sealed_id) + SUFFIX)).stat()
        except FileNotFoundError:
            raise NoSuchMessage from None
    return SealedFile(found.st_size, found.st_ino, found.st_mtime_ns)


def read_sealed(inbox: Path, sealed_id: SealedId, limits: SealedLimits = DEFAULT_LIMITS) -> bytes:
    """The bytes of one waiting message. Raises NoSuchMessage, SealedMessageDamaged, StorageFailed."""
    with storage_errors():
        try:
            with (inbox / (_checked(sealed_id) + SUFFIX)).open("rb") as file:
                blob = file.read(limits.blob_bytes + 1)
        except FileNotFoundError:
            raise NoSuchMessage from None
    if len(blob) > limits.blob_bytes:
        raise SealedMessageDamaged
    return blob


def being_delivered(name: str) -> SealedId | None:
    """The message that ``deliver`` writes into this file of an inbox; None if it is another file."""
    found = _TEMPORARY.fullmatch(name)
    return SealedId(found[1]) if found else None


def read_being_delivered(inbox: Path, sealed_id: SealedId, at_most_bytes: int) -> bytes | None:
    """What ``deliver`` has written so far, perhaps cut short; None when it is too large, or gone.

    Raises StorageFailed.
    """
    with storage_errors():
        try:
            with (inbox / f".{_checked(sealed_id)}.tmp").open("rb") as file:
                blob = file.read(at_most_bytes + 1)
        except FileNotFoundError:
            return None
    return blob if len(blob) <= at_most_bytes else None


def remove(inbox: Path, *sealed_ids: SealedId) -> None:
    """Unlink messages that have been filed; no error if they are gone. Raises Busy, StorageFailed.

    The folder is not fsynced: a message that reappears after a power cut is not filed twice.
    """
    paths = [inbox / (_checked(sealed_id) + SUFFIX) for sealed_id in sealed_ids]
    with changing(inbox) as change, storage_errors():
        for path in paths:
            with suppress(FileNotFoundError):
                size_bytes = path.stat().st_size
                path.unlink()
                change.added_bytes -= size_bytes


def withdraw(inbox: Path, sealed_id: SealedId) -> None:
    """Take back a message that has just been delivered, also if it has been marked as damaged meanwhile.

    Raises Busy, StorageFailed.
    """
    path = inbox / (_checked(sealed_id) + SUFFIX)
    with changing(inbox) as change, storage_errors():
        with suppress(FileNotFoundError):
            size_bytes = path.stat().st_size
            path.unlink()
            change.added_bytes -= size_bytes
        path.with_suffix(DAMAGED_SUFFIX).unlink(missing_ok=True)


def mark_damaged(inbox: Path, sealed_id: SealedId, seen: SealedFile) -> Path | None:
    """Rename a message that cannot be opened, so that filing passes it over; its new name.

    ``seen`` is its file from before it was read. If another has taken its place since, because the message
    was sealed to new keys, nothing happens (None). Raises Busy, StorageFailed.
    """
    path = inbox / (_checked(sealed_id) + SUFFIX)
    renamed = path.with_suffix(DAMAGED_SUFFIX)
    with changing(inbox) as change, storage_errors():
        with suppress(NoSuchMessage):
            if sealed_file(inbox, sealed_id) == seen:
                path.rename(renamed)
                change.added_bytes -= seen.size_bytes
                return renamed
        return None


def clean_leftovers(inbox: Path, *, now: float, older_than_s: float = LEFTOVER_AGE_S) -> int:
    """Remove temporary files of deliveries that died, by age; returns how many.

    ``now`` is in seconds since the epoch. Raises StorageFailed.
    """
    removed = 0
    with storage_errors():
        for path in inbox.iterdir():
            if not _TEMPORARY.fullmatch(path.name):
                continue
            try:
                if now - path.stat().st_mtime > older_than_s:
                    path.unlink()
                    removed += 1
            except FileNotFoundError:
                continue  # Its delivery was still running.
    return removed


def _checked(sealed_id: SealedId) -> SealedId:
    if not _ID.fullmatch(sealed_id):
        raise StorageFailed
    return sealed_id


def _info(account_id: AccountId, sealed_id: SealedId) -> bytes:
    return b"\0".join((_INFO_LABEL, account_id.encode("ascii"), sealed_id.encode("ascii")))


def _pad(data: bytes) -> bytes:
    return data.ljust(padded_size(len(data)), b"\0")


def _pack_facts(facts: Facts) -> bytes:
    hint = facts.mailbox_hint
    fields = (
        facts.envelope_from,
        facts.envelope_to,
        b"" if hint is None else hint.encode("utf-8"),
        facts.trace_header,
        *facts.flags,
    )
    head = _FIXED.pack(_FACTS_VERSION, facts.received, hint is not None)
    return head + b"".join(_LENGTH.pack(len(data)) + data for data in fields)


def _unpack(plaintext: bytes, limits: SealedLimits) -> tuple[Facts, bytes]:
    facts_size, message_size = _HEAD.unpack_from(plaintext)
    start = _HEAD.size + facts_size
    end = start + message_size
    if len(plaintext) != padded_size(end) or plaintext.count(0, end) != len(plaintext) - end:
        raise SealedMessageDamaged
    return _unpack_facts(plaintext[_HEAD.size : start], limits), plaintext[start:end]


def _unpack_facts(packed: bytes, limits: SealedLimits) -> Facts:
    version, received, has_hint = _FIXED.unpack_from(packed)
    if version != _FACTS_VERSION or has_hint > 1:
        raise SealedMessageDamaged
    fields: list[bytes] = []
    at = _FIXED.size
    while at < len(packed):
        (size,) = _LENGTH.unpack_from(packed, at)
        at += _LENGTH.size
        if size > len(packed) - at or len(fields) >= limits.flags + 4:
            raise SealedMessageDamaged
        fields.append(packed[at : at + size])
        at += size
    if len(fields) < 4 or (fields[2] and not has_hint):
        raise SealedMessageDamaged
    hint = fields[2].decode("utf-8") if has_hint else None
    return Facts(received, fields[0], fields[1], hint, fields[3], tuple(fields[4:]))
