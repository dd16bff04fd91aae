"""Look at one of our own ports as mail programs and attackers do: what is possible without TLS 1.2?

Blocking; nobody is logged in. It is for the operator's own check, not for the server.
"""

from __future__ import annotations

import socket
import ssl
import warnings
from dataclasses import dataclass, field
from typing import Literal

Service = Literal["imaps", "imap", "pop3s", "pop3", "https"]
ALPN = {"imaps": "imap", "imap": "imap", "pop3s": "pop3", "pop3": "pop3", "https": "http/1.1"}
_LINE_BYTES = 8192
_LINES = 100


class NoAnswer(Exception):
    """The port cannot be reached, or does not speak its protocol; the text is for the operator."""


@dataclass(frozen=True, slots=True)
class OpenPort:
    """What was found behind a port."""

    certificate: bytes = field(repr=False)
    """As it was shown, DER."""

    old_tls: str | None
    """The version below 1.2 that was agreed to; None when the port refuses those."""

    clear: tuple[str, ...]
    """What was possible before TLS; empty if nothing but STARTTLS or STLS."""


class _Line:
    """A connection read line by line, never further than that."""

    def __init__(self, address: tuple[str, int], timeout_s: float) -> None:
        self.socket = socket.create_connection(address, timeout_s)

    def line(self) -> bytes:
        found = bytearray()
        while not found.endswith(b"\n"):
            # Octet by octet: what follows may be TLS.
            octet = self.socket.recv(1)
            if not octet or len(found) > _LINE_BYTES:
                raise NoAnswer("it ends the connection where a line was expected")
            found += octet
        return bytes(found)

    def ask(self, command: bytes) -> bytes:
        self.socket.sendall(command + b"\r\n")
        return self.line()

    def ask_tagged(self, tag: bytes, command: bytes) -> tuple[list[bytes], bytes]:
        """Untagged responses, and the tagged one or a request to continue (RFC 9051, 2.2.2)."""
        self.socket.sendall(tag + b" " + command + b"\r\n")
        before = list[bytes]()
        for _ in range(_LINES):
            line = self.line()
            if line.startswith((tag + b" ", b"+")):
                return before, line
            before.append(line)
        raise NoAnswer("it does not end its response")

    def ask_many(self, command: bytes) -> list[bytes]:
        """The lines of a multi-line response (RFC 1939, 3); none if it is -ERR."""
        if not self.ask(command).startswith(b"+OK"):
            return []
        found = list[bytes]()
        for _ in range(_LINES):
            line = self.line()
            if line == b".\r\n":
                return found
            found.append(line)
        raise NoAnswer("it does not end its response")


def look(service: Service, address: tuple[str, int], timeout_s: float = 10.0) -> OpenPort:
    """Connect to ``address`` in the clear, with today's TLS, and with what must be refused.

    Raises:
        NoAnswer: the port does not answer as its service would.
    """
    try:
        clear = _before_tls(service, address, timeout_s)
        with _connected(service, address, timeout_s) as plain:
            certificate = _handshake(plain, _context(service), service)[1]
        return OpenPort(certificate, _old_tls(service, address, timeout_s), clear)
    except (OSError, ValueError) as exc:
        raise NoAnswer(f"it does not answer: {type(exc).__name__}") from None


def _before_tls(service: Service, address: tuple[str, int], timeout_s: float) -> tuple[str, ...]:
    if service in ("imaps", "pop3s", "https"):
        return ()
    line = _Line(address, timeout_s)
    with line.socket:
        line.line()
        return tuple(_clear_imap(line) if service == "imap" else _clear_pop3(line))


def _clear_imap(line: _Line) -> list[str]:
    before, _ = line.ask_tagged(b"1", b"CAPABILITY")
    names = b" ".join(before).upper().split()
    found = []
    if b"STARTTLS" not in names or b"LOGINDISABLED" not in names:
        found.append("its capabilities lack STARTTLS or LOGINDISABLED")  # RFC 9051, 6.2.3, 7.2.2
    if any(name.startswith(b"AUTH=") for name in names):
        found.append("it offers to authenticate")
    _, login = line.ask_tagged(b"2", b'LOGIN "" ""')
    # A server that refuses because of the name or password has let both be sent (RFC 5530).
    if not login.startswith(b"2 BAD") and b"[PRIVACYREQUIRED]" not in login:
        found.append("it takes LOGIN")
    _, authenticate = line.ask_tagged(b"3", b"AUTHENTICATE PLAIN")
    if authenticate.startswith(b"+"):
        found.append("it takes AUTHENTICATE")
    return found


def _clear_pop3(line: _Line) -> list[str]:
    found = []
    names = {one.split()[0].upper() for one in line.ask_many(b"CAPA") if one.split()}
    if b"STLS" not in names:
        found.append("its capabilities lack STLS")  # RFC 2595, 4
    if names & {b"USER", b"SASL"}:
        found.append("it offers to authenticate")
    if line.ask(b"USER sealbox").startswith(b"+"):
        found.append("it takes USER")
    if line.ask(b"AUTH PLAIN").startswith(b"+"):
        found.append("it takes AUTH")
    return found


def _connected(service: Service, address: tuple[str, int], timeout_s: float) -> socket.socket:
    """A connection on which TLS comes next."""
    line = _Line(address, timeout_s)
    try:
        if service == "imap":
            line.line()
            if not line.ask_tagged(b"1", b"STARTTLS")[1].startswith(b"1 OK"):
                raise NoAnswer("it does not take STARTTLS")
        elif service == "pop3":
            line.line()
            if not line.ask(b"STLS").startswith(b"+OK"):
                raise NoAnswer("it does not take STLS")
    except BaseException:
        line.socket.close()
        raise
    return line.socket


def _context(service: Service) -> ssl.SSLContext:
    """A client that takes any certificate: it is looked at afterwards."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols([ALPN[service]])
    return context


def _old_context(service: Service) -> ssl.SSLContext:
    """A client of the years before 2008 (RFC 8996 forbids what it speaks)."""
    context = _context(service)
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that they are old is the point
        context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    return context


def _handshake(plain: socket.socket, context: ssl.SSLContext, service: Service) -> tuple[str, bytes]:
    with context.wrap_socket(plain) as secured:
        return secured.version() or "", secured.getpeercert(binary_form=True) or b""


def _old_tls(service: Service, address: tuple[str, int], timeout_s: float) -> str | None:
    with _connected(service, address, timeout_s) as plain:
        try:
            return _handshake(plain, _old_context(service), service)[0]
        except ssl.SSLError as exc:
            if exc.reason == "NO_PROTOCOLS_AVAILABLE":  # of our own side: nothing was asked
                raise NoAnswer("this machine's OpenSSL cannot ask for old versions of TLS") from None
            return None
        except ConnectionError:
            return None
