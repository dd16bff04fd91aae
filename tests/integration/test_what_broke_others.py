"""What has broken other servers, row by row of the list in SECURITY.md, tried on the running server.

Its limits are the real ones. Around every test sessions on all workers go on, and afterwards a fresh login
is prompt and memory is back (``unharmed``).
"""

from __future__ import annotations

import base64
import os
import signal
import socket
import ssl
import zlib
from collections.abc import Iterator

import pytest
from imap_wire import Answer, Wire, connect, session
from running import Server, eventually
from unharmed import unharmed

from protocols.limits import ImapLimits

pytestmark = pytest.mark.integration

MIB = 1024 * 1024
LIMITS = ImapLimits()
OTHER, OTHER_PASSWORD = "other@localhost", "another correct horse"


@pytest.fixture(scope="module", autouse=True)
def other_account(server: Server) -> None:
    """A second account, for everything that must not reach it."""
    server.cli("account", "add", OTHER, "--password-stdin", stdin=f"{OTHER_PASSWORD}\n")
    server.deliver(b"Subject: not for you\r\n\r\nsecret of the other\r\n", to=OTHER)


@pytest.fixture(autouse=True)
def nobody_is_harmed(server: Server) -> Iterator[None]:
    """See ``unharmed``."""
    with unharmed(server):
        yield


def refused(answer: Answer) -> bool:
    """NO, BAD, or the end of the connection."""
    return answer.status in (b"NO", b"BAD", b"")


def stored(server: Server, message: bytes) -> tuple[Wire, bytes]:
    """A session, and the UID of a message that has just been appended."""
    wire = session(server)
    answer = wire.append(b"INBOX", message)
    assert answer.status == b"OK", answer.tagged[:80]
    return wire, answer.tagged.split(b"APPENDUID ")[1].split(b"]")[0].split()[1]


def test_row_01_nothing_pipelined_behind_starttls_counts(server: Server) -> None:
    """No command, no state and no mail from before TLS survives it, and there is no PREAUTH."""
    for service, said, inside in (
        ("imap", b"a STARTTLS\r\nb LOGIN x y\r\nc NOOP\r\n", b"d NOOP\r\n"),
        ("pop3", b"STLS\r\nUSER x\r\nCAPA\r\n", b"NOOP\r\n"),
    ):
        wire = connect(server, service)
        wire.send(said)
        assert wire.line().startswith((b"a OK", b"+OK"))
        with Wire(server.tls().wrap_socket(wire.socket, server_hostname="localhost")) as secured:
            secured.send(inside)
            assert secured.line() in (b"d OK done", b"-ERR log in first")
    for service in ("imap", "imaps"):
        with socket.create_connection(("127.0.0.1", server.info[service]), 30) as plain:
            wrapped = (
                server.tls().wrap_socket(plain, server_hostname="localhost") if service[-1] == "s" else plain
            )
            assert not wrapped.recv(4096).startswith(b"* PREAUTH")
            wrapped.close()


@pytest.mark.parametrize("open_one", [connect, session], ids=["before-login", "after-login"])
def test_row_02_many_literals_have_a_bounded_sum(server: Server, open_one: type) -> None:
    """Each literal is under the limit, all together are not: refused, and nothing is kept for them."""
    with open_one(server) as wire:
        one = b" {4000+}\r\n" + b"x" * 4000
        wire.send(b"m SEARCH" + b" BODY" + one * 1500 + b"\r\n")
        assert refused(wire.until(b"m "))
    with open_one(server) as wire:
        for _ in range(40):
            wire.send(
                b"a LOGIN {%d+}\r\n" % 4000 + b"x" * 4000 + b" {100000+}\r\n" + b"y" * 100_000 + b"\r\n"
            )
        # Known by now or not, the client has used up its bad commands.
        said = wire.rest()
        assert (b"a NO" in said or b"a BAD" in said) and b"* BYE" in said


