"""Recognise content that must not lie in a data root: databases and mail in the clear, cores, keys."""

from __future__ import annotations

import re

FIRST_BYTES = 4096
"""So much of a file is enough for :func:`plain_kind`."""

_SQLITE = b"SQLite format 3\0"
"""SQLCipher's files begin with a random salt instead (https://www.sqlite.org/fileformat.html, 1.3)."""

_ELF = b"\x7fELF"

_FIELD = (
    rb"(?:Return-Path|Received|Delivered-To|Message-ID|From|Sender|To|Cc|Subject|Date|MIME-Version"
    rb"|DKIM-Signature)"
)
_MAIL = re.compile(
    rb"\s*(?:From [^\r\n]+\r?\n)?(?:X-[!-9;-~]+:[^\r\n]*\r?\n)*" + _FIELD + rb":[^\n]*\n", re.IGNORECASE
)
"""The beginning of a message (RFC 5322), or of an mbox with one."""

_ANYWHERE = re.compile(
    rb"^" + _FIELD + rb":[^\n]*\n(?:[ \t][^\n]*\n)*" + _FIELD + rb": ", re.IGNORECASE | re.MULTILINE
)
"""Two header fields, one below the other: a message further down, whatever is before it."""


def plain_kind(first: bytes) -> str | None:
    """What a file that begins like this is, if it is something readable that only ciphertext may be.

    None for everything else. A message that begins with none of the usual fields is not recognised.
    """
    if first.startswith(_SQLITE):
        return "a database that is not encrypted"
    if first.startswith(_ELF):
        return "a core dump or program"
    if _MAIL.match(first) or _ANYWHERE.search(first):
        return "mail in the clear"
    return None
