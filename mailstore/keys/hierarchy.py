"""The hierarchy of keys below an account's master key, and below the server's: one label, one purpose.

Pure but for randomness, which is a parameter. FORMAT.md sections 1 and 2 are the specification.
"""

import os
from collections.abc import Callable
from enum import StrEnum
from typing import NewType

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

RandomBytes = Callable[[int], bytes]
"""``random(n)`` returns n random bytes, as ``os.urandom`` does."""

AccountId = NewType("AccountId", str)
MASTER_KEY_BYTES = 32
NONCE_BYTES = 12
SALT_BYTES = 16
TAG_BYTES = 16


class KeyLabel(StrEnum):
    """Labels for :func:`derive`; a label is used for one purpose and one length only.

    What is derived from the server's key has labels of its own, :class:`ServerKeyLabel`.
    """

    DATABASE = "sealbox/1/database"
    SCRAM_SLOT = "sealbox/1/scram-slot"
    DATABASE_SALT = "sealbox/1/database-salt"
    SEARCH = "sealbox/1/search"
    SEARCH_SALT = "sealbox/1/search-salt"
    HEADER = "sealbox/1/header"
    PRIVATE_KEY = "sealbox/1/private-key"
    DIRECTORY_LOOKUP = "sealbox/1/directory-lookup"
    DIRECTORY_ROWS = "sealbox/1/directory-rows"
    DIRECTORY_KEY_ID = "sealbox/1/directory-key-id"
    DIRECTORY_NODES = "sealbox/1/directory-nodes"
    INVITATION = "sealbox/1/invitation"


class ServerKeyLabel(StrEnum):
    """As :class:`KeyLabel`, for what is derived from the server's key.

    What becomes of each when that key is exchanged stands in FORMAT.md, section 2.1; a test compares.
    """

    DIRECTORY = "sealbox/1/directory"
    DIRECTORY_SALT = "sealbox/1/directory-salt"
    DIRECTORY_CLUSTER = "sealbox/1/directory-cluster"
    SCRAM_DUMMY_SALT = "sealbox/1/scram-dummy-salt"
    LOGIN_THROTTLE = "sealbox/1/login-throttle"
    BACKUP_STATE = "sealbox/1/backup-state"
    BACKUP_STATE_SALT = "sealbox/1/backup-state-salt"
    BACKUP_SIGNING = "sealbox/1/backup-signing"
    NOTES = "sealbox/1/server-notes"
    HANDOVER = "sealbox/1/server-key-handover"


def derive(master: bytes | bytearray, label: str, length: int) -> bytes:
    """``length`` bytes for one purpose, from HKDF-SHA256 (RFC 5869; no salt, info = ``label``)."""
    return HKDF(algorithm=SHA256(), length=length, salt=None, info=label.encode("ascii")).derive(master)


def new_master(random: RandomBytes = os.urandom) -> bytearray:
    """A fresh master key, in a buffer that can be overwritten."""
    return bytearray(random(MASTER_KEY_BYTES))
