"""POP3 commands as values."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class User:
    """USER (RFC 1939 section 7)."""

    name: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Pass:
    """PASS; everything behind the first space, further spaces included."""

    secret: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Auth:
    """AUTH (RFC 5034). ``mechanism`` in upper case; ``initial`` still in base64, None if not given."""

    mechanism: bytes
    initial: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Mechanisms:
    """AUTH without argument asks for the SASL mechanisms, as clients older than CAPA do."""


@dataclass(frozen=True, slots=True)
class Stat:
    """STAT."""


@dataclass(frozen=True, slots=True)
class Scan:
    """LIST, of one message or of all."""

    number: int | None = None


@dataclass(frozen=True, slots=True)
class Uidl:
    """UIDL, of one message or of all."""

    number: int | None = None


@dataclass(frozen=True, slots=True)
class Retr:
    """RETR."""

    number: int


@dataclass(frozen=True, slots=True)
class Top:
    """TOP: the header and ``lines`` lines of the body."""

    number: int
    lines: int


@dataclass(frozen=True, slots=True)
class Dele:
    """DELE."""

    number: int


@dataclass(frozen=True, slots=True)
class Rset:
    """RSET."""


@dataclass(frozen=True, slots=True)
class Noop:
    """NOOP."""


@dataclass(frozen=True, slots=True)
class Capa:
    """CAPA (RFC 2449 section 5)."""


@dataclass(frozen=True, slots=True)
class Stls:
    """STLS (RFC 2595 section 4)."""


@dataclass(frozen=True, slots=True)
class Utf8:
    """UTF8 (RFC 6856 section 2)."""


@dataclass(frozen=True, slots=True)
class Lang:
    """LANG (RFC 6856 section 3); None asks for the list."""

    tag: bytes | None = None


@dataclass(frozen=True, slots=True)
class Quit:
    """QUIT."""


MaildropRequest = Stat | Scan | Uidl | Retr | Top | Dele | Rset | Noop
"""What needs an open maildrop."""

Request = MaildropRequest | User | Pass | Auth | Mechanisms | Capa | Stls | Utf8 | Lang | Quit
