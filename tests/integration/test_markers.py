"""Whatever passes through the server, no file below it ever holds a word of it in a readable form."""

from __future__ import annotations

import base64
import os
import smtplib
import socket
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import zstandard
from imap_wire import Wire, connect, session
from markers import INFLATE_MAX_BYTES, forms, found_below, make_markers
from running import Server, eventually

pytestmark = pytest.mark.integration

MARKERS = make_markers(20, seed=20260731)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with everything: data, log, state, TMPDIR and standard error of the server."""
    place = tmp_path_factory.mktemp("place")
    (place / "tmp").mkdir()
    return place


@pytest.fixture(scope="module")
def server(place: Path) -> Iterator[Server]:
    """A server that nobody has logged in to yet."""
    running = Server(
        place / "data", environment={"XDG_STATE_HOME": str(place / "state"), "TMPDIR": str(place / "tmp")}
    ).start()
    yield running
    if running.process is not None:
        running.stop()


def message(marker: str, purpose: str) -> bytes:
    """A message with the marker wherever a message can hold a word."""
    word = base64.b64encode(marker.encode()).decode()
    quoted = "".join(f"={ord(letter):02X}" for letter in marker)
    lines = (
        f'From: "{marker} writes" <{marker}@{marker}.example>',
        f"To: {marker} <{marker}.to@example.org>",
        f"Cc: =?utf-8?B?{word}?= <{marker}.cc@example.org>",
        f"Subject: {purpose} {marker} and =?utf-8?Q?{quoted}?=",
        f"Message-ID: <{marker}.{purpose}@example.org>",
        f"References: <{marker}.before@example.org>",
        f"X-{marker}: {marker}",
        f'Content-Type: multipart/mixed; boundary="b{marker}"',
        "",
        f"--b{marker}",
        "Content-Type: text/plain; charset=utf-8",
        "Content-Transfer-Encoding: quoted-printable",
        "",
        f"plain {marker}, quoted {quoted}, " + f"again {marker} " * 3 + "=",
        f"--b{marker}",
        f'Content-Type: application/pdf; name="=?utf-8?B?{word}?="',
        f"Content-Disposition: attachment; filename*=utf-8''{quoted.replace('=', '%')}.pdf",
        "Content-Transfer-Encoding: base64",
        "",
        word,
        f"--b{marker}--",
        "",
    )
    return "\r\n".join(lines).encode()


def deliver(server: Server, marker: str, purpose: str) -> None:
    """Over LMTP, with the marker in the envelope, the sub-address and in what LMTP does not understand."""
    name, _, domain = server.user.partition("@")
    with smtplib.LMTP("127.0.0.1", server.info["lmtp"], local_hostname=marker, timeout=30) as lmtp:
        assert lmtp.docmd(marker, marker)[0] == 500
        assert lmtp.docmd("MAIL", f"FROM:<{marker}")[0] == 501
        # One recipient at a time: smtplib reads a single reply after the data, LMTP sends one for each.
        for recipient in (server.user, f"{name}+{marker}@{domain}", f"{name}+nothing-{marker}@{domain}"):
            lmtp.sendmail(f"{marker}@{marker}.example", [recipient], message(marker, purpose))
        lmtp.mail(f"{marker}@example.org")
        assert lmtp.rcpt(f"{marker}@{marker}.example")[0] == 550


def mailboxes(wire: Wire, marker: bytes) -> None:
    """CREATE, SUBSCRIBE, RENAME, LIST, STATUS and more with the marker in the name, nested and non-ASCII."""
    for text in (
        b'CREATE "%s"',
        b'CREATE "top/%s/%s"',
        b'CREATE "&AOQ-%s"',
        b'SUBSCRIBE "%s"',
        b'RENAME "top/%s" "top/renamed %s/below"',
        b'LIST "" "*%s*"',
        b'STATUS "%s" (MESSAGES)',
        b'GETQUOTAROOT "%s"',
    ):
        assert wire.command(text.replace(b"%s", marker)).status == b"OK", text
    for text in (b'STATUS "no %s" (UIDNEXT)', b'DELETE "no %s"', b'CREATE "%s"', b'RENAME "no %s" "%s"'):
        assert wire.command(text.replace(b"%s", marker)).status == b"NO", text
    assert wire.command(b'SELECT "no %s"' % marker).status == b"NO"
    assert wire.command(b"SELECT INBOX").status == b"OK"


def contents(wire: Wire, marker: bytes, text: bytes) -> None:
    """APPEND, STORE, COPY, SEARCH and FETCH with the marker wherever they take a word."""
    assert wire.append(b'"%s"' % marker, text, b"(\\Seen %s)" % marker).status == b"OK"
    assert wire.append(b"INBOX", text).status == b"OK"
    for command in (
        b"STORE 1 +FLAGS (%s)",
        b"STORE 1 -FLAGS (%s)",
        b'COPY * "%s"',
        b'SEARCH SUBJECT "%s"',
        b'SEARCH OR BODY "%s" TEXT "%s"',
        b'UID SEARCH RETURN (ALL) CHARSET UTF-8 FROM "%s"',
        b'SEARCH HEADER "X-%s" "%s"',
        b"SEARCH KEYWORD %s",
        b"FETCH * (ENVELOPE BODYSTRUCTURE BODY.PEEK[HEADER.FIELDS (X-%s)])",
        b"UID FETCH * (FLAGS BODY.PEEK[])",
    ):
        answer = wire.command(command.replace(b"%s", marker))
        assert answer.status == b"OK", (command, answer.tagged)
    assert wire.literals(b"SEARCH BODY ", marker).status == b"OK"


def mistakes(wire: Wire, marker: bytes) -> None:
    """Wrong syntax around the marker, between commands that are right."""
    for command in (
        b"%s",
        b"%s %s",
        b"UID %s 1",
        b"FETCH 1 %s",
        b"FETCH 1 (BODY[%s])",
        b'SEARCH "%s',
        b"SEARCH %s",
        b"STORE 1 %s (%s)",
        b"LOGIN %s %s",
        b"SELECT %s %s %s",
        b'APPEND "%s" (%s {10',
    ):
        assert wire.command(command.replace(b"%s", marker)).status == b"BAD", command
        assert wire.command(b"NOOP").status == b"OK"
    wire.send(marker + b"\r\n")
    assert wire.line().startswith(marker + b" BAD")
    wire.send(marker + b" NOOP\r\n")
    assert wire.until(marker).status == b"OK"


def failed_logins(server: Server, marker: bytes, number: int) -> None:
    """The marker as user name and as password, by IMAP or POP3; each from an address of its own."""
    source = f"127.0.1.{number + 1}"
    name = server.user.encode() if number % 2 else marker
    if number % 4 < 2:
        wire = connect(server, source=source)
        assert wire.command(b'LOGIN "%s" "%s"' % (name, marker)).status == b"NO"
    else:
        wire = connect(server, "pop3s", source)
        for line in (b"%s %s" % (marker, marker), b"TOP %s" % marker, b"USER %s" % name, b"PASS %s" % marker):
            wire.send(line + b"\r\n")
            assert wire.line().startswith((b"-ERR", b"+OK"))
    wire.close()


def checked_password(server: Server, marker: bytes, number: int) -> None:
    """The marker as name and password of somebody who wants to send, and in what is no request."""
    response = base64.b64encode(b"\0%s@%s.example\0%s" % (marker, marker, marker))
    asked = b"AUTH\t1\tPLAIN\tservice=smtp\tsecured\trip=127.0.2.%d\t%s=%s\tresp=%s\n"
    with socket.socket(socket.AF_UNIX) as auth:
        auth.settimeout(30)
        auth.connect(server.info["auth"])
        auth.sendall(b"VERSION\t1\t1\nCPID\t1\n" + asked % (number + 1, marker, marker, response))
        heard = b""
        while b"FAIL\t1\t" not in heard:
            heard += auth.recv(4096)
        auth.sendall(marker + b"\t" + response + b"\n")
        while more := auth.recv(4096):
            heard += more
    assert marker not in heard


def logged(place: Path, text: bytes) -> bool:
    """Whether the access log has come as far as ``text``."""
    return any(text in path.read_bytes() for path in (place / "data" / "log").iterdir())


def assert_clean(place: Path, password: str) -> None:
    """No marker in any file, and the password in the quick start's own note alone."""
    assert found_below(place, MARKERS) == {}
    notes = {str(path.relative_to(place)) for path in (place / "state").rglob("quickstart-*.json")}
    assert set(found_below(place, [password, password.replace("-", "")])) == notes


