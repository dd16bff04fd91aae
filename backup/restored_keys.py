"""Which secrets open a restored account: those of now, or those of the time it is restored to.

A key header is authenticated with the master key, which is not available here, so it is used whole or not at
all. It opens every database of its account as long as the master key is the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from backup.errors import BackupError, KeysDamaged
from backup.rebuild import Rebuilt
from backup.segment import KEYS_FILE, SegmentName
from backup.source import Source
from mailstore.account import AccountPaths
from mailstore.directory import AccountRecord
from mailstore.durable import replace_file, storage_errors
from mailstore.errors import HeaderTampered, NoSuchAccount, TooNew
from mailstore.keys import Header, Keyslot, SlotKind, decode_header, read_header


class Keyslots(StrEnum):
    """Which keyslots a restored account gets."""

    NOW = "now"
    """Today's, if they are known: what was revoked or replaced since does not open the account again."""

    THEN = "then"
    """Those of the restored point in time."""


@dataclass(frozen=True, slots=True)
class Difference:
    """Keyslots as text for people: kind, label, day of creation."""

    only_then: tuple[str, ...] = field(default=(), repr=False)
    """They opened the account then, and were revoked or replaced since."""

    only_now: tuple[str, ...] = field(default=(), repr=False)
    """They were made since."""

    other_master: bool = False
    """The account has got a new master key since: the keyslots of one do not open databases of the other."""


def choose_keys(
    living: Header | None,
    folder: Path,
    source: Source,
    names: tuple[SegmentName, ...],
    rebuilt: Rebuilt,
    wanted: Keyslots,
) -> tuple[Keyslots, Difference]:
    """Prepare the key header of a rebuilt account in ``folder``; returns the choice and how the two differ.

    ``living`` is the account's own by :func:`living_header`, ``names`` are all segments of its stream.
    Without a newer header that is sound and under the same master key the one of the time stays. Where the
    living account's stays, ``folder`` has none afterwards.

    Raises:
        KeysDamaged: the one of the time is no header, and no other may take its place; nothing was changed.
        StorageFull, StorageFailed.
    """
    then = _header(folder)
    raw = None
    newer = living
    if newer is None:
        raw = _newest_keys(source, names, rebuilt.newest)
        newer = _decoded(raw)
    if then is None:
        _require(newer, wanted)
        found = Difference()
    elif newer is None or not is_one_master_key(then, newer):
        return Keyslots.THEN, Difference(other_master=newer is not None)
    else:
        found = _difference(then, newer)
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


def living_header(paths: AccountPaths, record: AccountRecord) -> Header | None:
    """The living account's header, if it is the one that the directory knows. Raises StorageFailed."""
    header = _header(paths.folder)
    if header is None:
        return None
    # A crash may come between writing a header and noting its generation; a login takes it then too.
    known = header.public_key == record.public_key and header.generation >= record.header_generation
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


def _difference(then: Header, now: Header) -> Difference:
    """Which keyslots two headers of one account do not share."""
    old, new = ({slot.id for slot in header.slots} for header in (then, now))
    return Difference(
        tuple(_described(slot) for slot in then.slots if slot.id not in new),
        tuple(_described(slot) for slot in now.slots if slot.id not in old),
    )


def is_one_master_key(then: Header, now: Header) -> bool:
    """Whether both are under the same master key: the private key is then wrapped in the same octets."""
    return (then.account_id, then.public_key, then.private_key) == (
        now.account_id,
        now.public_key,
        now.private_key,
    )


def _newest_keys(source: Source, names: Iterable[SegmentName], after: SegmentName) -> bytes | None:
    """The key header in the newest segment behind ``after`` that has one and opens; None when none has.

    Only what is needed of each object is read. That the header is genuine is checked with its master key, at
    login.
    """
    for name in sorted((one for one in names if one > after), reverse=True):
        try:
            found = source.opened(name).file(KEYS_FILE)
        except BackupError:
            continue
        if found is not None:
            return found
    return None


def _described(slot: Keyslot) -> str:
    made = f"{datetime.fromtimestamp(slot.created, UTC):%Y-%m-%d}"
    if slot.kind is SlotKind.APP_PASSWORD:
        return f"app password {slot.label!r} of {made}"
    return f"{'password' if slot.kind is SlotKind.PASSWORD else 'recovery key'} of {made}"
