"""TLS as it is negotiated, and the edges of the transport."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from OpenSSL import SSL
from twisted.internet.address import IPv4Address

from protocols.limits import StreamLimits
from protocols.redact import describe
from protocols.tls import TlsContext, TlsFactory
from tests.wire import ImapWorld, WireTransport

NOW = datetime.now(UTC)


def write_certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """A self-signed certificate and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW - timedelta(days=1))
        .not_valid_after(NOW + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return folder / "cert.pem", folder / "key.pem"


class TlsClient:
    """A TLS client in memory, talking to an IMAP server behind TLS."""

    def __init__(self, context: TlsContext, alpn: list[bytes], newest: int | None = None) -> None:
        self.world = ImapWorld()
        server = TlsFactory(context, self.world.factory, self.world.clock)
        self.transport = WireTransport()
        protocol = server.buildProtocol(None)
        assert protocol is not None
        self.protocol = protocol
        self.transport.owner = protocol
        protocol.makeConnection(self.transport)
        client = SSL.Context(SSL.TLS_METHOD)
        if newest is not None:
            client.set_min_proto_version(SSL.TLS1_VERSION)
            client.set_max_proto_version(newest)
            client.set_cipher_list(b"ALL:@SECLEVEL=0")
        if alpn:
            client.set_alpn_protos(alpn)
        self.tls = SSL.Connection(client, None)
        self.tls.set_connect_state()

    def pump(self) -> None:
        """Carry octets both ways until nothing moves."""
        while True:
            moved = False
            # Twisted gathers small writes until the reactor's next turn.
            self.world.clock.advance(0)
            try:
                self.protocol.dataReceived(self.tls.bio_read(65536))
                moved = True
            except SSL.WantReadError:
                pass
            said = self.transport.value()
            self.transport.clear()
            if said:
                self.tls.bio_write(said)
                moved = True
            if not moved or self.transport.closed:
                return

    def handshake(self) -> None:
        """Negotiate. Raises SSL.Error when the server refuses."""
        for _ in range(10):
            try:
                self.tls.do_handshake()
            except SSL.WantReadError:
                self.pump()
            else:
                self.pump()
                return

    def say(self, data: bytes) -> bytes:
        """Send, and return what came back."""
        if data:
            self.tls.send(data)
        self.pump()
        said = b""
        while True:
            try:
                said += self.tls.recv(65536)
            except (SSL.WantReadError, SSL.ZeroReturnError):
                return said


@pytest.fixture
def context(tmp_path: Path) -> TlsContext:
    """A server's context for IMAP."""
    return TlsContext(*write_certificate(tmp_path, "one.example"), alpn=b"imap")


def test_session_over_tls(context: TlsContext) -> None:
    """Greeting, login and logout behind a real handshake, at version 1.3."""
    client = TlsClient(context, [b"imap"])
    client.handshake()
    assert client.tls.get_alpn_proto_negotiated() == b"imap"
    assert client.tls.get_protocol_version_name() == "TLSv1.3"
    assert client.say(b"").startswith(b"* OK [CAPABILITY")
    assert client.say(b"a LOGIN joe secret\r\n").startswith(b"a OK [CAPABILITY")
    assert client.say(b"b LOGOUT\r\n") == b"* BYE logging out\r\nb OK done\r\n"
    assert not client.world.account.sessions


def test_client_without_alpn(context: TlsContext) -> None:
    """Most mail clients offer nothing, and are served."""
    client = TlsClient(context, [])
    client.handshake()
    assert client.say(b"").startswith(b"* OK")


def test_row_15_foreign_alpn_is_refused(context: TlsContext) -> None:
    """A browser's handshake fails with an alert (ALPACA)."""
    client = TlsClient(context, [b"h2", b"http/1.1"])
    with pytest.raises(SSL.Error, match="no application protocol"):
        client.handshake()


def test_old_versions_are_refused(context: TlsContext) -> None:
    """TLS 1.1 fails, 1.2 works."""
    client = TlsClient(context, [], SSL.TLS1_1_VERSION)
    with pytest.raises(SSL.Error):
        client.handshake()
    client = TlsClient(context, [], SSL.TLS1_2_VERSION)
    client.handshake()
    assert client.tls.get_protocol_version_name() == "TLSv1.2"


def test_certificates_are_reloaded(tmp_path: Path, context: TlsContext) -> None:
    """New connections get the new certificate; a broken file changes nothing."""
    before = TlsClient(context, [])
    write_certificate(tmp_path, "two.example")
    context.reload()
    after = TlsClient(context, [])
    (tmp_path / "key.pem").write_text("broken")
    with pytest.raises(SSL.Error):
        context.reload()
    (tmp_path / "key.pem").unlink()
    with pytest.raises(OSError, match=r"key\.pem"):
        context.reload()
    still = TlsClient(context, [])
    names = []
    for client in (before, after, still):
        client.handshake()
        certificate = client.tls.get_peer_certificate()
        assert certificate is not None
        names.append(certificate.to_cryptography().subject.rfc4514_string())
    assert names == ["CN=one.example", "CN=two.example", "CN=two.example"]


def test_failures_are_described_without_their_text() -> None:
    """A description has type and place, never what the code was working on."""
    try:
        b"hush \xff".decode("utf-8")
    except UnicodeDecodeError as error:
        text = describe(error)
    assert text.startswith("UnicodeDecodeError at test_tls_and_transport.py:")
    assert "hush" not in text


def test_connections_are_limited_by_address_and_in_all() -> None:
    """One address gets so many connections, the port so many in all; places become free again."""
    world = ImapWorld(stream_limits=StreamLimits(connections_max=3, connections_per_address_max=2))
    here, there = IPv4Address("TCP", "192.0.2.1", 1), IPv4Address("TCP", "192.0.2.2", 1)
    first = world.factory.buildProtocol(here)
    assert first is not None
    assert world.factory.buildProtocol(here) is not None
    assert world.factory.buildProtocol(here) is None
    assert world.factory.buildProtocol(there) is not None
    assert world.factory.buildProtocol(there) is None
    first.connectionLost()
    assert world.factory.buildProtocol(here) is not None
    assert world.factory.connections == 3


def test_connections_are_limited_with_tls_around_them(tmp_path: Path) -> None:
    """Who is one too many is hung up on: no failure in the log, no socket that stays."""
    world = ImapWorld(stream_limits=StreamLimits(connections_per_address_max=1))
    server = TlsFactory(TlsContext(*write_certificate(tmp_path, "localhost"), b"imap"), world.factory)
    here = IPv4Address("TCP", "192.0.2.1", 1)
    assert server.buildProtocol(here) is not None
    assert server.buildProtocol(here) is None
