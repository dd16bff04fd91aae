"""Commands about the session itself: login, extensions, waiting (RFC 3501 sections 6.1 and 6.2). Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from protocols.imap.grammar.cursor import Cursor
from protocols.imap.grammar.refusal import Malformed


@dataclass(frozen=True, slots=True)
class Capability:
    """CAPABILITY (RFC 3501 section 6.1.1)."""


@dataclass(frozen=True, slots=True)
class Noop:
    """NOOP (section 6.1.2)."""


@dataclass(frozen=True, slots=True)
class Logout:
    """LOGOUT (section 6.1.3)."""


@dataclass(frozen=True, slots=True)
class StartTls:
    """STARTTLS (section 6.2.1)."""


@dataclass(frozen=True, slots=True)
class Authenticate:
    """AUTHENTICATE (section 6.2.2) with SASL-IR's initial response, still in base64 (RFC 4959)."""

    mechanism: bytes
    initial: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Unauthenticate:
    """UNAUTHENTICATE (RFC 8437)."""


@dataclass(frozen=True, slots=True)
class Login:
    """LOGIN (section 6.2.3)."""

    name: bytes = field(repr=False)
    secret: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Identify:
    """ID (RFC 2971); None stands for NIL. Field names are lower-case."""

    fields: tuple[tuple[bytes, bytes | None], ...] | None


@dataclass(frozen=True, slots=True)
class Enable:
    """ENABLE (RFC 5161); names in capitals."""

    names: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Namespace:
    """NAMESPACE (RFC 2342)."""


@dataclass(frozen=True, slots=True)
class Check:
    """CHECK (section 6.4.1)."""


@dataclass(frozen=True, slots=True)
class Idle:
    """IDLE (RFC 2177)."""


@dataclass(frozen=True, slots=True)
class Compress:
    """COMPRESS (RFC 4978)."""

    mechanism: bytes


_BASE64 = re.compile(rb"[A-Za-z0-9+/]*+={0,2}(?= *\Z)")


def parse_authenticate(cursor: Cursor) -> Authenticate:
    """``authenticate`` behind its name, with SASL-IR's initial response (RFC 4959)."""
    cursor.space()
    mechanism = cursor.atom(b"mechanism").upper()
    initial: bytes | None = None
    if cursor.more():
        # RFC 4959 section 3: "=" is an empty initial response.
        initial = cursor.token(_BASE64, b"initial response in base64")
        initial = b"" if initial == b"=" else initial
    cursor.end()
    return Authenticate(mechanism, initial)


def parse_login(cursor: Cursor) -> Login:
    """``login`` behind its name."""
    cursor.space()
    name = cursor.astring(b"user name")
    cursor.space()
    secret = cursor.astring(b"password")
    cursor.end()
    return Login(name, secret)


def parse_id(cursor: Cursor) -> Identify:
    """``id`` behind its name.

    RFC 2971 section 4: at most 30 pairs, field names at most 30 octets, values at most 1024.
    """
    cursor.space()
    if cursor.peek() != b"(":
        if cursor.nstring(b"parameter list") is not None:
            raise cursor.failure(b"parameter list")
        cursor.end()
        return Identify(None)

    def pair() -> tuple[bytes, bytes | None]:
        name = cursor.string(b"field name")
        cursor.space()
        return name.lower(), cursor.nstring(b"field value")

    pairs = cursor.parenthesised(pair, may_be_empty=True)
    cursor.end()
    largest = cursor.limits.id_value_max_bytes
    if len(pairs) > cursor.limits.id_fields_max or any(len(value or b"") > largest for _, value in pairs):
        raise Malformed(b"too many or too long ID fields")
    return Identify(pairs)


def parse_enable(cursor: Cursor) -> Enable:
    """``enable`` behind its name (RFC 5161)."""
    cursor.space()
    names = [cursor.atom(b"capability").upper()]
    while cursor.more():
        if len(names) >= cursor.limits.list_items_max:
            raise cursor.failure(b"shorter list")
        names.append(cursor.atom(b"capability").upper())
    cursor.end()
    return Enable(tuple(names))


def parse_compress(cursor: Cursor) -> Compress:
    """``compress`` behind its name (RFC 4978)."""
    cursor.space()
    mechanism = cursor.atom(b"mechanism").upper()
    cursor.end()
    return Compress(mechanism)
