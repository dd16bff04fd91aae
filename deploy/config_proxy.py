"""The settings of a proxy in front of the server, which passes connections on in the clear."""

from __future__ import annotations

import ipaddress
from dataclasses import fields

from pydantic import Field, field_validator

from deploy.config_section import Section
from protocols.limits import ProxyLimits
from protocols.proxied import Network

_DEFAULTS = ProxyLimits()


class ProxySection(Section):
    """From where a proxy may connect to ``imap_proxied`` and ``pop3_proxied``, and bounds on what it says."""

    networks: tuple[str, ...] = ("127.0.0.0/8", "::1/128")
    header_max_bytes: int = Field(default=_DEFAULTS.header_max_bytes, ge=52)
    header_timeout_s: float = Field(default=_DEFAULTS.header_timeout_s, gt=0)

    @field_validator("networks")
    @classmethod
    def _each(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        for text in values:
            try:
                ipaddress.ip_network(text)
            except ValueError:
                raise ValueError("write addresses or networks, such as 192.0.2.1 or 192.0.2.0/24") from None
        return values

    def trusted(self) -> tuple[Network, ...]:
        """``networks``, read."""
        return tuple(ipaddress.ip_network(text) for text in self.networks)

    def limits(self) -> ProxyLimits:
        """The bounds."""
        return ProxyLimits(**{one.name: getattr(self, one.name) for one in fields(ProxyLimits)})
