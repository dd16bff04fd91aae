"""The header fields that mail programs list messages by, kept ready to send (RFC 3501 section 6.4.5)."""

import re
from collections.abc import Collection
from functools import lru_cache
from typing import NamedTuple

from mailstore.mime.headers import header_fields
from mailstore.mime.limits import DEFAULT_LIMITS, MimeLimits

KEPT_FIELDS = (
    # What Thunderbird asks for.
    *(b"from", b"to", b"cc", b"bcc", b"subject", b"date", b"message-id", b"priority", b"x-priority"),
    *(b"references", b"newsgroups", b"in-reply-to", b"content-type", b"reply-to"),
    # And K-9 Mail, Apple Mail before it asked for signatures, Roundcube, Mutt and mbsync.
    *(b"list-unsubscribe", b"x-k9mail-identity", b"list-id", b"x-uniform-type-identifier"),
    *(b"x-universally-unique-identifier", b"list-post", b"disposition-notification-to", b"sender"),
    *(b"content-description", b"lines", b"x-label", b"x-tuid"),
)
"""Names in lower case. The place of a name is its bit in ``KeptFields.present``, and part of the file
format: names are only ever added behind the others, and then messages that are kept have to be read again."""

_BITS = {name: 1 << place for place, name in enumerate(KEPT_FIELDS)}
_KEPT_NAME = re.compile(rb"\n((?i:" + b"|".join(KEPT_FIELDS) + rb"))[ \t]*+:")
_PATTERNS_KEPT = 64
"""Compiled patterns cached for choices of names that clients ask for repeatedly."""


class KeptFields(NamedTuple):
    """All fields of one header that are in ``KEPT_FIELDS``; ``present`` says which of them there are."""

    present: int
    octets: bytes
    """The answer to HEADER.FIELDS with all names of ``KEPT_FIELDS``."""


def kept_fields(header: bytes, limits: MimeLimits = DEFAULT_LIMITS) -> KeptFields | None:
    """What is kept of a header; None where it is longer than ``max_kept_fields_bytes``."""
    octets = header_fields(header, KEPT_FIELDS)
    if len(octets) > limits.max_kept_fields_bytes:
        return None
    present = 0
    for name in _KEPT_NAME.findall(b"\n" + octets):
        present |= _BITS[name.lower()]
    return KeptFields(present, octets)


class KeptChoice(NamedTuple):
    """Some of the names of ``KEPT_FIELDS``, prepared for many messages."""

    others: int
    """Bits of the names that were not chosen."""
    other_fields: re.Pattern[bytes]

    def of(self, present: int, octets: bytes) -> bytes:
        """What ``header_fields`` makes of the header whose ``KeptFields`` these are, for the chosen names."""
        if not present & self.others:
            return octets
        return self.other_fields.sub(b"", b"\n" + octets)[1:]


def kept_choice(names: Collection[bytes]) -> KeptChoice | None:
    """A choice of these names, in any case; None if one of them is not kept."""
    others = (1 << len(KEPT_FIELDS)) - 1
    for name in {name.lower() for name in names}:
        bit = _BITS.get(name)
        if bit is None:
            return None
        others ^= bit
    return KeptChoice(others, _fields_of(others))


@lru_cache(maxsize=_PATTERNS_KEPT)
def _fields_of(bits: int) -> re.Pattern[bytes]:
    """The line feed before, and all of a kept field but its last line feed, for each of the names."""
    names = b"|".join(name for name, bit in _BITS.items() if bits & bit) or b"(?!)"
    return re.compile(rb"\n(?i:" + names + rb")[ \t]*+:[^\n]*+(?:\n[ \t][^\n]*+)*+")
