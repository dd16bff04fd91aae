"""Limits on clients count by site: an IPv4 address, or a /64 of IPv6."""

from __future__ import annotations

import pytest
from twisted.internet.address import IPv6Address

from protocols.limits import StreamLimits
from protocols.sites import site_of
from tests.wire import ImapWorld


@pytest.mark.parametrize(
    ("address", "site"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:0:1::1", "2001:db8:0:1::/64"),
        ("2001:db8:0:1:ffff:ffff:ffff:ffff", "2001:db8:0:1::/64"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::/64"),
        ("", ""),
        ("no address", ""),
    ],
)
def test_what_is_one_site(address: str, site: str) -> None:
    """Whoever has one IPv6 address has the whole /64; an IPv4 client over an IPv6 socket stays himself."""
    assert site_of(address) == site


def test_connections_of_one_ipv6_network_are_counted_together() -> None:
    """Another address out of the same /64 is no way around the limit, and another network is not affected."""
    world = ImapWorld(stream_limits=StreamLimits(connections_per_address_max=2))

    def connect(host: str) -> bool:
        return world.factory.buildProtocol(IPv6Address("TCP", host, 1)) is not None

    assert connect("2001:db8::1")
    assert connect("2001:db8::2")
    assert not connect("2001:db8::3")
    assert connect("2001:db8:0:1::1")
    assert connect("::ffff:192.0.2.1")
    assert connect("::ffff:192.0.2.1")
    assert not connect("::ffff:192.0.2.1")
    assert connect("::ffff:192.0.2.2")
