"""The documents that mail programs and mail servers look for. Pure but for reading the templates."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import jinja2

from protocols.https.facts import PolicyFacts, Server, SetupFacts

POLICY_HOST = "mta-sts."
"""RFC 8461, section 3.3."""

PROGRAM_HOSTS = ("autoconfig.", "autodiscover.")
_ASKED_FOR = re.compile(
    rb"<(?:[A-Za-z0-9]{1,20}:)?EMailAddress(?:\s[^<>]{0,200})?>\s{0,20}([^<>&\s]{1,320})\s{0,20}</",
    re.IGNORECASE,
)
"""The address in Outlook's question, which is not parsed beyond that."""


@cache
def templates() -> jinja2.Environment:
    """The templates; whatever is put into one is escaped, and what it does not get is a mistake."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def autoconfig(facts: SetupFacts, domain: str) -> bytes:
    """Thunderbird's config-v1.1.xml, which K-9, Evolution, KMail and others read as well."""
    text = templates().get_template("autoconfig.xml").render(facts=facts, domain=domain)
    return text.encode("utf-8")


def autodiscover(facts: SetupFacts, address: str) -> bytes:
    """Outlook's answer for an address (the schema 2006 of "plain old XML")."""
    servers = _typed(("IMAP", facts.imap), ("POP3", facts.pop3), ("SMTP", facts.smtp))
    text = templates().get_template("autodiscover.xml").render(servers=servers, address=address)
    return text.encode("utf-8")


def _typed(*kinds: tuple[str, tuple[Server, ...]]) -> Iterable[tuple[str, Server]]:
    return [(kind, servers[0]) for kind, servers in kinds if servers]


def address_in_autodiscover(body: bytes) -> str | None:
    """The address that Outlook asks about, None if there is none."""
    found = _ASKED_FOR.search(body)
    return None if found is None else found[1].decode("utf-8", "replace")


def policy(facts: PolicyFacts) -> bytes:
    """The text of an MTA-STS policy (RFC 8461, section 3.2)."""
    lines = ["version: STSv1", f"mode: {facts.mode}", *(f"mx: {host}" for host in facts.mx)]
    return "".join(f"{line}\r\n" for line in (*lines, f"max_age: {facts.max_age_s}")).encode("ascii")


def thunderbird_for_android(facts: SetupFacts, address: str, password: str) -> str | None:
    """What Thunderbird for Android takes from a QR code (its format "Export for Mobile", version 1).

    None where it needs something else: it knows host names and addresses in ASCII alone, and sends mail.
    """
    if not address.isascii() or not facts.imap or not facts.smtp:
        return None
    imap, smtp = facts.imap[0], facts.smtp[0]
    outgoing = [[0, *_for_android(smtp), address, password], [address, address.partition("@")[0]]]
    tree = [1, [1, 1], [0, *_for_android(imap), address, address, password], [outgoing]]
    return json.dumps(tree, separators=(",", ":"))


def _for_android(server: Server) -> tuple[str, int, int, int]:
    """Host, port, kind of TLS, and that a password is sent within it."""
    return server.host, server.port, 2 if server.starttls else 3, 1
