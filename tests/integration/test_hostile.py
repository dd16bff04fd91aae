"""Input that no client sends: each gets a proper refusal or the end of its own connection, no more."""

from __future__ import annotations

import random
import socket
import ssl
import struct
from collections.abc import Iterator

import pytest
from healthy import healthy
from imap_wire import Wire, connect, session
from running import Server

from protocols.imap.grammar.table import COMMANDS
from protocols.limits import ImapLimits

pytestmark = pytest.mark.integration

MIB = 1024 * 1024
LIMITS = ImapLimits()
SERVICES = ("imaps", "imap", "pop3s", "pop3", "lmtp")


@pytest.fixture(autouse=True)
def others_are_well(server: Server) -> Iterator[None]:
    """Around each test here: sessions on all workers go on, and no worker dies or swells."""
    with healthy(server):
        yield


def plain(server: Server, service: str) -> socket.socket:
    """A TCP connection that has said nothing."""
    return socket.create_connection(("127.0.0.1", server.info[service]), 30)


GARBAGE = (
    b" (",
    b' "',
    b" {5",
    b" {5}x",
    b" \x00",
    b" \xff\xfe (",
    b" " + b"(" * 2000,
    b" 1 2 3 4 5 )",
    b" " + b"9" * 400 + b" x )",
    b' "\\x" (',
    b" *:,: ()",
    b"  INBOX  (",
)


def refuse_all(wire: Wire, prefix: bytes) -> None:
    """Each piece of garbage behind a command is refused, and the session goes on."""
    for garbage in GARBAGE:
        answer = wire.command(prefix + garbage)
        assert answer.status in (b"BAD", b"NO"), (prefix, garbage[:20], answer.tagged[:80])
        assert wire.command(b"NOOP").status == b"OK"


def test_wrong_syntax_for_every_imap_command(server: Server) -> None:
    """In each state, each command of the table with garbage behind it is BAD or NO and nothing else."""
    with connect(server) as wire:
        for name in COMMANDS:
            refuse_all(wire, name)
    with session(server) as wire:
        for name in COMMANDS:
            refuse_all(wire, name)
        for name in (b"", b"UID", b"X", b"UID UID FETCH", b"FETCHES", b"\x80", b"{", b"A" * 300):
            refuse_all(wire, name)
        assert wire.command(b"LOGOUT").status == b"OK"


def test_too_many_mistakes_end_the_connection(server: Server) -> None:
    """Nothing but mistakes: BYE after a while, sooner before login."""
    for wire, most in (
        (connect(server), LIMITS.bad_commands_before_login_max),
        (session(server), LIMITS.bad_commands_max),
    ):
        wire.send(b"x nonsense\r\n" * (most + 5))
        said = wire.rest()
        assert said.count(b"x BAD") == most
        assert b"* BYE" in said
        wire.close()


def test_oversized_lines(server: Server) -> None:
    """A line beyond the limit is BAD; one that goes on and on ends the connection."""
    with session(server) as wire:
        assert wire.command(b"SEARCH SUBJECT " + b"x" * LIMITS.line_max_bytes).status == b"BAD"
        assert wire.command(b"NOOP").status == b"OK"
    for open_one in (connect, session):
        with open_one(server) as wire:
            try:
                for _ in range(20):
                    wire.send(b"a NOOP " + b"x" * MIB)
            except OSError:
                continue  # it was cut off, which is right as well
            assert b"BAD" in wire.rest()


def test_oversized_literals(server: Server) -> None:
    """Synchronizing ones are refused before they are sent; others end the connection or are thrown away."""
    huge = (b"99999999999999999999", b"%d" % (1 << 62), b"%d" % (65 * MIB))
    with session(server) as wire:
        for size in huge:
            for command in (b"APPEND INBOX {", b"LOGIN {", b"SEARCH BODY {", b"SELECT {"):
                assert wire.command(command + size + b"}").status in (b"NO", b"BAD")
                assert wire.command(b"NOOP").status == b"OK"
        over = LIMITS.literal_max_bytes + 1
        wire.send(b"s SEARCH BODY {%d+}\r\n" % over + b"x" * over + b"\r\n")
        assert wire.until(b"s ").status == b"NO"
        assert wire.command(b"NOOP").status == b"OK"
    for size in huge:
        with session(server) as wire:
            wire.send(b"a APPEND INBOX {" + size + b"+}\r\n")
            assert b"* BYE" in wire.rest()
    with connect(server) as wire:
        assert wire.command(b"LOGIN {%d}" % (LIMITS.literal_before_login_max_bytes + 1)).status == b"NO"
        assert wire.command(b"NOOP").status == b"OK"


