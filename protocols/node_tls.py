"""Mutual TLS between nodes: whoever has a certificate of the nodes' own authority is one of them.

TLS 1.3 only, because both ends are this program. The end that connects also wants the node's name among the
DNS names of the certificate (RFC 5280 section 4.2.1.6), so that no node can take the mail of another.
"""
# ruff: noqa: N802 - Twisted's own method name

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from cryptography import x509
from OpenSSL import SSL, crypto
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from zope.interface import implementer

from protocols.tls import TlsContext

ALPN = b"lmtp"


class NodeTlsContext(TlsContext):
    """The end that is connected to. Raises as :class:`TlsContext`, also for the authority's file."""

    def __init__(self, certificate: Path, key: Path, authority: Path, alpn: bytes = ALPN) -> None:
        self._authority = authority
        super().__init__(certificate, key, alpn)

    def _load(self) -> SSL.Context:
        context = super()._load()
        context.set_min_proto_version(SSL.TLS1_3_VERSION)
        _trust(context, self._authority)
        context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, _as_openssl_says)
        return context


class NodeTlsClient:
    """The end that connects. Raises as :class:`NodeTlsContext`."""

    def __init__(self, certificate: Path, key: Path, authority: Path) -> None:
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        context.set_min_proto_version(SSL.TLS1_3_VERSION)
        context.set_mode(SSL.MODE_RELEASE_BUFFERS)
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        context.use_certificate_chain_file(str(certificate))
        context.use_privatekey_file(str(key))
        context.check_privatekey()
        context.set_alpn_protos([ALPN])
        _trust(context, authority)
        context.set_verify(SSL.VERIFY_PEER, self._is_the_node)
        self._context = context
        self._meant: WeakKeyDictionary[SSL.Connection, str] = WeakKeyDictionary()
        """The node that each connection is for; their own place for such things is Twisted's."""

    def to(self, node: str) -> Any:
        """What Twisted wraps a connection to this node with."""
        return _Creator(lambda: self._connection(node))

    def _connection(self, node: str) -> SSL.Connection:
        connection = SSL.Connection(self._context, None)
        self._meant[connection] = node
        connection.set_tlsext_host_name(node.encode("ascii"))
        return connection

    def _is_the_node(
        self, connection: SSL.Connection, certificate: crypto.X509, _error: int, depth: int, is_good: int
    ) -> bool:
        return bool(is_good) and (depth > 0 or self._meant.get(connection) in _names(certificate))


@implementer(IOpenSSLClientConnectionCreator)
class _Creator:
    def __init__(self, make: Callable[[], SSL.Connection]) -> None:
        self._make = make

    def clientConnectionForTLS(self, _protocol: Any) -> SSL.Connection:
        """A new connection, for Twisted."""
        return self._make()


def _trust(context: SSL.Context, authority: Path) -> None:
    with authority.open("rb"):
        context.load_verify_locations(str(authority))


def _as_openssl_says(
    _connection: SSL.Connection, _certificate: crypto.X509, _error: int, _depth: int, is_good: int
) -> bool:
    return bool(is_good)


def _names(certificate: crypto.X509) -> list[str]:
    """The DNS names of a certificate; none where it is not as it should be."""
    try:
        extensions = certificate.to_cryptography().extensions
        found = extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension):
        return []
    return found.value.get_values_for_type(x509.DNSName)
