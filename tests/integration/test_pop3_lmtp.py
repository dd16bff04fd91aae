"""POP3 and LMTP over real sockets and real TLS, spoken to by Python's own clients."""

from __future__ import annotations

import poplib
import smtplib
import socket
import ssl

import pytest
from running import Server, eventually

pytestmark = pytest.mark.integration

BODY = b"Subject: over the wire\r\n\r\n.dot\r\n" + b"0123456789abcdef\r\n" * 60_000


def with_messages(server: Server, count: int) -> poplib.POP3_SSL:
    """A session that sees so many messages; filing what LMTP took goes on behind its reply."""

    def attempt() -> poplib.POP3_SSL | None:
        client = server.pop()
        if client.stat()[0] == count:
            return client
        client.quit()
        return None

    found: poplib.POP3_SSL = eventually(attempt)
    return found


def empty(server: Server) -> None:
    """Remove everything."""
    client = server.pop()
    for number in range(1, client.stat()[0] + 1):
        client.dele(number)
    client.quit()
    with_messages(server, 0).quit()


def joined(lines: list[bytes]) -> bytes:
    """What poplib took apart."""
    return b"".join(line + b"\r\n" for line in lines)


def test_from_lmtp_to_pop3(server: Server) -> None:
    """A large message with dots arrives whole; it is gone after DELE and QUIT only."""
    empty(server)
    with smtplib.LMTP("127.0.0.1", server.info["lmtp"], local_hostname="localhost", timeout=30) as lmtp:
        lmtp.starttls(context=server.tls())
        lmtp.ehlo_or_helo_if_needed()
        assert not lmtp.has_extn("starttls") and lmtp.has_extn("chunking")
        lmtp.sendmail("sender@example.org", [server.user], BODY)
    client = with_messages(server, 1)
    retrieved = joined(client.retr(1)[1])
    assert retrieved.endswith(BODY) and client.stat()[1] == len(retrieved)
    assert joined(client.top(1, 0)[1]).endswith(b"Subject: over the wire\r\n\r\n")
    unique_id = client.uidl(1)
    client.dele(1)
    client.close()
    client = server.pop()
    assert client.uidl(1) == unique_id
    client.dele(1)
    client.quit()
    with_messages(server, 0).quit()


def test_stls(server: Server) -> None:
    """Before STLS a login is refused; behind it everything works (RFC 2595)."""
    client = poplib.POP3("127.0.0.1", server.info["pop3"], timeout=30)
    assert "STLS" in client.capa() and "USER" not in client.capa()
    with pytest.raises(poplib.error_proto):
        client.user(server.user)
    client.stls(server.tls())
    assert client.capa()["SASL"] == ["PLAIN", "LOGIN"]
    client.user(server.user)
    client.pass_(server.password)
    client.quit()


def test_plaintext_behind_stls_is_thrown_away(server: Server) -> None:
    """What an attacker adds in clear never counts, however it shares a packet with STLS."""
    plain = socket.create_connection(("127.0.0.1", server.info["pop3"]), 30)
    assert plain.recv(100).startswith(b"+OK")
    plain.sendall(b"STLS\r\nCAPA\r\nQUIT\r\n")
    assert plain.recv(100) == b"+OK begin TLS now\r\n"
    with server.tls().wrap_socket(plain, server_hostname="localhost") as secure:
        secure.sendall(b"NOOP\r\n")
        assert secure.recv(100) == b"-ERR log in first\r\n"


def test_a_foreign_alpn_is_refused(server: Server) -> None:
    """A browser's offer does not contain pop3 (ALPACA)."""
    context = server.tls()
    context.set_alpn_protocols(["h2", "http/1.1"])
    plain = socket.create_connection(("127.0.0.1", server.info["pop3s"]), 30)
    with pytest.raises(ssl.SSLError):
        context.wrap_socket(plain, server_hostname="localhost")
    plain.close()


def test_lmtp_answers_each_recipient(server: Server) -> None:
    """Chunks over a real socket, two recipients of whom one is unknown, one reply for the other."""
    empty(server)
    with socket.create_connection(("127.0.0.1", server.info["lmtp"]), 30) as plain:
        heard = plain.makefile("rb")
        plain.sendall(
            b"LHLO localhost\r\nMAIL FROM:<>\r\nRCPT TO:<%s>\r\nRCPT TO:<nobody@invalid>\r\n"
            b"BDAT 11\r\nSubject: x\rBDAT 9 LAST\r\n\n\r\nbody\r\nQUIT\r\n" % server.user.encode()
        )
        codes = [line[:9] for line in heard if line[3:4] == b" "]
    assert codes[2:] == [b"250 2.1.0", b"250 2.1.5", b"550 5.1.1", b"250 2.0.0", b"250 2.0.0", b"221 2.0.0"]
    client = with_messages(server, 1)
    assert joined(client.retr(1)[1]).endswith(b"Subject: x\r\n\r\nbody\r\n")
    client.dele(1)
    client.quit()
