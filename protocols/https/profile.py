"""Apple's configuration profile with one mail account, signed so that the telephone shows who made it."""

from __future__ import annotations

import plistlib
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import pkcs7

from mailstore.model import AccessProtocol
from protocols.https.facts import Server, SetupFacts

CONTENT_TYPE = "application/x-apple-aspen-config"
FILE_NAME = "mail.mobileconfig"
_NEW_IDS: Callable[[], uuid.UUID] = uuid.uuid4


class CannotSign(Exception):
    """The certificate and its key cannot sign; the text is for the operator."""


@dataclass(frozen=True, slots=True)
class Signer:
    """A certificate with its chain, and its private key."""

    certificate: x509.Certificate
    chain: tuple[x509.Certificate, ...]
    key: RSAPrivateKey | EllipticCurvePrivateKey = field(repr=False)

    def sign(self, content: bytes) -> bytes:
        """A signed message around ``content`` (CMS SignedData, RFC 5652, in DER)."""
        builder = pkcs7.PKCS7SignatureBuilder().set_data(content)
        builder = builder.add_signer(self.certificate, self.key, hashes.SHA256())
        for one in self.chain:
            builder = builder.add_certificate(one)
        return builder.sign(serialization.Encoding.DER, [pkcs7.PKCS7Options.Binary])


def read_signer(certificate: Path, private_key: Path) -> Signer:
    """The signer from PEM files, which belong together.

    Raises:
        OSError: a file cannot be read. CannotSign: its content cannot sign.
    """
    try:
        first, *chain = x509.load_pem_x509_certificates(certificate.read_bytes())
        key = serialization.load_pem_private_key(private_key.read_bytes(), None)
    except (ValueError, TypeError):
        raise CannotSign("the certificate or its private key is not PEM without a passphrase") from None
    if not isinstance(key, RSAPrivateKey | EllipticCurvePrivateKey):
        raise CannotSign("profiles can be signed with a key of RSA or of an elliptic curve (ECDSA) only")
    return Signer(first, tuple(chain), key)


def profile(
    facts: SetupFacts,
    address: str,
    password: str,
    usable: frozenset[AccessProtocol],
    *,
    new_id: Callable[[], uuid.UUID] = _NEW_IDS,
) -> bytes:
    """The profile, unsigned: one account with its password (Apple's payload com.apple.mail.managed).

    It is set up for what is ``usable`` with the password and offered here: one of IMAP and POP3 at least.
    """
    domain = address.rpartition("@")[2]
    by_imap = AccessProtocol.IMAP in usable
    incoming = (facts.imap if by_imap else facts.pop3)[0]
    account: dict[str, Any] = {
        "PayloadType": "com.apple.mail.managed",
        "PayloadVersion": 1,
        "PayloadIdentifier": f"mail.{domain}.account",
        "PayloadUUID": str(new_id()).upper(),
        "PayloadDisplayName": address,
        "EmailAccountDescription": address,
        "EmailAccountName": address.partition("@")[0],
        "EmailAccountType": "EmailTypeIMAP" if by_imap else "EmailTypePOP",
        "EmailAddress": address,
        "IncomingPassword": password,
        **_server("Incoming", incoming, address),
        **(_outgoing(facts.smtp[0], address) if AccessProtocol.SMTP in usable else _no_outgoing(incoming)),
    }
    whole = {
        "PayloadType": "Configuration",
        "PayloadVersion": 1,
        # A profile of the same identifier takes the place of the one before.
        "PayloadIdentifier": f"mail.{domain}.{address.partition('@')[0]}",
        "PayloadUUID": str(new_id()).upper(),
        "PayloadDisplayName": facts.name,
        "PayloadDescription": f"Mail for {address}",
        "PayloadOrganization": facts.name,
        "PayloadContent": [account],
    }
    return plistlib.dumps(whole)


def _outgoing(server: Server, address: str) -> dict[str, Any]:
    return {**_server("Outgoing", server, address), "OutgoingPasswordSameAsIncomingPassword": True}


def _no_outgoing(incoming: Server) -> dict[str, Any]:
    """A name and how to authenticate are required; without a password nobody takes mail there."""
    return {
        "OutgoingMailServerAuthentication": "EmailAuthNone",
        "OutgoingMailServerHostName": incoming.host,
    }


def _server(direction: str, server: Server, address: str) -> dict[str, Any]:
    return {
        f"{direction}MailServerAuthentication": "EmailAuthPassword",
        f"{direction}MailServerHostName": server.host,
        f"{direction}MailServerPortNumber": server.port,
        f"{direction}MailServerUseSSL": True,
        f"{direction}MailServerUsername": address,
    }
