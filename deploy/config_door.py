"""The settings of the HTTPS door, of what mail programs are told, and of what belongs into the DNS."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from deploy.config_section import Section, TlsSection
from protocols.https.facts import PolicyFacts, Server, SetupFacts
from protocols.limits import HttpsLimits

_HOST = r"^([a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*)?$"
_MX_HOST = r"^(\*\.)?[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$"
_LOOPBACK = re.compile(r"127\.\d+\.\d+\.\d+:\d+|\[::1\]:\d+|unix:/.*")
_NAME = r"^[^\x00-\x1f\x7f]*$"
_TEXT = r"^[\x20-\x7e]*$"


class HttpsSection(Section):
    """The door itself. Without a certificate of its own it shows that of ``[tls]``."""

    certificate: Path | None = None
    private_key: Path | None = None
    behind_proxy: bool = False
    head_max_bytes: int = Field(default=HttpsLimits().head_max_bytes, ge=1024)
    body_max_bytes: int = Field(default=HttpsLimits().body_max_bytes, ge=1024)
    request_timeout_s: float = Field(default=HttpsLimits().request_timeout_s, gt=0)
    connections_max: int = Field(default=HttpsLimits().connections_max, ge=1)
    connections_per_address_max: int = Field(default=HttpsLimits().connections_per_address_max, ge=1)
    unseen_kept_s: float = Field(default=HttpsLimits().unseen_kept_s, ge=0, le=300)
    password_min_chars: int = Field(default=HttpsLimits().password_min_chars, ge=1)
    password_max_chars: int = Field(default=HttpsLimits().password_max_chars, ge=8, le=256)

    @model_validator(mode="after")
    def _pair(self) -> HttpsSection:
        if (self.certificate is None) is not (self.private_key is None):
            raise ValueError("certificate and private_key are needed both, or none of them")
        if self.certificate is not None and self.private_key is not None:
            try:
                TlsSection(certificate=self.certificate, private_key=self.private_key)
            except ValidationError:
                raise ValueError("certificate and private_key cannot be read, or do not fit") from None
        if self.password_min_chars > self.password_max_chars:
            raise ValueError("password_min_chars is more than password_max_chars")
        return self

    def check_listening(self, endpoints: tuple[str, ...]) -> None:
        """Where it may listen: in the clear on this machine alone, and with TLS on ports alone.

        Raises:
            ValueError: elsewhere.
        """
        if self.behind_proxy and not all(map(_LOOPBACK.fullmatch, endpoints)):
            raise ValueError(
                "'listen.https': behind_proxy speaks in the clear: write 127.0.0.1:PORT, [::1]:PORT"
                " or unix:/path"
            )
        if not self.behind_proxy and any(one.startswith("unix:") for one in endpoints):
            raise ValueError("'listen.https': a Unix socket is for a proxy: set https.behind_proxy")

    def pair(self, otherwise: TlsSection) -> tuple[Path, Path]:
        """The files of the certificate and its key."""
        if self.certificate is None or self.private_key is None:
            return otherwise.certificate, otherwise.private_key
        return self.certificate, self.private_key

    def limits(self) -> HttpsLimits:
        """The bounds on connections."""
        names = HttpsLimits.__dataclass_fields__
        return HttpsLimits(**{name: value for name, value in self.model_dump().items() if name in names})


class SetupSection(Section):
    """What mail programs and people are told; a port of 0 is not offered, an empty host is ``hostname``."""

    name: str = Field(default="", max_length=60, pattern=_NAME)
    url: str = Field(default="", pattern=r"^(https://[a-z0-9.-]+(:\d{1,5})?)?$")
    imap_host: str = Field(default="", pattern=_HOST)
    imap_port: int = Field(default=993, ge=0, le=65535)
    pop3_host: str = Field(default="", pattern=_HOST)
    pop3_port: int = Field(default=995, ge=0, le=65535)
    smtp_host: str = Field(default="", pattern=_HOST)
    smtp_port: int = Field(default=465, ge=0, le=65535)
    smtp_starttls_port: int = Field(default=587, ge=0, le=65535)
    invitation_valid_s: int = Field(default=86_400, ge=60, le=30 * 86_400)

    @model_validator(mode="after")
    def _something(self) -> SetupSection:
        if not self.imap_port and not self.pop3_port:
            raise ValueError("imap_port and pop3_port are both 0: mail programs need one of them")
        return self


class DnsSection(Section):
    """What 'sealbox domain show' prints, and the MTA-STS policy. Times in seconds."""

    mx: tuple[str, ...] = ()
    ttl_s: int = Field(default=3600, ge=60, le=604_800)
    spf: str = Field(default="v=spf1 mx -all", pattern=_TEXT, max_length=255)
    dkim_selector: str = Field(default="mail", pattern=_HOST, min_length=1)
    dkim_record: Path | None = None
    dmarc: str = Field(default="v=DMARC1; p=quarantine", pattern=_TEXT, max_length=255)
    tls_reports_to: str = Field(default="mailto:postmaster@{domain}", pattern=_TEXT, max_length=200)
    mta_sts_mode: Literal["enforce", "testing", "none"] = "testing"
    mta_sts_max_age_s: int = Field(default=604_800, ge=86_400, le=31_557_600)  # RFC 8461, section 3.2

    @field_validator("mx")
    @classmethod
    def _hosts(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        if not all(re.match(_MX_HOST, host) for host in hosts):
            raise ValueError("write names of hosts, in lower case")
        return hosts


@dataclass(frozen=True, slots=True)
class DoorSettings:
    """The three sections together."""

    https: HttpsSection
    setup: SetupSection
    dns: DnsSection

    def facts(self, hostname: str) -> SetupFacts:
        """What mail programs are told by a server of that name."""
        setup, dns, name = self.setup, self.dns, hostname.lower()
        smtp = (
            Server(setup.smtp_host or name, setup.smtp_port),
            Server(setup.smtp_host or name, setup.smtp_starttls_port, starttls=True),
        )
        return SetupFacts(
            setup.name or name,
            setup.url or f"https://{name}",
            tuple(one for one in (Server(setup.imap_host or name, setup.imap_port),) if one.port),
            tuple(one for one in (Server(setup.pop3_host or name, setup.pop3_port),) if one.port),
            tuple(one for one in smtp if one.port),
            PolicyFacts(dns.mx or (name,), dns.mta_sts_mode, dns.mta_sts_max_age_s),
        )
