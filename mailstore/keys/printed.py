"""Secrets that the program makes and people type: app passwords and recovery keys; pure.

Both are groups of four characters of Crockford's base 32 (no i, l, o, u), joined by dashes. Reading
accepts any case, any or no dashes, spaces, and the look-alikes i, l (for 1) and o (for 0). The first
eight characters of an app password, and the eight after the mark of a recovery key, are the id of
its keyslot and public; FORMAT.md section 3.2 has the exact layout.
"""

import hashlib
import os
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NewType

from mailstore.keys.hierarchy import RandomBytes

SlotId = NewType("SlotId", str)

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
SLOT_ID_CHARS = 8
APP_SECRET_CHARS = 20
RECOVERY_MARK = "sbrk"
RECOVERY_SECRET_CHARS = 32
CHECKSUM_CHARS = 4
APP_CHARS = SLOT_ID_CHARS + APP_SECRET_CHARS
RECOVERY_CHARS = len(RECOVERY_MARK) + SLOT_ID_CHARS + RECOVERY_SECRET_CHARS + CHECKSUM_CHARS
GROUP_CHARS = 4

_LONGEST_TYPED = 4 * RECOVERY_CHARS
_DROPPED = str.maketrans("", "", "- \t")
_LOOK_ALIKES = str.maketrans("ilo", "110")


class SlotKind(StrEnum):
    """What sort of secret opens a keyslot; the last two are printed forms."""

    PASSWORD = "password"  # noqa: S105 - the name of a kind, not a secret
    APP_PASSWORD = "app-password"  # noqa: S105
    RECOVERY_KEY = "recovery-key"


class Typo(StrEnum):
    """What is wrong with something typed as a recovery key."""

    LENGTH = "length"
    CHARACTER = "character"
    CHECKSUM = "checksum"


@dataclass(frozen=True, slots=True)
class Printed:
    """A generated secret: its canonical form (no dashes, lower case) and the slot it names."""

    kind: SlotKind
    slot_id: SlotId
    canonical: str = field(repr=False)

    def text(self) -> str:
        """The form to show to its owner, once: groups of four with dashes."""
        groups = (self.canonical[at : at + GROUP_CHARS] for at in range(0, len(self.canonical), GROUP_CHARS))
        return "-".join(groups)


def random_characters(count: int, random: RandomBytes = os.urandom) -> str:
    """``count`` characters of the alphabet, five random bits each."""
    return "".join(ALPHABET[byte & 31] for byte in random(count))


def is_slot_id(text: str) -> bool:
    """Whether ``text`` has the form of a keyslot id."""
    return len(text) == SLOT_ID_CHARS and all(char in ALPHABET for char in text)


def new_app_password(slot_id: SlotId, random: RandomBytes = os.urandom) -> Printed:
    """A fresh app password (100 random bits) for the keyslot ``slot_id``."""
    canonical = slot_id + random_characters(APP_SECRET_CHARS, random)
    return Printed(SlotKind.APP_PASSWORD, slot_id, canonical)


def new_recovery_key(slot_id: SlotId, random: RandomBytes = os.urandom) -> Printed:
    """A fresh recovery key (160 random bits and a checksum) for the keyslot ``slot_id``."""
    body = RECOVERY_MARK + slot_id + random_characters(RECOVERY_SECRET_CHARS, random)
    return Printed(SlotKind.RECOVERY_KEY, slot_id, body + _checksum(body))


def read_printed(text: str) -> Printed | None:
    """The generated secret that ``text`` spells, or None if it does not have one of the two forms."""
    canonical = _canonical(text)
    if canonical is None:
        return None
    if len(canonical) == APP_CHARS:
        return Printed(SlotKind.APP_PASSWORD, SlotId(canonical[:SLOT_ID_CHARS]), canonical)
    if _looks_like_recovery_key(canonical) and recovery_key_typo(text) is None:
        start = len(RECOVERY_MARK)
        return Printed(SlotKind.RECOVERY_KEY, SlotId(canonical[start : start + SLOT_ID_CHARS]), canonical)
    return None


def meant_as_recovery_key(text: str) -> bool:
    """Whether ``text`` begins like a recovery key, so that a typing error is worth reporting."""
    return len(text) <= _LONGEST_TYPED and _squeeze(text).startswith(RECOVERY_MARK)


def recovery_key_typo(text: str) -> Typo | None:
    """What is wrong with a recovery key as typed, None if nothing is."""
    if len(text) > _LONGEST_TYPED or len(squeezed := _squeeze(text)) != RECOVERY_CHARS:
        return Typo.LENGTH
    if not _only_alphabet(squeezed):
        return Typo.CHARACTER
    if not squeezed.startswith(RECOVERY_MARK):
        return Typo.CHECKSUM
    body, checksum = squeezed[:-CHECKSUM_CHARS], squeezed[-CHECKSUM_CHARS:]
    return None if _checksum(body) == checksum else Typo.CHECKSUM


def _looks_like_recovery_key(canonical: str) -> bool:
    return len(canonical) == RECOVERY_CHARS and canonical.startswith(RECOVERY_MARK)


def _squeeze(text: str) -> str:
    return text.strip().translate(_DROPPED).lower().translate(_LOOK_ALIKES)


def _only_alphabet(text: str) -> bool:
    return all(char in ALPHABET for char in text)


def _canonical(text: str) -> str | None:
    if len(text) > _LONGEST_TYPED:
        return None
    squeezed = _squeeze(text)
    return squeezed if _only_alphabet(squeezed) else None


def _checksum(body: str) -> str:
    digest = hashlib.sha256(b"sealbox/1/recovery-key-checksum" + body.encode("ascii")).digest()
    return "".join(ALPHABET[byte & 31] for byte in digest[:CHECKSUM_CHARS])
