"""Which secrets open a restored account: those of the time it is restored to, or those of now.

A key header is authenticated with the master key, which is not available here, so it is used whole or not at
all.
It opens every database of its account as long as the master key is the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from backup.errors import BackupError
from backup.segment import KEYS_FILE, SegmentName
from backup.source import Source
from mailstore.keys import Header, Keyslot, SlotKind


@dataclass(frozen=True, slots=True)
class Difference:
    """Keyslots as text for people: kind, label, day of creation."""

    only_then: tuple[str, ...] = field(default=(), repr=False)
    """They opened the account then, and were revoked or replaced since."""

    only_now: tuple[str, ...] = field(default=(), repr=False)
    """They were made since."""


def difference(then: Header, now: Header) -> Difference:
    """Which keyslots two headers of one account do not share."""
    old, new = ({slot.id for slot in header.slots} for header in (then, now))
    return Difference(
        tuple(_described(slot) for slot in then.slots if slot.id not in new),
        tuple(_described(slot) for slot in now.slots if slot.id not in old),
    )


def one_master_key(then: Header, now: Header) -> bool:
    """Whether both are under the same master key: the private key is then wrapped in the same octets."""
    return (then.account_id, then.public_key, then.private_key) == (
        now.account_id,
        now.public_key,
        now.private_key,
    )


def newest_keys(source: Source, names: Iterable[SegmentName], after: SegmentName) -> bytes | None:
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
