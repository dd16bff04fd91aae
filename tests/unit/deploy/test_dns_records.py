"""Names of domains as the DNS has them, and what is said of services that are not there."""

from __future__ import annotations

import pytest

from deploy.dns_records import NOT_OFFERED, DomainFacts, a_labels, records
from protocols.https.facts import PolicyFacts, Server, SetupFacts


@pytest.mark.parametrize(
    ("domain", "name"),
    [
        ("stra\u00dfe.example", "xn--strae-oqa.example"),
        ("m\u00fcnchen.example", "xn--mnchen-3ya.example"),
        ("xn--mnchen-3ya.example", "xn--mnchen-3ya.example"),
        ("Example.ORG", "example.org"),
        ("ab--cd.example", "ab--cd.example"),
        ("localhost", "localhost"),
    ],
)
def test_a_labels_are_those_of_rfc_5891(domain: str, name: str) -> None:
    """IDNA 2008: a sharp s is a letter of its own; what is ASCII already stays as it is."""
    assert a_labels(domain) == name


@pytest.mark.parametrize("domain", ["\u2603.example", "\u00fc" * 63 + ".example"])
def test_what_the_dns_cannot_hold_is_refused(domain: str) -> None:
    """No symbols, and no label of more than 63 octets (RFC 5892, RFC 1035 section 2.3.4)."""
    with pytest.raises(UnicodeError):
        a_labels(domain)


def test_where_nothing_sends_the_dns_says_so() -> None:
    """Both services of submission are not offered (RFC 6186, section 3.4; RFC 8314, section 5.1)."""
    imap = (Server("mail.example.org", 993),)
    policy = PolicyFacts(("mail.example.org",), "none", 86_400)
    setup = SetupFacts("mail", "https://mail.example.org", imap, (), (), policy)
    facts = DomainFacts(setup, False, None, None, 60, "v=spf1 -all", "v=DMARC1", "mail", None, "mailto:a@b.c")
    found = {one.name: one.value for one in records(facts, "example.org") if one.kind == "SRV"}
    assert found["_submissions._tcp.example.org."] == found["_submission._tcp.example.org."] == NOT_OFFERED
    assert found["_imaps._tcp.example.org."] == "0 1 993 mail.example.org."
