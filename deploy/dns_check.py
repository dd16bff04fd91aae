"""Compare records with what the DNS says, by a resolver. Blocking; for commands only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_address

import dns.exception
import dns.name
import dns.rdata
import dns.rdtypes.txtbase
import dns.resolver

from deploy.config_listen import check_endpoint
from deploy.dns_records import NOT_OFFERED, Record

LIFETIME_S = 10.0
"""Patience with the answer to one question, in seconds."""


class NoAnswer(Exception):
    """The resolver does not answer; the text is for the operator."""


class Verdict(StrEnum):
    """What was found at a name."""

    OK = "ok"
    MISSING = "missing"
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class Compared:
    """One record, and what the DNS has in its place."""

    record: Record
    verdict: Verdict
    found: tuple[str, ...]


def resolver_at(endpoint: str | None) -> dns.resolver.Resolver:
    """The machine's resolver, or the one at an IP address, perhaps with ``:PORT`` behind it.

    Raises:
        ValueError, OSError: that is no address. NoAnswer: the machine has none.
    """
    if endpoint is None:
        try:
            return dns.resolver.Resolver()
        except dns.resolver.NoResolverConfiguration:
            raise NoAnswer("this machine has no resolver: name one with --resolver") from None
    made = dns.resolver.Resolver(configure=False)
    try:
        made.nameservers = [str(ip_address(endpoint))]
    except ValueError:
        address, _, port = check_endpoint(endpoint).rpartition(":")
        made.nameservers, made.port = [str(ip_address(address.strip("[]")))], int(port)
    return made


def compare(wanted: list[Record], resolver: dns.resolver.Resolver) -> Iterator[Compared]:
    """One result for each record, in order. Raises NoAnswer."""
    by_name: dict[tuple[str, str], set[str]] = {}
    for one in wanted:
        by_name.setdefault((one.name, one.kind), set()).add(one.value)
    for one in wanted:
        if one.kind == "CNAME":
            yield _alias(one, resolver)
        elif one.kind == "TXT":
            yield _text(one, _texts(one.name, resolver))
        else:
            yield _value(one, by_name[one.name, one.kind], _values(one.name, one.kind, resolver))


def _value(record: Record, wanted: set[str], found: set[str]) -> Compared:
    others = tuple(sorted(found - wanted))
    if record.value in found:
        return Compared(record, Verdict.WRONG if others else Verdict.OK, others)
    if record.value == NOT_OFFERED and not found:
        return Compared(record, Verdict.OK, ())
    return Compared(record, Verdict.WRONG if others else Verdict.MISSING, others)


def _text(record: Record, found: list[str]) -> Compared:
    """Of a kind there may be one alone; what else is at the name does not matter."""
    kind = record.value.partition(";")[0].partition(" ")[0].lower()
    same_kind = [one for one in found if one.partition(";")[0].partition(" ")[0].lower() == kind]
    if [_spaced(one) for one in same_kind] == [_spaced(record.value)]:
        return Compared(record, Verdict.OK, ())
    return Compared(record, Verdict.WRONG if same_kind else Verdict.MISSING, tuple(sorted(same_kind)))


def _spaced(text: str) -> list[str]:
    """What is between semicolons, without the spaces around it."""
    return [part.strip() for part in text.rstrip("; ").split(";")]


def _alias(record: Record, resolver: dns.resolver.Resolver) -> Compared:
    """The name leads to the same place, by CNAME or by addresses of its own."""
    if record.value in _values(record.name, "CNAME", resolver):
        return Compared(record, Verdict.OK, ())
    there, here = (_addresses(name, resolver) for name in (record.value, record.name))
    if not here:
        return Compared(record, Verdict.MISSING, ())
    return Compared(record, Verdict.OK if here == there else Verdict.WRONG, tuple(sorted(here)))


def _addresses(name: str, resolver: dns.resolver.Resolver) -> set[str]:
    return _values(name, "A", resolver) | _values(name, "AAAA", resolver)


def _values(name: str, kind: str, resolver: dns.resolver.Resolver) -> set[str]:
    return {one.to_text().lower() for one in _asked(name, kind, resolver)}


def _texts(name: str, resolver: dns.resolver.Resolver) -> list[str]:
    return [
        b"".join(one.strings).decode("utf-8", "replace")
        for one in _asked(name, "TXT", resolver)
        if isinstance(one, dns.rdtypes.txtbase.TXTBase)
    ]


def _asked(name: str, kind: str, resolver: dns.resolver.Resolver) -> list[dns.rdata.Rdata]:
    try:
        return list(resolver.resolve(dns.name.from_text(name), kind, lifetime=LIFETIME_S))
    except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
        return []
    except dns.exception.DNSException as exc:
        raise NoAnswer(
            f"the resolver did not answer ({type(exc).__name__}): try again, or --resolver"
        ) from None
