"""Names of domains as the DNS has them."""

from __future__ import annotations

import pytest

from deploy.dns_records import a_labels


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