def test_many_literals(server: Server) -> None:
    """Thousands of small literals in one command are refused; the connection stays in step or ends."""
    with session(server) as wire:
        wire.send(b"m SEARCH" + b" BODY {1+}\r\nx" * 900 + b"\r\n")
        assert wire.until(b"m ").status in (b"OK", b"NO", b"BAD")
        wire.send(b"n SEARCH" + b" BODY {1+}\r\nx" * 5000 + b"\r\n")
        assert wire.until(b"n ").status in (b"NO", b"BAD", b"")
        wire.send(b"z FETCH 1 (" + b"BODY.PEEK[] " * 4000 + b"UID)\r\n")
        assert wire.until(b"z ").status in (b"NO", b"BAD", b"")


def test_deep_nesting(server: Server) -> None:
    """10,000 parentheses, before login and after, in every place that takes one."""
    deep = b"(" * 10_000
    for start in (b"", b"LOGIN ", b"ID "):
        with connect(server) as wire:
            wire.send(b"a " + start + deep + b"\r\nb LOGOUT\r\n")
            said = wire.rest()
            assert b"BAD" in said
    with session(server) as wire:
        for start in (
            b"SEARCH ",
            b"FETCH 1 ",
            b"STORE 1 FLAGS ",
            b"LIST ",
            b"STATUS INBOX ",
            b"APPEND INBOX ",
        ):
            assert wire.command(start + deep).status == b"BAD"
        for start in (b"SEARCH " + b"NOT " * 9000 + b"ALL", b"SEARCH " + b"OR " * 5000 + b"ALL " * 5001):
            assert wire.command(start).status in (b"BAD", b"NO")
        assert wire.command(b"NOOP").status == b"OK"


POP3_BEFORE = (b"USER", b"PASS", b"AUTH (", b"AUTH NONE", b"CAPA x", b"UTF8 x", b"LANG (", b"STAT")
POP3_AFTER = (
    *(b"STAT x", b"LIST x", b"LIST 1 2", b"LIST 0", b"UIDL -1", b"UIDL 99999999999", b"RETR", b"RETR 0"),
    *(b"RETR 99999999999999999999", b"TOP 1", b"TOP 1 -1", b"TOP x y", b"DELE x", b"DELE 0", b"RSET x"),
    *(b"NOOP x", b"USER x", b"STLS", b"", b" ", b"\x00", b"\xff\xfe", b"(" * 400, b"x" * 5000),
)


def expect(wire: Wire, line: bytes, *starts: bytes) -> None:
    """Send a line; the answer has to begin with one of ``starts``."""
    wire.send(line + b"\r\n")
    answer = wire.line()
    assert answer.startswith(starts), (line[:40], answer[:80])


def test_wrong_syntax_for_every_pop3_command(server: Server) -> None:
    """-ERR, and the session goes on."""
    for line in POP3_BEFORE:
        with connect(server, "pop3s") as wire:
            expect(wire, line, b"-ERR")
            expect(wire, b"QUIT", b"+OK")
    with connect(server, "pop3s") as wire:
        expect(wire, b"USER " + server.user.encode(), b"+OK")
        expect(wire, b"PASS " + server.password.encode(), b"+OK")
        for line in POP3_AFTER:
            expect(wire, line, b"-ERR")
            expect(wire, b"NOOP", b"+OK")
        expect(wire, b"QUIT x", b"-ERR")
        expect(wire, b"QUIT", b"+OK")


LMTP_WRONG = (
    *(b"LHLO", b"EHLOX", b"MAIL", b"MAIL FROM", b"MAIL FROM:<", b"MAIL FROM:<a@b> SIZE=x", b"MAIL TO:<a@b>"),
    *(b"RCPT", b"RCPT TO:<>", b"RCPT TO:<a@b", b"DATA x", b"DATA", b"RSET x", b"XXXX", b"", b" "),
    *(b"STARTTLS x", b"\x00", b"\xff" * 100, b"(" * 4000, b"x" * 10_000, b"MAIL FROM:<a\rb>"),
)


def test_wrong_syntax_for_every_lmtp_command(server: Server) -> None:
    """5xx, and the next command is understood."""
    with connect(server, "lmtp") as wire:
        for line in LMTP_WRONG:
            expect(wire, line, b"5")
            expect(wire, b"NOOP", b"250")
    with connect(server, "lmtp") as wire:
        wire.send(b"LHLO x\r\n")
        assert wire.until(b"250 ").tagged
        for line in LMTP_WRONG[2:]:
            expect(wire, line, b"5")
            expect(wire, b"NOOP", b"250")
    # What follows a BDAT that is not understood cannot be told from commands.
    for line in (b"BDAT", b"BDAT x LAST", b"BDAT -1", b"BDAT 1 2"):
        with connect(server, "lmtp") as wire:
            wire.send(line + b"\r\n")
            assert wire.rest().startswith(b"5")


