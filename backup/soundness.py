"""Whether the state of an account can be what this program wrote, as far as that can be seen without its key.

It finds pages of zeros, an unencrypted database, a file that is not a key header. A changed page that still
has something in the place of its authentication code can be recognised only with the account's key.
"""

from __future__ import annotations

import os
from pathlib import Path

from backup.errors import SegmentDamaged
from backup.reading import OpenSegment
from backup.segment import KEYS_FILE, PAGE_BYTES
from mailstore.durable import storage_errors
from mailstore.errors import HeaderTampered, TooNew
from mailstore.keys import decode_header

_HMAC_SHA256_RESERVE = 48
"""Octets at the end of every page: initialisation vector (16) and HMAC-SHA-256 (32)."""

_PLAIN_SQLITE = b"SQLite format 3\0"

_LOCK_PAGE = 1_073_741_824 // PAGE_BYTES + 1
"""The page with SQLite's locks, at the first gigabyte, is never written: a hole in every larger database."""

_PAGES_AT_ONCE = 256


def wrong_page(first: int, data: bytes) -> str | None:
    """What is wrong with the pages of a database that begin with number ``first``; None for nothing."""
    if first == 1 and data.startswith(_PLAIN_SQLITE):
        return "the database is not encrypted"
    for at in range(0, len(data), PAGE_BYTES):
        number, end = first + at // PAGE_BYTES, at + PAGE_BYTES
        if number != _LOCK_PAGE and not any(data[end - _HMAC_SHA256_RESERVE : end]):
            return f"page {number} has no authentication code"
    return None


def wrong_keys(raw: bytes, account: str) -> str | None:
    """What is wrong with a key header; None for nothing, or for what a newer program wrote."""
    try:
        header = decode_header(raw).header
    except HeaderTampered:
        return "the key header is damaged"
    except TooNew:
        return None
    return None if header.account_id == account else "the key header is another account's"


def check_sound(segment: OpenSegment) -> None:
    """As ``OpenSegment.check``, and whether the account in it can be sound. Raises SegmentDamaged."""
    segment.check()
    keys = segment.file(KEYS_FILE)
    wrong = None if keys is None else wrong_keys(keys, segment.header.account)
    for first, data in segment.pages():
        wrong = wrong or wrong_page(first, data)
    if wrong is not None:
        raise SegmentDamaged(str(segment.name), wrong)


def wrong_keys_in(folder: Path, account: str) -> str | None:
    """As ``wrong_keys``, for an account's folder; it need not have a header. Raises StorageFailed."""
    with storage_errors():
        path = folder / KEYS_FILE
        return wrong_keys(path.read_bytes(), account) if path.exists() else None


def wrong_database(path: Path, pages: int) -> str | None:
    """What is wrong with a database that was rebuilt at ``path``; None for nothing.

    Raises StorageFailed.
    """
    with storage_errors():
        if not pages:
            return None if not path.exists() else "there is a database where none should be"
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size != pages * PAGE_BYTES:
                return "the database is not as long as its snapshot says"
            for number in range(1, pages + 1, _PAGES_AT_ONCE):
                wrong = wrong_page(number, file.read(_PAGES_AT_ONCE * PAGE_BYTES))
                if wrong is not None:
                    return wrong
    return None