def open_files(server: Server) -> list[str]:
    """Regular files that the server's processes have open, those with a name no more included."""
    found = []
    assert server.process is not None
    for pid in (server.process.pid, *server.children()):
        folder = Path(f"/proc/{pid}/fd")
        if not os.access(folder, os.R_OK):
            continue  # processes that hold keys cannot be looked into, but by root
        for descriptor in folder.iterdir():
            try:
                name = os.readlink(descriptor)
                regular = descriptor.is_file()
            except FileNotFoundError:
                continue
            if regular or name.endswith("(deleted)"):
                found.append(name)
    return found


def test_the_search_finds_what_is_there(tmp_path: Path) -> None:
    """A control: each form of a marker, also compressed and in the middle of a file, is found."""
    marker = MARKERS[0]
    shapes = {f"form{number}": form for number, form in enumerate(sorted(forms(marker)))}
    text = b"some text before " + marker.encode() + b" and behind " * 50
    shapes |= {
        "zstd": zstandard.ZstdCompressor().compress(text),
        "zlib": zlib.compress(text),
        "base64": base64.b64encode(b"x" + text),
        "utf7": ("ä" + marker).encode("utf-7"),
        "utf16": ("ä" + marker).encode("utf-16"),
    }
    for name, shape in shapes.items():
        (tmp_path / name).write_bytes(os.urandom(4097) + shape + os.urandom(4097))
    (tmp_path / f"name {marker}").touch()
    (tmp_path / "clean").write_bytes(os.urandom(INFLATE_MAX_BYTES))
    assert found_below(tmp_path, MARKERS) == {name: {0} for name in (*shapes, f"name {marker}")}