BEGINNINGS = (
    *(b"", b"a", b"a ", b"a LOGIN ", b'a LOGIN "', b"a SEARCH (", b"a FETCH 1 BODY[HEADER.FIELDS ("),
    *(b"a LIST (", b"a ID (", b"a AUTHENTICATE PLAIN ", b"a STORE 1 FLAGS (", b"a SELECT {"),
)


@pytest.mark.parametrize("start", BEGINNINGS)
def test_row_03_every_parser_state_has_a_size(server: Server, start: bytes) -> None:
    """Tag, atom, quoted string, list, number: whatever goes on without end is cut off or refused."""
    for open_one in (connect, session):
        with open_one(server) as wire:
            try:
                wire.send(start)
                for _ in range(30):
                    wire.send(b"1" * MIB)
            except OSError:
                continue  # cut off, which is right
            wire.send(b"\r\n")
            assert b"BAD" in wire.rest() or b"BYE" in wire.rest()


def test_row_04_parentheses_before_login(server: Server) -> None:
    """Thousands of open parentheses, with and without arguments, from a client nobody knows."""
    for start in (b"", b"LOGIN ", b"ID ", b"SEARCH ", b"AUTHENTICATE "):
        with connect(server) as wire:
            wire.send(b"a " + start + b"(" * 60_000 + b"\r\nb LOGOUT\r\n")
            assert b"BAD" in wire.rest()


def test_row_05_invalid_and_aborted_sasl(server: Server) -> None:
    """Broken base64, aborted and abandoned exchanges leave nothing behind and disturb no other login."""
    for number in range(60):
        with connect(server, "imaps", f"127.0.6.{number % 20 + 1}") as wire:
            wire.send(b"a AUTHENTICATE PLAIN\r\n")
            assert wire.line().startswith(b"+ ")
            match number % 4:
                case 0:
                    wire.send(b"====\r\n")
                case 1:
                    wire.send(b"*\r\n")
                case 2:
                    wire.send(b"A" * 60_000 + b"\r\n")
                case _:
                    continue  # gone in the middle
            assert refused(wire.until(b"a "))
    with connect(server) as wire:
        plain = base64.b64encode(f"\0{server.user}\0{server.password}".encode())
        assert wire.command(b"AUTHENTICATE PLAIN " + plain).status == b"OK"


def test_row_06_a_cached_login_is_one_accounts(server: Server) -> None:
    """While an account is open its secret is remembered; it opens no other account."""
    with session(server), session(server, user=OTHER, password=OTHER_PASSWORD):
        for user, password in ((OTHER, server.password), (server.user, OTHER_PASSWORD)):
            with connect(server, "imaps", "127.0.6.30") as wire:
                assert wire.command(f'LOGIN "{user}" "{password}"'.encode()).status == b"NO"


ODD_NAMES = (
    *(b'"\\"x\\""', b'"a%b"', b'"a:b"', b'"../../etc/passwd"', b'"a\\\\b"', b"{3+}\r\na\0b", b'""', b'"*"'),
    *(b"{2+}\r\n\xff\xfe", b"{400+}\r\n" + b"x" * 400, b"{6+}\r\na\tb@c ", b"\"joe' OR '1'='1\""),
    b'"demo@localhost%00"',
)


def test_row_07_odd_user_names(server: Server) -> None:
    """Quotes, 8-bit, %, :, NUL, very long: the same refusal as any wrong name."""
    for number, name in enumerate(ODD_NAMES):
        with connect(server, "imaps", f"127.0.6.{40 + number}") as wire:
            answer = wire.command(b"LOGIN " + name + b" secret")
            assert answer.status in (b"NO", b"BAD"), name
            assert b"AUTHENTICATIONFAILED" in answer.tagged or answer.status == b"BAD"


HUGE_HEADERS = {
    "addresses": b"To: " + b"a@b.example, " * 100_000 + b"z@z\r\n",
    "groups": b"To: " + b"g: a@b, c@d;, " * 50_000 + b"\r\n",
    "parameters": b"Content-Type: text/plain" + b"".join(b"; p*%d*=x" % n for n in range(50_000)) + b"\r\n",
    "one line": b"Subject: " + b"x" * (10 * MIB) + b"\r\n",
    "folded": b"Subject: a" + b"\r\n b" * 300_000 + b"\r\n",
    "words": b"Subject: " + b"=?utf-8?q?x?= " * 100_000 + b"\r\n",
    "references": b"References: " + b"<a@b> " * 200_000 + b"\r\n",
}


