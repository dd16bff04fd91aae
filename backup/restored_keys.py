"""Decide which keyslots a restored account gets, and put them where the installation takes them from."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

from backup.errors import KeysDamaged
from backup.keyslots import Difference, difference, newest_keys, one_master_key
from backup.rebuild import Rebuilt
from backup.segment import SegmentName
from backup.source import Source
from mailstore.account import AccountPaths
from mailstore.directory import AccountRecord
from mailstore.durable import replace_file, storage_errors
from mailstore.errors import HeaderTampered, NoSuchAccount, TooNew
from mailstore.keys import Header, decode_header, read_header


class Keyslots(StrEnum):
    """Which keyslots a restored account gets."""

    NOW = "now"
    """Today's, if they are known: what was revoked or replaced since does not open the account again."""

    THEN = "then"
    """Those of the restored point in time."""


def choose_keys(
    paths: AccountPaths,
    folder: Path,
    record: AccountRecord,
    source: Source,
    names: tuple[SegmentName, ...],
    rebuilt: Rebuilt,
    wanted: Keyslots,
) -> tuple[Keyslots, Difference]:
    """Prepare the key header of a rebuilt account in ``folder``; returns the choice and how the two differ.

    ``names`` are all segments of its stream. Without a newer header that is sound and under the same master
    key the one of the time stays. Where the living account's stays, ``folder`` has none afterwards.

    Raises:
        KeysDamaged: the one of the time is no header, and no other may take its place; nothing was changed.
        StorageFull, StorageFailed: as they say.
    """
    then = _header(folder)
    living = _living(paths, record)
    raw = None
    newer = living
    if newer is None:
        raw = newest_keys(source, names, rebuilt.newest)
        newer = _decoded(raw)
    if then is None:
        _require(newer, wanted)
        found = Difference()
    elif newer is None or not one_master_key(then, newer):
        return Keyslots.THEN, Difference()
    else:
        found = difference(then, newer)
        if wanted is Keyslots.THEN:
            return Keyslots.THEN, found
    with storage_errors():
        if living is not None:
            # Left in place instead of copied: a password that is changed meanwhile stays changed.
            (folder / "keys").unlink(missing_ok=True)
        elif raw is not None:
            replace_file(folder / "keys", raw)
    return Keyslots.NOW, found


def _require(newer: Header | None, wanted: Keyslots) -> None:
    """Require a newer header in place of a damaged one in the snapshot. Raises KeysDamaged."""
    if newer is None:
        raise KeysDamaged(
            "the snapshot's key header is damaged, and there is no newer one: choose an earlier time"
            " with --at, or --newest-sound"
        )
    if wanted is Keyslots.THEN:
        raise KeysDamaged(
            "the snapshot's key header is damaged: choose an earlier time with --at, or leave out --keyslots"
        )


def _living(paths: AccountPaths, record: AccountRecord) -> Header | None:
    """The living account's header, if it is the one that the directory knows."""
    header = _header(paths.folder)
    if header is None:
        return None
    known = (header.public_key, header.generation) == (record.public_key, record.header_generation)
    return header if known else None


def _header(folder: Path) -> Header | None:
    try:
        return read_header(folder).header
    except (HeaderTampered, TooNew, NoSuchAccount):
        return None


def _decoded(raw: bytes | None) -> Header | None:
    try:
        return None if raw is None else decode_header(raw).header
    except (HeaderTampered, TooNew):
        return None
