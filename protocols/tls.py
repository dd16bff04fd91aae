"""TLS for the servers: version 1.2 and up, ALPN bound to the protocol, certificates reloadable.

ALPN (RFC 7301) keeps a browser that was tricked into speaking to the mail port from getting an
answer it would trust (ALPACA): a client that offers protocols, and not ours, is refused.
"""
# ruff: noqa: N802 - Twisted's own method name

from __future__ import annotations

from pathlib import Path
from typing import Any

from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.protocols.tls import TLSMemoryBIOFactory
from zope.interface import implementer

_CIPHERS = b"ECDHE+AESGCM:ECDHE+CHACHA20"
"""For TLS 1.2; forward secrecy and authenticated encryption only. TLS 1.3 has no others."""


class ForeignProtocol(SSL.Error):
    """The client's ALPN offer does not contain this server's protocol."""


@implementer(IOpenSSLServerConnectionCreator)
class TlsContext:
    """Makes the server's side of TLS connections from a certificate chain and a private key in PEM."""

    def __init__(self, certificate: Path, key: Path, alpn: bytes) -> None:
        """Read both files.

        Raises:
            OSError: a file cannot be read. OpenSSL.SSL.Error: invalid content, or a key that does not match
            the certificate.
        """
        self._certificate = certificate
        self._key = key
        self._alpn = alpn
        self._context = self._load()

    def reload(self) -> None:
        """Read the files again (SIGHUP); on failure connections go on with what was read before.

        Raises:
            OSError, OpenSSL.SSL.Error: as at construction.
        """
        self._context = self._load()

    def _load(self) -> SSL.Context:
        with self._key.open("rb"), self._certificate.open("rb"):
            context = SSL.Context(SSL.TLS_SERVER_METHOD)
        context.set_min_proto_version(SSL.TLS1_2_VERSION)
        context.set_options(
            SSL.OP_NO_COMPRESSION
            | SSL.OP_NO_RENEGOTIATION
            | SSL.OP_CIPHER_SERVER_PREFERENCE
            | SSL.OP_NO_TICKET
        )
        context.set_mode(SSL.MODE_RELEASE_BUFFERS)
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        context.set_cipher_list(_CIPHERS)
        context.use_certificate_chain_file(str(self._certificate))
        context.use_privatekey_file(str(self._key))
        context.check_privatekey()
        context.set_alpn_select_callback(self._choose)
        return context

    def _choose(self, connection: SSL.Connection, offered: list[bytes]) -> bytes:
        """Our protocol when the client offers it; else the handshake fails with an alert."""
        if self._alpn in offered:
            return self._alpn
        # The shape of OpenSSL's own errors, which Twisted looks into.
        raise ForeignProtocol([("ALPN", "", "no protocol in common")])

    def serverConnectionForTLS(self, protocol: Any) -> SSL.Connection:
        """A new connection, for Twisted."""
        return SSL.Connection(self._context, None)


class TlsFactory(TLSMemoryBIOFactory):
    """TLS around the connections of a factory, which may refuse one.

    Twisted's own class takes None for a connection: it fails there, and the client's socket stays open.
    """

    def __init__(self, context: Any, inner: Any, clock: Any = None) -> None:
        super().__init__(context, False, inner, clock)

    def buildProtocol(self, addr: Any) -> Any:
        """A connection; None, which hangs up, where the inner factory wants none."""
        inner = self.wrappedFactory.buildProtocol(addr)
        return None if inner is None else self.protocol(self, inner)