@pytest.mark.parametrize("kind", HUGE_HEADERS)
def test_row_09_headers_without_end(server: Server, kind: str) -> None:
    """A hundred thousand addresses, floods of parameters, ten megabytes of header: mail like any other."""
    wire, uid = stored(server, HUGE_HEADERS[kind] + b"\r\nbody\r\n")
    with wire:
        for item in (b"ENVELOPE", b"BODYSTRUCTURE", b"PREVIEW", b"BODY.PEEK[HEADER.FIELDS (To)]"):
            assert wire.command(b"UID FETCH " + uid + b" (" + item + b")").status == b"OK"
        assert wire.command(b"SORT (TO SUBJECT) UTF-8 ALL").status == b"OK"
        assert wire.command(b'SEARCH TEXT "body"').status == b"OK"


def nested(depth: int, kind: bytes) -> bytes:
    """Parts inside parts."""
    if kind == b"rfc822":
        return b"Content-Type: message/rfc822\r\n\r\n" * depth + b"\r\nend\r\n"
    opened = b"".join(
        b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (n, n) for n in range(depth)
    )
    return opened + b"\r\nend\r\n"


MANY_PARTS = {
    "messages": nested(5000, b"rfc822"),
    "multiparts": nested(5000, b"mixed"),
    "parts": b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"
    + b"--b\r\n\r\nx\r\n" * 100_000
    + b"--b--\r\n",
}


@pytest.mark.parametrize("kind", MANY_PARTS)
def test_row_10_nesting_and_counts_of_parts(server: Server, kind: str) -> None:
    """Thousands of levels and a hundred thousand parts: bounded structure, the message itself untouched."""
    message = MANY_PARTS[kind]
    wire, uid = stored(server, message)
    with wire:
        for item in (b"BODYSTRUCTURE", b"BODY.PEEK[1.1.1.1.1.1]", b"PREVIEW"):
            assert wire.command(b"UID FETCH " + uid + b" (" + item + b")").status == b"OK"
        answer = wire.command(b"UID FETCH " + uid + b" (BODY.PEEK[])")
        assert any(message in line for line in answer.untagged)


HOSTILE_MARKUP = {
    "never closed": b"<" * MIB,
    "comments": b"<!--" * 200_000,
    "tags": b"<a " * 300_000,
    "ampersands": b"&" * MIB,
    "entities": b"&#x110000;" * 100_000,
    "style": b"<style>" + b"x" * MIB,
    "half characters": b"\xe2\x82" * 300_000,
    "marks": b"a" + b"\xcc\x81" * 500_000,
}


@pytest.mark.parametrize("kind", HOSTILE_MARKUP)
def test_row_11_preview_and_search_of_hostile_markup(server: Server, kind: str) -> None:
    """HTML that never closes, entities out of range, half characters, half a million combining marks."""
    wire, uid = stored(server, b"Content-Type: text/html; charset=utf-8\r\n\r\n" + HOSTILE_MARKUP[kind])
    with wire:
        assert wire.command(b"UID FETCH " + uid + b" (PREVIEW)").status == b"OK"
        assert wire.command(b'SEARCH BODY "hello"').status == b"OK"


def test_row_12_nul_and_nested_comments(server: Server) -> None:
    """NUL in quoted strings and literals is refused; comments inside comments are only text."""
    with session(server) as wire:
        for command in (
            b'SELECT "a\0b"',
            b'SEARCH SUBJECT "a\0b"',
            b"CREATE {3+}\r\na\0b",
            b'STORE 1 FLAGS ("\0")',
        ):
            assert refused(wire.command(command)), command[:8]
        assert wire.command(b"NOOP").status == b"OK"
    comments = (
        b"From: a@b " + b"(" * 100_000 + b")" * 50_000 + b"\r\nDate: (" + b"(" * 50_000 + b"\r\n\r\nx\r\n"
    )
    wire, uid = stored(server, comments)
    with wire:
        assert wire.command(b"UID FETCH " + uid + b" (ENVELOPE)").status == b"OK"


