"""The setting of where the server listens, and how addresses are written."""

from __future__ import annotations

import socket

from pydantic import field_validator

from deploy.config_section import Section


def check_endpoint(text: str) -> str:
    """Accept ``HOST:PORT``, ``[IPv6]:PORT`` or ``unix:/path``.

    Raises:
        ValueError: anything else.
    """
    if text.startswith("unix:/"):
        return text
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ValueError("write HOST:PORT, [IPv6 address]:PORT or unix:/path")
    if host.startswith("[") and host.endswith("]"):
        socket.inet_pton(socket.AF_INET6, host[1:-1])
    else:
        socket.inet_pton(socket.AF_INET, host)
    return text


def check_endpoints(values: tuple[str, ...]) -> tuple[str, ...]:
    """Accept what :func:`check_endpoint` accepts, with addresses and not names. Raises ValueError."""
    for text in values:
        try:
            check_endpoint(text)
        except OSError:
            raise ValueError("write an IP address, not a name, before the port") from None
    return values


class ListenSection(Section):
    """Where the server listens; an empty list switches a service off."""

    imaps: tuple[str, ...] = ("0.0.0.0:993", "[::]:993")  # a mail server listens on all addresses
    imap: tuple[str, ...] = ()
    pop3s: tuple[str, ...] = ("0.0.0.0:995", "[::]:995")  # as above
    pop3: tuple[str, ...] = ()
    lmtp: tuple[str, ...] = ("unix:/run/sealbox/lmtp.sock",)
    auth: tuple[str, ...] = ()
    recipients: tuple[str, ...] = ()
    https: tuple[str, ...] = ()
    node_lmtp: tuple[str, ...] = ()
    imap_proxied: tuple[str, ...] = ()
    pop3_proxied: tuple[str, ...] = ()
    auth_proxied: tuple[str, ...] = ()
    auth_http: tuple[str, ...] = ()
    node_auth_http: tuple[str, ...] = ()

    @field_validator("auth", "auth_proxied", "recipients")
    @classmethod
    def _on_this_machine(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        if not all(text.startswith("unix:/") for text in values):
            raise ValueError("write unix:/path: what is said there must not leave the machine")
        return values

    @field_validator("auth_http")
    @classmethod
    def _here(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        if not all(text.startswith(("unix:/", "127.0.0.1:", "[::1]:")) for text in values):
            raise ValueError("write 127.0.0.1:PORT, [::1]:PORT or unix:/path; others use node_auth_http")
        return values

    @field_validator("node_lmtp", "imap_proxied", "pop3_proxied", "node_auth_http")
    @classmethod
    def _over_tcp(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        if any(text.startswith("unix:") for text in values):
            raise ValueError("write HOST:PORT or [IPv6 address]:PORT: other machines connect to it")
        return values

    @field_validator("*")
    @classmethod
    def _endpoints(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        return check_endpoints(values)
