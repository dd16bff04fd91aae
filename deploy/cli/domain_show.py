"""sealbox domain show. Exit codes: see deploy/cli/sentences.py."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from deploy import config as configuration
from deploy.cli.root import EPILOG, EXIT_BUSY, EXIT_USAGE, Cli, Refusal, command
from deploy.config_door import DnsSection
from deploy.dns_records import DomainFacts, Record, a_labels, read_dkim, records, zone
from mailstore.address import require_domain
from mailstore.errors import NoSuchDomain

if TYPE_CHECKING:
    from deploy.dns_check import Compared

_DKIM_FILE_BYTES = 65_536


@click.command("show", epilog=EPILOG)
@click.argument("name")
@click.option(
    "--check", is_flag=True, help="Compare with the DNS; exit code 5 if a record is missing or wrong."
)
@click.option("--resolver", metavar="ADDRESS[:PORT]", help="Ask this resolver, not the machine's.")
@command
def show(cli: Cli, name: str, check: bool, resolver: str | None) -> None:
    """Print what belongs into the DNS for the domain NAME, as lines of a zone file.

    The settings are in [dns] and [setup]. With --check the DNS is asked, and a line is printed for each
    record: "ok", "missing" or "wrong" with what is there. Changes in the DNS take up to their TTL to be seen.
    No mail is touched.
    """
    domain = require_domain(name)
    with cli.directory() as directory:
        if domain not in directory.domains():
            raise NoSuchDomain
    facts, ascii_domain = _facts(cli), _ascii(domain)
    wanted = records(facts, ascii_domain)
    if check:
        _check(cli, wanted, facts, resolver)
        return
    lines = zone(facts, ascii_domain)
    fields = {"domain": ascii_domain, "ttl": facts.ttl_s, "records": [_fields(one) for one in wanted]}
    cli.answer({**fields, "zone": "\n".join(lines) + "\n"}, *lines)


def _facts(cli: Cli) -> DomainFacts:
    try:
        config = configuration.load(cli.config_path)
    except configuration.ConfigError:
        raise Refusal("the records need the configuration: see 'sealbox check-config'", EXIT_USAGE) from None
    dns = config.door.dns
    return DomainFacts(
        config.setup_facts,
        bool(config.listen.https),
        _port(config.listen.imap),
        _port(config.listen.pop3),
        dns.ttl_s,
        dns.spf,
        dns.dmarc,
        dns.dkim_selector,
        _dkim(dns),
        dns.tls_reports_to,
    )


def _port(endpoints: tuple[str, ...]) -> int | None:
    """The port of the first endpoint; None when there is none."""
    return next((int(one.rpartition(":")[2]) for one in endpoints if not one.startswith("unix:")), None)


def _dkim(dns: DnsSection) -> str | None:
    if dns.dkim_record is None:
        return None
    try:
        with dns.dkim_record.open("rb") as file:
            found = read_dkim(file.read(_DKIM_FILE_BYTES).decode("utf-8"))
    except (OSError, UnicodeDecodeError):
        found = None
    if found is None:
        raise Refusal(
            f"there is no record of a DKIM key in {dns.dkim_record} (dkim_record in [dns]),"
            " or the server's user may not read it",
            EXIT_USAGE,
        )
    return found


def _ascii(domain: str) -> str:
    try:
        return a_labels(domain)
    except UnicodeError:
        raise Refusal("the DNS cannot hold that domain: is it a name of this machine alone?") from None


def _check(cli: Cli, wanted: list[Record], facts: DomainFacts, resolver: str | None) -> None:
    # Imported late: no other command asks the DNS.
    from deploy.dns_check import NoAnswer, Verdict, compare, resolver_at

    try:
        compared = list(compare(wanted, resolver_at(resolver)))
    except NoAnswer as exc:
        raise Refusal(str(exc), EXIT_BUSY) from None
    except (ValueError, OSError):
        raise Refusal("--resolver is an IP address, perhaps with :PORT", EXIT_USAGE) from None
    lines = [_line(one) for one in compared]
    if facts.dkim is None:
        lines.append(f"unknown  {facts.dkim_selector}._domainkey TXT: set dkim_record in [dns] to compare it")
    results = [{**_fields(one.record), "verdict": one.verdict, "found": one.found} for one in compared]
    cli.answer({"records": results}, *lines)
    if any(one.verdict is not Verdict.OK for one in compared):
        sys.exit(EXIT_BUSY)


def _line(one: Compared) -> str:
    record = one.record
    there = f"; there is {', '.join(one.found)}" if one.found else ""
    return f"{one.verdict:8} {record.name} {record.kind} {record.text}{there}"


def _fields(record: Record) -> dict[str, object]:
    return {"name": record.name, "type": record.kind, "value": record.value}