@pytest.mark.parametrize("service", SERVICES)
def test_random_bytes(server: Server, service: str) -> None:
    """Seeded noise to every port, in the clear and inside TLS: answered or cut off, never more."""
    rng = random.Random(service)
    words = (
        b"a LOGIN ",
        b"USER ",
        b"MAIL FROM:<",
        b"{5+}\r\n",
        b"\r\n",
        b"(",
        b'"',
        b"\x16\x03\x01",
        b"DATA\r\n",
    )
    for number in range(25):
        noise = b"".join(rng.choice(words) + rng.randbytes(rng.randrange(200)) for _ in range(60))
        with plain(server, service) as wire:
            if service.endswith("s") and number % 2:
                wire = server.tls().wrap_socket(wire, server_hostname="localhost")
            try:
                wire.sendall(noise)
                wire.settimeout(0.05)
                while wire.recv(65536):
                    pass
            except OSError:
                pass
            if number % 3 == 0:
                # Closing with this set sends RST.
                wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            wire.close()


@pytest.mark.parametrize("service", SERVICES)
def test_another_protocol(server: Server, service: str) -> None:
    """HTTP to every port, and a TLS handshake to the ports without: the connection ends at once."""
    with plain(server, service) as wire:
        wire.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        while wire.recv(65536):
            pass
    if not service.endswith("s"):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with plain(server, service) as wire, pytest.raises(OSError):
            context.wrap_socket(wire, server_hostname="localhost")


@pytest.mark.parametrize(
    ("service", "first", "start", "behind", "after", "answer"),
    [
        ("imap", b"", b"a STARTTLS", b"b CAPABILITY\r\nc LOGIN x y", b"d NOOP", b"d OK"),
        ("pop3", b"", b"STLS", b"CAPA\r\nUSER x", b"QUIT", b"+OK"),
        ("lmtp", b"LHLO x\r\n", b"STARTTLS", b"MAIL FROM:<a@b>\r\nVRFY x", b"NOOP", b"250"),
    ],
)
def test_nothing_survives_starttls(
    server: Server, service: str, first: bytes, start: bytes, behind: bytes, after: bytes, answer: bytes
) -> None:
    """Commands pipelined in the clear behind STARTTLS are thrown away, not executed inside TLS."""
    wire = connect(server, service)
    if first:
        wire.send(first)
        assert wire.until(b"250 ").tagged
    wire.send(start + b"\r\n" + behind + b"\r\n")
    assert wire.line().startswith((b"a OK", b"+OK", b"220"))
    with Wire(server.tls().wrap_socket(wire.socket, server_hostname="localhost")) as secured:
        if service == "lmtp":
            # The state before TLS is forgotten too (RFC 3207 section 4.2).
            expect(secured, b"MAIL FROM:<a@b>", b"503")
        expect(secured, after, answer)


def test_half_closed(server: Server) -> None:
    """A client that says all it has to say and closes its half: the connection does not stay."""
    for service, said in (
        ("imap", b"a CAPABILITY\r\nb NOOP\r\n"),
        ("pop3", b"CAPA\r\n"),
        ("lmtp", b"LHLO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<demo@localhost>\r\nDATA\r\nhalf a message"),
        ("imap", b"a LOGIN {100}\r\nhalf a"),
    ):
        with plain(server, service) as wire:
            wire.sendall(said)
            wire.shutdown(socket.SHUT_WR)
            while wire.recv(65536):
                pass


def test_reset_in_the_middle(server: Server) -> None:
    """RST in a handshake, in a literal, in a download, in mail data."""
    for number in range(20):
        wire = session(server)
        wire.send((b"a APPEND INBOX {1000000}\r\n" + b"x" * 1000, b"a FETCH 1:* BODY[]\r\n")[number % 2])
        wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        wire.close()
        with plain(server, "imaps") as half:
            half.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
            half.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        with plain(server, "lmtp") as half:
            half.sendall(b"LHLO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<demo@localhost>\r\nDATA\r\nhalf")
            half.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    with session(server) as wire:
        assert wire.command(b'SEARCH BODY "half"').texts(b"SEARCH") in ([], [b""])