def test_row_13_broken_modified_utf7_and_paths(server: Server) -> None:
    """Names that cannot be are NO, names that look like paths are only names."""
    with session(server) as wire:
        for name in (b'"&"', b'"&AA-"', b'"&2AA-"', b'"&&&"', b'"a&b"', b'"' + b"x" * 5000 + b'"'):
            for command in (b"SELECT ", b"STATUS %b (MESSAGES)", b"CREATE ", b"DELETE ", b"SUBSCRIBE "):
                line = command % name if b"%" in command else command + name
                assert wire.command(line).status == b"NO", line[:40]
        for name in (
            b'"../../../etc/passwd"',
            b'"..//..\\\\"',
            b'"/etc/passwd"',
            b'"a/../b"',
            b'"inbox/*.sealed"',
        ):
            assert wire.command(b"SELECT " + name).status == b"NO"
        assert wire.command(b'LIST "" "../*"').status == b"OK"


def test_row_14_no_command_reaches_outside_the_account(server: Server) -> None:
    """Names of other users, of their mailboxes and of shared ones are nobody's, in every command."""
    names = (
        b'"user/other"',
        b'"user.other@localhost"',
        b'"~other"',
        b'"#user/other"',
        b'"Other Users/other"',
    )
    with session(server) as wire:
        for name in names:
            for command in (
                b"SELECT %b",
                b"EXAMINE %b",
                b"STATUS %b (MESSAGES)",
                b"DELETE %b",
            ):
                assert refused(wire.command(command % name)), (command, name)
            assert refused(wire.command(b"COPY 1 " + name))
            assert refused(wire.command(b"SETACL " + name + b" other@localhost lrs"))
            assert not wire.command(b'LIST "" ' + name).untagged
        found = wire.command(b'ESEARCH IN (personal) RETURN (ALL) TEXT "secret of the other"')
        assert not any(b"ALL" in line for line in found.untagged)


def test_row_15_a_browser_and_another_protocols_handshake(server: Server) -> None:
    """HTTP inside TLS ends the connection before anything is reflected; a foreign ALPN is refused."""
    for service in ("imaps", "pop3s"):
        with socket.create_connection(("127.0.0.1", server.info[service]), 30) as plain:
            wire = server.tls().wrap_socket(plain, server_hostname="localhost")
            wire.sendall(b"POST / HTTP/1.1\r\nHost: x\r\n\r\n<script>alert(1)</script>\r\n")
            said = b""
            while data := wire.recv(65_536):
                said += data
            assert b"script" not in said
            wire.close()
        context = server.tls()
        context.set_alpn_protocols(["h2", "http/1.1"])
        address = ("127.0.0.1", server.info[service])
        with socket.create_connection(address, 30) as plain, pytest.raises(ssl.SSLError):
            context.wrap_socket(plain, server_hostname="localhost").recv(1)


@pytest.mark.parametrize("end", [b"\n.\n", b"\r\n.\n", b"\n.\r\n", b"\r.\r", b"\r.\r\n", b"\r\n.\r"])
def test_row_16_bare_cr_and_lf_around_the_dot(server: Server, end: bytes) -> None:
    """What others could take for the end of the mail data is refused; nothing behind it is a command."""
    with connect(server, "lmtp") as wire:
        wire.send(b"LHLO x\r\n")
        wire.until(b"250 ")
        forged = b"MAIL FROM:<evil@example.net>\r\nRCPT TO:<demo@localhost>\r\nDATA\r\nsmuggled\r\n"
        user = server.user.encode()
        wire.send(b"MAIL FROM:<a@b>\r\nRCPT TO:<" + user + b">\r\nDATA\r\n")
        wire.until(b"354 ")
        wire.send(b"Subject: x\r\n\r\ntext" + end + forged + b".\r\n")
        assert wire.until(b"5").tagged.startswith(b"550 5.6.0")
    with session(server) as wire:
        assert wire.command(b'SEARCH TEXT "smuggled"').texts(b"SEARCH") in ([], [b""])


