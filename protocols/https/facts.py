"""What mail programs are told about this server."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from mailstore.model import AccessProtocol

_LOOPBACK = re.compile(r"127\.[0-9.]+|::1")

INVITE, WELCOME = "/invite/", "/welcome/"
"""How the paths of links begin: to a device's app password, and to a new account."""


@dataclass(frozen=True, slots=True)
class Server:
    """One service as mail programs reach it."""

    host: str
    port: int
    starttls: bool = False
    """TLS begins by STARTTLS; else with the first octet (RFC 8314)."""


@dataclass(frozen=True, slots=True)
class PolicyFacts:
    """The policy of RFC 8461 for all domains here: who receives their mail, and what is done without TLS."""

    mx: tuple[str, ...]
    mode: str
    """``enforce``, ``testing`` or ``none``."""
    max_age_s: int


@dataclass(frozen=True, slots=True)
class SetupFacts:
    """The settings of mail programs, the best of each kind first, and how people call the server."""

    name: str
    url: str
    """Of the door, without a slash at its end; links begin with it."""
    imap: tuple[Server, ...]
    pop3: tuple[Server, ...]
    smtp: tuple[Server, ...]
    policy: PolicyFacts

    @property
    def is_local(self) -> bool:
        """Whether its links lead whoever opens them to their own machine (RFC 6761, section 6.3)."""
        host = urlsplit(self.url).hostname or ""
        return host == "localhost" or host.endswith(".localhost") or _LOOPBACK.fullmatch(host) is not None

    @property
    def offered(self) -> frozenset[AccessProtocol]:
        """What can be set up here."""
        servers = {
            AccessProtocol.IMAP: self.imap,
            AccessProtocol.POP3: self.pop3,
            AccessProtocol.SMTP: self.smtp,
        }
        return frozenset(protocol for protocol, there in servers.items() if there)


def link(facts: SetupFacts, token: str, path: str = INVITE) -> str:
    """The link that is sent to somebody."""
    return f"{facts.url}{path}{token}"
