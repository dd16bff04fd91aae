"""An authority of nodes, and certificates by it: for trying out, as an operator would make them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec


class Authority:
    """Writes PEM files into a folder. They are valid for 30 days."""

    def __init__(self, folder: Path, name: str = "nodes") -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        self._folder = folder
        self.file = folder / f"{name}.pem"
        self.file.write_bytes(_pem(self._signed(self._name, self._key.public_key(), None)))

    def _signed(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, dns_name: str | None
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        made = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=30))
            .add_extension(x509.BasicConstraints(ca=dns_name is None, path_length=None), critical=True)
        )
        if dns_name is not None:
            made = made.add_extension(x509.SubjectAlternativeName([x509.DNSName(dns_name)]), critical=False)
        return made.sign(self._key, hashes.SHA256())

    def certificate(self, node: str) -> tuple[Path, Path]:
        """The files of a certificate for a node, and of its key. Raises OSError."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, node)])
        pair = self._folder / f"{self.file.stem}-{node}.pem", self._folder / f"{self.file.stem}-{node}.key"
        pair[0].write_bytes(_pem(self._signed(subject, key.public_key(), node)))
        pair[1].write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return pair


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