def test_row_17_decompression_bombs(server: Server) -> None:
    """Megabytes out of a kilobyte: commands are bounded after inflating, and the others have their turn."""
    for payload, answers in (
        (b"a NOOP\r\n" * 60_000, (b"a OK",)),
        (b"a" * (64 * MIB) + b"\r\n", (b"BAD", b"BYE")),
        (b"a APPEND INBOX {%d+}\r\n" % (63 * MIB) + b"x" * (63 * MIB) + b"\r\n", (b"a OK", b"a NO", b"BYE")),
    ):
        with session(server) as wire:
            assert wire.command(b"COMPRESS DEFLATE").status == b"OK"
            packer, unpacker = zlib.compressobj(9, wbits=-15), zlib.decompressobj(-15)
            said = b""
            wire.send(packer.compress(payload) + packer.flush(zlib.Z_SYNC_FLUSH))
            while not any(answer in said for answer in answers):
                data = wire.socket.recv(65_536)
                assert data, said[-80:]
                said += unpacker.decompress(data)


def test_row_18_every_session_has_its_own_mailbox(server: Server) -> None:
    """Sessions of two accounts that come and go at once never see each other's mail."""
    for _ in range(15):
        with session(server) as mine, session(server, user=OTHER, password=OTHER_PASSWORD) as others:
            mine.send(b'x SEARCH SUBJECT "not for you"\r\n')
            others.send(b'y SEARCH SUBJECT "not for you"\r\n')
            assert mine.until(b"x ").texts(b"SEARCH") in ([], [b""])
            assert others.until(b"y ").texts(b"SEARCH") == [b"1"]


def test_row_19_half_sent_and_half_open(server: Server) -> None:
    """Announced literals that never come, handshakes that stop: nothing is reserved for them."""
    held: list[socket.socket] = []
    try:
        for number in range(120):
            wire = connect(server, "imaps", f"127.0.8.{number + 1}")
            wire.send((b"a LOGIN {4000}\r\n", b"a LOGIN x", b"a ID (" + b'"a" ' * 20, b"")[number % 4])
            held.append(wire.socket)
            half = socket.create_connection(("127.0.0.1", server.info["imaps"]), 30)
            half.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
            held.append(half)
        session(server).close()
    finally:
        for one in held:
            one.close()


def test_row_20_a_worker_dies_between_250_and_filing(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What was answered 250 or OK is there after kill -9; each single step is tried in tests/crash."""
    folder = tmp_path_factory.mktemp("killed")
    own = Server(folder / "data", environment={"XDG_STATE_HOME": str(folder / "state")}).start()
    try:
        for number in range(3):
            own.deliver(b"Subject: lives %d\r\n\r\nx\r\n" % number)
            for pid in own.workers():
                os.kill(pid, signal.SIGKILL)
            eventually(own.workers)
        with session(own) as wire:
            found = wire.command(b'SEARCH SUBJECT "lives"').texts(b"SEARCH")[0].split()
            assert len(found) == 3
    finally:
        assert own.stop() == 0


def test_row_21_changing_a_password_rewrites_no_database(server: Server) -> None:
    """Keys change by wrapping anew: PRAGMA rekey is never used, and the mail is there afterwards."""
    with session(server, user=OTHER, password=OTHER_PASSWORD) as wire:
        before = wire.command(b"STATUS INBOX (MESSAGES UIDVALIDITY)").untagged
    for old, new in ((OTHER_PASSWORD, "a third correct horse"), ("a third correct horse", OTHER_PASSWORD)):
        server.cli("account", "passwd", OTHER, "--password-stdin", stdin=f"{old}\n{new}\n")
    with session(server, user=OTHER, password=OTHER_PASSWORD) as wire:
        assert wire.command(b"STATUS INBOX (MESSAGES UIDVALIDITY)").untagged == before
