"""One account's whole life, with marks on everything that is somebody's: none is ever written in the clear.

Looked through are all files of the data root, the snapshots, the logs, the folder for temporary files,
standard error of the server and of its commands, and the numbers for Prometheus.
"""

from __future__ import annotations

import os
import poplib
import signal
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest
from imap_wire import Wire, connect
from markers import forms, found_below, hits, make_markers
from running import SEALBOX, Server, eventually
from test_markers import contents, deliver, mailboxes, message, mistakes

from backup.segment import PAGE_BYTES

pytestmark = pytest.mark.integration

NAME, DOMAIN, PASSWORD, OTHER, MAIL, FOLDER, SOUGHT, WRONG = make_markers(8, seed=20261201)
MARKERS = (NAME, DOMAIN, PASSWORD, OTHER, MAIL, FOLDER, SOUGHT, WRONG)
ADDRESS = f"{NAME}@{DOMAIN}.example"
CHEAP = "[argon2]\ntime_cost = 1\nmemory_kib = 64\nparallelism = 1\n"


@dataclass
class Life:
    """The server, its place on the disk, and what its commands have said."""

    place: Path
    server: Server
    heard: list[bytes] = field(default_factory=list)

    @property
    def config(self) -> Path:
        """The settings that it is served with."""
        return self.place / "data.toml"

    def command(self, *arguments: str, stdin: str = "", code: int = 0) -> None:
        """An operator's command on the account; what it says on standard error is kept."""
        done = subprocess.run(
            [*SEALBOX, *arguments, "--config", str(self.config)],
            input=stdin.encode(),
            capture_output=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == code, (arguments[:2], done.returncode, done.stderr)
        self.heard.append(done.stderr)

    def log_in(self, password: str = PASSWORD) -> Wire:
        """An IMAP session of the account."""
        wire = connect(self.server)
        assert wire.command(f'LOGIN "{ADDRESS}" "{password}"'.encode()).status == b"OK"
        return wire


def settings(life: Path, text: str) -> str:
    """Those of a quick start, with snapshots, maps for mail servers and logs for programs."""
    recipients = f'[listen]\nrecipients = ["unix:{life}/maps"]\n'
    return (
        text.replace("[listen]\n", recipients, 1)
        + f'[log]\nformat = "json"\n{CHEAP}[store]\nclose_grace_s = 0.1\n'
        + f'[backup]\nstore = "file://{life}/store"\npublic_key = "{life}/public"\n'
        + "[snapshots]\nsettle_s = 0.5\nscan_interval_s = 0.2\n"
    )


@pytest.fixture
def life(tmp_path: Path) -> Iterator[Life]:
    """A server that has snapshots and nobody but the demonstration account."""
    place = tmp_path / "place"
    for folder in (place, place / "tmp", place / "store"):
        folder.mkdir()
    environment = {"XDG_STATE_HOME": str(tmp_path / "state"), "TMPDIR": str(place / "tmp")}
    server = Server(place / "data", environment=environment).start()
    assert server.stop() == 0
    keys = ("--private", str(tmp_path / "private"), "--public", str(place / "public"))
    subprocess.run(
        [*SEALBOX, "backup", "keygen", *keys, "--data", str(place / "data")], check=True, capture_output=True
    )
    server.start_with(lambda text: settings(place, text))
    found = Life(place, server)
    yield found
    if server.process is not None:
        server.stop()


def pop3(life: Life, password: str) -> None:
    """Everything is listed and read; a wrong password and a wrong command before."""
    port = life.server.info["pop3s"]
    client = poplib.POP3_SSL("127.0.0.1", port, context=life.server.tls(), timeout=30)
    client.user(ADDRESS)
    with pytest.raises(poplib.error_proto):
        client.pass_(WRONG)
    with pytest.raises(poplib.error_proto):
        client._shortcmd(f"{WRONG} {SOUGHT}")
    client.user(ADDRESS)
    client.pass_(password)
    client.uidl()
    for number in range(1, client.stat()[0] + 1):
        client.retr(number)
    client.top(1, 10)
    client.quit()


def maps(life: Life) -> None:
    """A mail server asks for the account, for others, and for what makes no sense."""
    with socket.socket(socket.AF_UNIX) as asking:
        asking.settimeout(30)
        asking.connect(str(life.place / "maps"))
        for key in (ADDRESS, f"{OTHER}@{DOMAIN}.example", f"{WRONG}@{WRONG}", WRONG):
            for name in ("recipients", "quota", "senders", WRONG):
                request = f"{name} {key}".encode()
                asking.sendall(b"%d:%b," % (len(request), request))
                assert asking.recv(4096)
        asking.sendall(f"{WRONG}:".encode())
        assert asking.recv(4096) == b""


def damage(life: Life) -> None:
    """The second half of the account's database becomes noise, while nobody has it open."""
    databases = (life.place / "data" / "accounts").glob("*/*/mail.db")
    database = max(databases, key=lambda path: path.stat().st_size)
    wal = database.with_name("mail.db-wal")
    eventually(lambda: life.server.number("sealbox_open_accounts") == 0)
    eventually(lambda: not wal.exists() or wal.stat().st_size == 0)
    with database.open("r+b") as file:
        pages = database.stat().st_size // PAGE_BYTES
        for page in range(pages // 2, pages):
            file.seek(page * PAGE_BYTES + 100)
            file.write(os.urandom(64))


def assert_clean(life: Life, *, passwords: tuple[str, ...] = ()) -> None:
    """No mark anywhere."""
    marks = (*MARKERS, *passwords)
    assert found_below(life.place, marks) == {}
    needles = [(number, form) for number, mark in enumerate(marks) for form in forms(mark)]
    said = b"\n".join([*life.heard, life.server.errors().encode()])
    assert hits(said, needles) == set()
    numbers = life.server.metrics().lower() if life.server.process is not None else b""
    assert [mark for mark in marks if mark.lower().encode() in numbers] == []


def test_no_mark_of_a_life_is_written_in_the_clear(life: Life) -> None:
    """Sign-up, mail, sessions, mistakes, a broken disk, snapshot and restore, a new password, the end."""
    server = life.server
    life.command("account", "add", ADDRESS, "--password-stdin", stdin=PASSWORD + "\n")
    life.command("alias", "add", f"{OTHER}@{DOMAIN}.example", ADDRESS)
    server.info["user"] = ADDRESS  # the quick start's own account has no part in this
    for purpose in ("first", "second"):
        deliver(server, MAIL, purpose)
    server.deliver(message(MAIL, "by another name"), to=f"{OTHER}@{DOMAIN}.example")
    maps(life)
    with life.log_in() as wire:
        mailboxes(wire, FOLDER.encode())
        contents(wire, FOLDER.encode(), message(MAIL, "appended"))
        assert wire.command(f'SEARCH OR TEXT "{SOUGHT}" FROM "{SOUGHT}"'.encode()).status == b"OK"
        mistakes(wire, WRONG.encode())
        long = f"Subject: {MAIL}\r\n\r\n" + "".join(f"{os.urandom(30).hex()}\r\n" for _ in range(2500))
        assert wire.append(b"INBOX", long.encode()).status == b"OK"
    with connect(server, source="127.0.3.1") as wire:
        for name, secret in ((ADDRESS, WRONG), (WRONG, PASSWORD), (f"{WRONG}@{DOMAIN}.example", WRONG)):
            assert wire.command(f'LOGIN "{name}" "{secret}"'.encode()).status == b"NO"
    pop3(life, PASSWORD)
    assert_clean(life)

    life.command("backup", "run")
    sound = datetime.now(UTC).isoformat()
    damage(life)
    with connect(server) as wire:
        # Without a look at the answers: what they are depends on what the pages held, down to the login.
        wire.command(f'LOGIN "{ADDRESS}" "{PASSWORD}"'.encode())
        wire.command(b"SELECT INBOX")
        wire.command(b"FETCH 1:* (FLAGS ENVELOPE BODYSTRUCTURE BODY.PEEK[])")
        wire.command(f'SEARCH TEXT "{SOUGHT}"'.encode())
        wire.command(f'STATUS "{FOLDER}" (MESSAGES)'.encode())
    assert "damaged" in server.errors()
    life.command("account", "check", ADDRESS, "--password-stdin", stdin=PASSWORD + "\n", code=6)
    assert_clean(life)

    life.command("restore", ADDRESS, "--replace", "--at", sound)
    with life.log_in() as wire:
        assert wire.command(b"SELECT INBOX").status == b"OK"
        assert wire.command(b"FETCH 1:* (BODY.PEEK[])").status == b"OK"
    life.command("account", "passwd", ADDRESS, "--password-stdin", stdin=f"{PASSWORD}\n{WRONG}{OTHER}\n")
    assert server.process is not None
    life.config.write_text(life.config.read_text() + "[nonsense]\n")
    server.process.send_signal(signal.SIGHUP)
    eventually(lambda: "not reloaded" in server.errors())
    with life.log_in(WRONG + OTHER):
        for pid in server.workers():
            os.kill(pid, signal.SIGABRT)
    eventually(lambda: server.errors().count("signal 6") == len(server.workers()) > 0)
    assert_clean(life)
    assert server.stop() == 0
    assert_clean(life)
    logged = "".join(path.read_text() for path in (server.data / "log").glob("server-*.log"))
    assert "damaged" in logged
    assert "was killed by signal 6" in logged
