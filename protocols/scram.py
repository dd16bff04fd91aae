"""SCRAM-SHA-256 and -PLUS, the server's messages (RFC 5802, 7677) with tls-exporter (RFC 9266). Pure.

Proofs are checked by the store, which alone has the keys.
"""

from __future__ import annotations

import binascii
import re
from dataclasses import dataclass, field

from mailstore.model import ScramExchange, ScramSetup
from protocols.sasl import OtherIdentity, SaslError

SCRAM = b"SCRAM-SHA-256"
SCRAM_PLUS = b"SCRAM-SHA-256-PLUS"
NONCE_BYTES = 18
"""Random octets in our part of the nonce; RFC 5802 does not fix their number."""

_NAME = rb"((?:[^\x00,=]|=2C|=3D)+)"
_FIRST = re.compile(
    rb"(([ny]|p=([A-Za-z0-9.-]+)),(?:a=" + _NAME + rb")?,)(n=" + _NAME + rb",r=([!-+\--~]+))\Z"
)
_FINAL = re.compile(rb"(c=([A-Za-z0-9+/=]+),r=([!-+\--~]+)),p=([A-Za-z0-9+/=]+)\Z")
_BINDING = b"tls-exporter"


class BindingFailed(Exception):
    """The client is bound to another channel, or believes that we cannot bind: a man in the middle."""


@dataclass(frozen=True, slots=True)
class ClientFirst:
    """``client-first-message`` (RFC 5802 section 7); extensions are not offered, so none may come."""

    header: bytes = field(repr=False)
    bare: bytes = field(repr=False)
    name: bytes = field(repr=False)
    nonce: bytes = field(repr=False)


def _unescaped(name: bytes) -> bytes:
    """``saslname`` without its escapes (RFC 5802 section 5.1)."""
    return name.replace(b"=2C", b",").replace(b"=3D", b"=")


def _base64(text: bytes) -> bytes:
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except ValueError:
        raise SaslError("malformed SCRAM response") from None


def client_first(message: bytes, mechanism: bytes, can_bind: bool) -> ClientFirst:
    """Read the client's first message. ``can_bind`` tells that the client was offered -PLUS here.

    Raises:
        SaslError: it is malformed or does not go with the mechanism. OtherIdentity: it is to act for
            somebody else. BindingFailed: the client could bind and was told that we cannot, which is
            not so (RFC 5802 section 6).
    """
    matched = _FIRST.match(message)
    if matched is None:
        raise SaslError("malformed SCRAM response")
    header, flag, binding, authzid, bare, name, nonce = matched.groups()
    if (mechanism == SCRAM_PLUS) != (binding is not None) or binding not in (None, _BINDING):
        raise SaslError("channel binding does not go with the mechanism")
    if flag == b"y" and can_bind:
        raise BindingFailed
    if authzid not in (None, name):
        raise OtherIdentity("authorization identity must be empty or the user name")
    return ClientFirst(header, bare, _unescaped(name), nonce)


def server_first(first: ClientFirst, setup: ScramSetup, nonce: bytes) -> bytes:
    """``server-first-message``; ``nonce`` are random octets."""
    salt = binascii.b2a_base64(setup.salt, newline=False)
    ours = binascii.b2a_base64(nonce, newline=False)
    return b"r=%b%b,s=%b,i=%d" % (first.nonce, ours, salt, setup.iterations)


def client_final(
    message: bytes, first: ClientFirst, challenge: bytes, binding: bytes | None
) -> ScramExchange:
    """Read the client's second message, which answers ``challenge``; ``binding`` as for -PLUS, else None.

    Raises:
        SaslError: it is malformed or answers something else. BindingFailed: it is bound to another channel.
    """
    matched = _FINAL.match(message)
    if matched is None:
        raise SaslError("malformed SCRAM response")
    unproven, bound, nonce, proof = matched.groups()
    if not challenge.startswith(b"r=%b," % nonce):
        raise SaslError("SCRAM response with another nonce")
    if _base64(bound) != first.header + (binding or b""):
        raise BindingFailed
    return ScramExchange(b",".join((first.bare, challenge, unproven)), _base64(proof))


def server_final(signature: bytes) -> bytes:
    """``server-final-message`` of a success: lets the client check us."""
    return b"v=" + binascii.b2a_base64(signature, newline=False)
