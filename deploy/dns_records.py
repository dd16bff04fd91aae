"""What belongs into the DNS for a domain whose mail is here, as records of a zone (RFC 1035). Pure.

Where to find mail (RFC 6186, RFC 8314), who may send it (RFC 7208, 6376, 7489), and TLS between servers
(RFC 8461, 8460).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

import idna

from protocols.https.documents import policy
from protocols.https.facts import Server, SetupFacts

_STRING_MAX = 255
"""Octets of one string of a TXT record (RFC 1035, section 3.3)."""

_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
NOT_OFFERED = "0 0 0 ."
"""A service that is not there (RFC 2782; RFC 6186, section 3.4)."""


@dataclass(frozen=True, slots=True)
class Record:
    """One record. ``value`` is as in a zone file, but for TXT, where it is the text itself."""

    name: str
    kind: str
    value: str

    @property
    def text(self) -> str:
        """The value as a zone file has it."""
        return _quoted(self.value) if self.kind == "TXT" else self.value


@dataclass(frozen=True, slots=True)
class DomainFacts:
    """What the records are made of. ``dkim`` is the text of the public key's record, None without one."""

    setup: SetupFacts
    has_door: bool
    imap_port: int | None
    """Where STARTTLS is offered; None: nowhere."""
    pop3_port: int | None
    ttl_s: int
    spf: str
    dmarc: str
    dkim_selector: str
    dkim: str | None
    tls_reports_to: str


def a_labels(domain: str) -> str:
    """The domain as the DNS has it (RFC 5891). Raises UnicodeError: it cannot have it."""
    labels = domain.lower().split(".")
    return ".".join(one if one.isascii() else idna.encode(one).decode("ascii") for one in labels)


def records(facts: DomainFacts, domain: str) -> list[Record]:
    """All records for ``domain``, which is in A-labels, but DKIM's where no key is known."""
    return [
        *(_mx(facts, domain)),
        *_services(facts, domain),
        *(_door(facts, domain) if facts.has_door else ()),
        *_texts(facts, domain),
    ]


def _mx(facts: DomainFacts, domain: str) -> Iterator[Record]:
    hosts = [host for host in facts.setup.policy.mx if not host.startswith("*.")]
    for place, host in enumerate(hosts, 1):
        yield Record(f"{domain}.", "MX", f"{10 * place} {host}.")


def _services(facts: DomainFacts, domain: str) -> Iterator[Record]:
    setup = facts.setup
    tls = {"imaps": setup.imap, "pop3s": setup.pop3, "submissions": _smtp(setup, starttls=False)}
    clear = {
        "imap": _at(setup.imap, facts.imap_port),
        "pop3": _at(setup.pop3, facts.pop3_port),
        "submission": _smtp(setup, starttls=True),
    }
    for service, servers in (tls | clear).items():
        value = f"0 1 {servers[0].port} {servers[0].host}." if servers else NOT_OFFERED
        yield Record(f"_{service}._tcp.{domain}.", "SRV", value)


def _smtp(setup: SetupFacts, *, starttls: bool) -> tuple[Server, ...]:
    return tuple(one for one in setup.smtp if one.starttls is starttls)


def _at(servers: tuple[Server, ...], port: int | None) -> tuple[Server, ...]:
    return () if port is None else tuple(Server(one.host, port, starttls=True) for one in servers)


def _door(facts: DomainFacts, domain: str) -> Iterator[Record]:
    parts = urlsplit(facts.setup.url)
    host = f"{parts.hostname}."
    for prefix in ("autoconfig", "autodiscover", "mta-sts"):
        if host != f"{prefix}.{domain}.":
            yield Record(f"{prefix}.{domain}.", "CNAME", host)
    yield Record(f"_autodiscover._tcp.{domain}.", "SRV", f"0 1 {parts.port or 443} {host}")


def _texts(facts: DomainFacts, domain: str) -> Iterator[Record]:
    yield Record(f"{domain}.", "TXT", facts.spf)
    if facts.dkim is not None:
        yield Record(dkim_name(facts, domain), "TXT", facts.dkim)
    yield Record(f"_dmarc.{domain}.", "TXT", facts.dmarc)
    if facts.has_door:
        yield Record(f"_mta-sts.{domain}.", "TXT", f"v=STSv1; id={policy_id(facts.setup)}")
    reports = facts.tls_reports_to.replace("{domain}", domain)
    yield Record(f"_smtp._tls.{domain}.", "TXT", f"v=TLSRPTv1; rua={reports}")


def dkim_name(facts: DomainFacts, domain: str) -> str:
    """Where the public key is looked for (RFC 6376, section 3.6.2.1)."""
    return f"{facts.dkim_selector}._domainkey.{domain}."


def policy_id(setup: SetupFacts) -> str:
    """Differs whenever the policy does (RFC 8461, section 3.1)."""
    return hashlib.sha256(policy(setup.policy)).hexdigest()[:20]


def read_dkim(text: str) -> str | None:
    """The text of a record in a file of ``opendkim-genkey`` and the like, or as it is; None if it is none."""
    strings = _QUOTED.findall(text)
    found = "".join(strings) if strings else text.strip()
    return found if found.startswith("v=DKIM1") and "p=" in found and "\n" not in found else None


def zone(facts: DomainFacts, domain: str) -> list[str]:
    """Lines of a zone file; comments say what is missing."""
    lines = [f"; {domain}: mail by {facts.setup.name}", f"$TTL {facts.ttl_s}"]
    lines += [f"{one.name} IN {one.kind} {one.text}" for one in records(facts, domain)]
    if facts.dkim is None:
        lines += [
            f'; {dkim_name(facts, domain)} IN TXT "v=DKIM1; k=rsa; p=..."',
            "; the key with which mail is signed is not known here: set dkim_record in [dns]",
        ]
    if not facts.has_door:
        lines.append("; autoconfig, autodiscover and MTA-STS need the HTTPS door: set https in [listen]")
    return lines


def _quoted(text: str) -> str:
    """A TXT record's strings (RFC 1035, section 5.1)."""
    pieces = [text[at : at + _STRING_MAX] for at in range(0, len(text), _STRING_MAX)] or [""]
    return " ".join('"' + piece.replace("\\", "\\\\").replace('"', '\\"') + '"' for piece in pieces)
