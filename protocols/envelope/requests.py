"""The commands that LMTP and SMTP share, as values."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Greeting:
    """HELO or EHLO (RFC 5321 section 4.1.1.1) or LHLO (RFC 2033 section 4.1).

    ``name`` is a domain or an address literal; ``extended`` whether extensions are asked for: not by HELO.
    """

    name: bytes
    extended: bool = True


@dataclass(frozen=True, slots=True)
class Mail:
    """MAIL FROM (RFC 5321 section 4.1.1.2). ``size_bytes`` as declared (RFC 1870), None if it was not."""

    sender: bytes = field(repr=False)
    size_bytes: int | None = None
    smtputf8: bool = False


@dataclass(frozen=True, slots=True)
class Rcpt:
    """RCPT TO (RFC 5321 section 4.1.1.3); the address without quotes and source route."""

    recipient: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Bdat:
    """BDAT (RFC 3030 section 2): ``size_bytes`` octets follow the command line."""

    size_bytes: int
    last: bool


@dataclass(frozen=True, slots=True)
class Data:
    """DATA."""


@dataclass(frozen=True, slots=True)
class Rset:
    """RSET."""


@dataclass(frozen=True, slots=True)
class Noop:
    """NOOP."""


@dataclass(frozen=True, slots=True)
class Vrfy:
    """VRFY; never answered with knowledge (RFC 5321 section 7.3)."""


@dataclass(frozen=True, slots=True)
class Help:
    """HELP."""


@dataclass(frozen=True, slots=True)
class StartTls:
    """STARTTLS (RFC 3207)."""


@dataclass(frozen=True, slots=True)
class Auth:
    """AUTH (RFC 4954 section 4). ``initial`` is the initial response in base64, None if there is none."""

    mechanism: bytes
    initial: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class XClient:
    """XCLIENT, as Postfix has it: the peer speaks for a client at ``address``, empty if it is not known."""

    address: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Quit:
    """QUIT."""


Request = Greeting | Mail | Rcpt | Bdat | Data | Rset | Noop | Vrfy | Help | StartTls | Auth | XClient | Quit