def test_no_marker_while_running_or_after_a_clean_stop(server: Server, place: Path) -> None:
    """Delivery to a locked and to an open account, every command and mistake: no file tells a word."""
    if server.process is None:
        server.start()
    untouched = (place / "tmp").stat().st_mtime_ns
    for marker in MARKERS:
        deliver(server, marker, "locked")
    assert_clean(place, server.password)
    wire = session(server)
    for number, marker in enumerate(MARKERS):
        mailboxes(wire, marker.encode())
        deliver(server, marker, "open")
        contents(wire, marker.encode(), message(marker, "appended"))
        mistakes(wire, marker.encode())
        failed_logins(server, marker.encode(), number)
        checked_password(server, marker.encode(), number)
    assert wire.command(b"CHECK").status == b"OK"
    found = wire.command(b"SEARCH SUBJECT locked").texts(b"SEARCH")
    assert len(found[0].split()) == 3 * len(MARKERS)
    eventually(lambda: logged(place, b"IMAP CHECK"))
    assert_clean(place, server.password)
    found = server.metrics()
    # As a word: three letters of a marker in base64 may well be somewhere in a text.
    assert [
        marker for marker in (*MARKERS, server.password) if marker.lower().encode() in found.lower()
    ] == []
    account = server.cli("account", "show", server.user)["account"]
    for name in (server.user, server.user.partition("@")[2], account, "127.0.", str(place)):
        assert name.encode() not in found, "no account, address, network or place is in the numbers"
    assert all(name.startswith((str(place), os.path.realpath("/dev"))) for name in open_files(server))
    assert not any(name.endswith("(deleted)") for name in open_files(server))
    wire.close()
    password = server.password
    assert server.stop() == 0
    assert_clean(place, password)
    assert (place / "tmp").stat().st_mtime_ns == untouched, "not even an empty temporary file"


def keep_busy(server: Server, number: int, until: threading.Event) -> None:
    """Mail and commands with markers, one behind the other, until the server dies under them."""
    try:
        if number % 2:
            while not until.is_set():
                deliver(server, MARKERS[number], "traffic")
        marker = MARKERS[number].encode()
        with session(server) as wire:
            while not until.is_set():
                wire.append(b"INBOX", message(MARKERS[number], "traffic"), b"(%s)" % marker)
                wire.command(b'SEARCH TEXT "%s"' % marker)
                wire.command(b'COPY * "%s"' % marker)
                if not wire.command(b"FETCH %s *" % marker).tagged:
                    return
    except (OSError, smtplib.SMTPException, AssertionError):
        return  # the server was killed


def test_no_marker_after_kill_in_mid_traffic(server: Server, place: Path) -> None:
    """kill -9 of everything among deliveries, appends and searches: what lies there tells nothing."""
    if server.process is None:
        server.start()
    password = server.password
    until = threading.Event()
    threads = [threading.Thread(target=keep_busy, args=(server, number, until)) for number in range(6)]
    inbox = next((place / "data" / "accounts").glob("*/*/inbox"))
    wal = inbox.with_name("mail.db-wal")
    for thread in threads:
        thread.start()
    eventually(lambda: wal.exists() and wal.stat().st_size > 300_000)
    for _ in range(3):
        assert_clean(place, password)
    server.kill()
    until.set()
    killed = time.monotonic()
    for thread in threads:
        thread.join()
    assert time.monotonic() - killed < 60
    assert wal.stat().st_size, "it was killed in mid-traffic: changes wait in the WAL"
    assert_clean(place, password)
