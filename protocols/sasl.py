"""SASL exchanges (RFC 4422) as pure state: PLAIN (RFC 4616) and the older LOGIN.

The caller moves base64 over the wire and gives up when the client sends ``*``.
"""

from __future__ import annotations

import binascii
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol

RESPONSE_MAX_BYTES = 4096
"""Longest response accepted, in base64; names and secrets are far shorter."""


class SaslError(Exception):
    """The response breaks the rules of base64 or of the mechanism. The text is fixed."""


class OtherIdentity(SaslError):
    """The client asks to act for another user: valid, but refused whatever the credentials."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """The name a client gives, and the secret to prove it."""

    name: bytes = field(repr=False)
    secret: bytes = field(repr=False)


class Exchange(Protocol):
    """One run of a mechanism."""

    def challenge(self) -> bytes:
        """What the server says next, not yet in base64."""

    def respond(self, response: bytes) -> Credentials | None:
        """Take the client's answer; None when another challenge follows. Raises SaslError."""


def decode_response(line: bytes) -> bytes:
    """A response from base64, canonical and nothing else.

    Raises:
        SaslError: too long, characters outside the alphabet, or wrong padding.
    """
    if len(line) > RESPONSE_MAX_BYTES:
        raise SaslError("SASL response too long")
    try:
        raw = binascii.a2b_base64(line, strict_mode=True)
    except ValueError:
        raise SaslError("SASL response is not base64") from None
    if binascii.b2a_base64(raw, newline=False) != line:
        raise SaslError("SASL response is not base64")
    return raw


def encode_challenge(challenge: bytes) -> bytes:
    """A challenge in base64."""
    return binascii.b2a_base64(challenge, newline=False)


class PlainExchange:
    """``[authzid] NUL authcid NUL passwd`` in one response (RFC 4616 section 2)."""

    def challenge(self) -> bytes:
        """Empty: the client speaks first."""
        return b""

    def respond(self, response: bytes) -> Credentials | None:
        """The credentials; acting for somebody else is not offered, so authzid is empty or the same name.

        Raises:
            SaslError: not three parts, or an empty name or secret.
            OtherIdentity: another authzid.
        """
        parts = response.split(b"\0")
        if len(parts) != 3 or not parts[1] or not parts[2]:
            raise SaslError("malformed PLAIN response")
        if parts[0] not in (b"", parts[1]):
            raise OtherIdentity("authorization identity must be empty or the user name")
        return Credentials(parts[1], parts[2])


class LoginExchange:
    """Name and secret in two responses, for old Microsoft clients."""

    def __init__(self) -> None:
        self._name: bytes | None = None

    def challenge(self) -> bytes:
        """The exact prompts that clients expect."""
        return b"Username:" if self._name is None else b"Password:"

    def respond(self, response: bytes) -> Credentials | None:
        """Name first, then the secret.

        Raises:
            SaslError: a response is empty or holds NUL.
        """
        if not response or b"\0" in response:
            raise SaslError("malformed LOGIN response")
        if self._name is None:
            self._name = response
            return None
        return Credentials(self._name, response)


MECHANISMS: dict[bytes, type[PlainExchange] | type[LoginExchange]] = {
    b"PLAIN": PlainExchange,
    b"LOGIN": LoginExchange,
}
"""Names as CAPABILITY lists them. CRAM-MD5 and the like are refused: they need the plaintext kept."""


async def read_credentials(
    exchange: Exchange, initial: bytes | None, ask: Callable[[bytes], Awaitable[bytes]]
) -> Credentials:
    """Run a mechanism to its end.

    ``initial`` is the initial response in base64, None if not given; ``ask`` sends a challenge and gives the
    client's response, decoded. Raises SaslError, and whatever ``ask`` raises.
    """
    credentials = None if initial is None else exchange.respond(decode_response(initial))
    while credentials is None:
        credentials = exchange.respond(await ask(exchange.challenge()))
    return credentials
