"""Checks of the ports: TLS 1.2 and up, a certificate in its time, nothing in the clear."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import get_args

from cryptography import x509

from deploy.config import Config
from deploy.privacy.finding import Check, Finding, listed
from protocols.port_look import NoAnswer, OpenPort, Service, look

_TLS = Check("TLS", (4, 9))
_ANY_HOST = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # nothing is bound here
"""A server that listens on all addresses is reached at this machine's own."""


def ports(config: Config, now_s: float) -> Iterator[Finding]:
    """One finding for each port that mail programs use."""
    for service in get_args(Service):
        if service == "https" and config.door.https.behind_proxy:
            continue  # it is the proxy that has TLS
        for endpoint in getattr(config.listen, service):
            if not endpoint.startswith("unix:"):
                yield _port(service, endpoint, config, now_s)
    for name in ("imap_proxied", "pop3_proxied"):
        for endpoint in getattr(config.listen, name):
            if not ip_address(endpoint.rpartition(":")[0].strip("[]")).is_loopback:
                yield _TLS.unseen(
                    f"{name} at {endpoint} is in the clear, for a proxy that has ended TLS",
                    "let nobody but that proxy and this server be on that network",
                )


def _port(service: Service, endpoint: str, config: Config, now_s: float) -> Finding:
    host, _, port = endpoint.rpartition(":")
    host = host.strip("[]")
    try:
        seen = look(service, (_ANY_HOST.get(host, host), int(port)))
    except NoAnswer as exc:
        return _TLS.unseen(f"{service} at {endpoint}: {exc}", "start the server, or see its log")
    files = config.door.https.pair(config.tls) if service == "https" else (config.tls.certificate,)
    return judged(seen, f"{service} at {endpoint}", files[0].read_bytes(), now_s)


def judged(seen: OpenPort, what: str, configured_pem: bytes, now_s: float) -> Finding:
    """What a port has shown, against what was promised. ``now_s`` is in seconds since the epoch."""
    shown = x509.load_der_x509_certificate(seen.certificate)
    now = datetime.fromtimestamp(now_s, UTC)
    if seen.old_tls is not None:
        return _TLS.broken(
            f"{what} agreed to {seen.old_tls}",
            "find out who listens there: this program refuses everything below TLS 1.2",
        )
    if seen.clear:
        return _TLS.broken(
            f"{what}, before TLS: {listed(seen.clear)}",
            "find out who listens there: this program allows nothing but STARTTLS or STLS before TLS",
        )
    if not shown.not_valid_before_utc <= now <= shown.not_valid_after_utc:
        return _TLS.broken(
            f"{what} shows a certificate that is valid from {shown.not_valid_before_utc:%Y-%m-%d} to"
            f" {shown.not_valid_after_utc:%Y-%m-%d}",
            "renew it, then send the server SIGHUP",
        )
    if x509.load_pem_x509_certificate(configured_pem) != shown:
        return _TLS.broken(
            f"{what} shows another certificate than the file in the configuration",
            "send the server SIGHUP, which rereads the file; if that does not help, find out who listens",
        )
    return _TLS.holds(
        f"{what} refuses TLS 1.1; its certificate is good until {shown.not_valid_after_utc:%Y-%m-%d}"
    )
