"""What users were promised, tried on the real server where no other test does. SECURITY.md lists them all."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from imap_wire import session
from markers import forms, hits, make_markers
from running import Server, eventually

from mailstore.account import account_paths, open_directory
from mailstore.account_database import mail_key, search_key
from mailstore.opening import open_as_owner
from tests.unit.store.decrypted_pages import decrypted_pages

pytestmark = pytest.mark.integration


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Server]:
    """A quick start server that this test may kill; it has run once and ended."""
    running = Server(tmp_path / "data", environment={"XDG_STATE_HOME": str(tmp_path / "state")}).start()
    assert running.stop() == 0
    yield running
    if running.process is not None:
        running.stop()


def test_promise_01_a_crash_leaves_no_core(
    own: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every worker dies of SIGABRT with a session open, where core dumps are allowed to everybody else."""
    before = resource.getrlimit(resource.RLIMIT_CORE)
    monkeypatch.chdir(tmp_path)
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (before[1], before[1]))
        own.start()
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, before)
    client = own.imap()
    victims = own.workers()
    for pid in victims:
        os.kill(pid, signal.SIGABRT)
    eventually(lambda: not set(victims) & set(own.workers()))
    client.shutdown()
    eventually(lambda: len(own.workers()) == len(victims))
    for pid in own.workers():
        text = Path(f"/proc/{pid}/limits").read_text()
        assert next(line for line in text.splitlines() if "core" in line).split()[4:6] == ["0", "0"]
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert [path.name for path in files if path.read_bytes()[:4] == b"\x7fELF"] == []


def readable(server: Server) -> bytes:
    """All pages of the account's databases, decrypted with the owner's password, free pages included."""
    directory = open_directory(server.data)
    try:
        opened = open_as_owner(server.data, directory, server.user, server.password.encode(), now=0)
        paths = account_paths(server.data, opened.record.account_id)
        keys = mail_key(opened.master).key, search_key(opened.master).key
        opened.wipe()
    finally:
        directory.close()
    return b"".join(
        decrypted_pages(path, key)
        for path, key in zip((paths.mail_db, paths.search_db), keys, strict=True)
        if path.exists()
    )


def test_promise_07_what_is_expunged_is_overwritten(own: Server) -> None:
    """Header, body, attachment and words in the index: no page has them, nor has the log of writes."""
    own.start()
    gone, stays = make_markers(2, seed=20261130)
    for marker in (gone, stays):
        header = f"From: {marker} <{marker}@example.org>\r\nSubject: {marker}\r\n\r\n"
        own.deliver((header + f"{marker}\r\n" * 400).encode())
    needles = [(number, form) for number, marker in enumerate((gone, stays)) for form in forms(marker)]
    account = Path(own.cli("account", "show", own.user)["folder"])
    wal = account / "mail.db-wal"

    def written() -> bool:
        logs = (wal, account / "search.db-wal")
        return all(not log.exists() or log.stat().st_size == 0 for log in logs)

    with session(own) as wire:
        eventually(lambda: wire.command(b"SEARCH BODY " + gone.encode()).untagged[-1] != b"* SEARCH")
    eventually(written, 60)
    assert hits(readable(own), needles) == {0, 1}, "else this test proves nothing"
    with session(own) as wire:
        found = wire.command(b"SEARCH SUBJECT " + gone.encode()).untagged[-1].split()[-1]
        assert wire.command(b"STORE %b +FLAGS (\\Deleted)" % found).status == b"OK"
        assert wire.command(b"EXPUNGE").status == b"OK"
    eventually(lambda: written() and hits(readable(own), needles) == {1}, 60)


def test_promises_10_and_11_old_logs_go_while_nobody_comes(own: Server) -> None:
    """At the start, without a single connection; what is in its days stays."""
    today = datetime.now(UTC).date()
    folder = own.data / "log"
    folder.mkdir(exist_ok=True)
    files = {
        days: (folder / f"{kind}-{today - timedelta(days=days)}.log")
        for kind, days in (("access", 10), ("access", 9), ("error", 7), ("error", 6))
    }
    for path in files.values():
        path.write_text("{}\n")
    own.start_with(lambda text: text)
    eventually(lambda: not files[10].exists() and not files[7].exists())
    assert files[9].exists() and files[6].exists()


_LISTENER = """
import os, sys
def heard(event, arguments):
    if event in WATCHED:
        what = [str(one) for one in arguments if not hasattr(one, "fileno")]
        family = getattr(arguments[0], "family", None) if arguments else None
        if family is None or family.name != "AF_UNIX":
            # Opened each time: workers close every descriptor that they were not given.
            file = os.open(os.environ["AUDIT_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            os.write(file, (event + " " + " ".join(what) + "\\n").encode())
            os.close(file)
sys.addaudithook(heard)
"""
WATCHED = {
    "socket.connect",
    "socket.sendto",
    "socket.sendmsg",
    "socket.getaddrinfo",
    "socket.gethostbyname",
    "socket.gethostbyaddr",
    "socket.getnameinfo",
    "subprocess.Popen",
    "os.system",
    "os.exec",
    "os.posix_spawn",
}
"""Audit events (docs.python.org, "Audit events table") of whatever calls somebody, or has it done."""


def audited(folder: Path) -> dict[str, str]:
    """An environment in which Python notes every such call in ``folder``/calls."""
    (folder / "sitecustomize.py").write_text(_LISTENER.replace("WATCHED", repr(WATCHED)))
    path = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {"AUDIT_LOG": str(folder / "calls"), "PYTHONPATH": path}


def calls(folder: Path) -> list[str]:
    """What was noted."""
    return (folder / "calls").read_text().splitlines()


def test_calls_are_heard_in_children_too(tmp_path: Path) -> None:
    """Else the next test proves nothing: after a fork that closes every descriptor, as workers are made."""
    program = (
        "import os, socket\nif os.fork() == 0:\n os.closerange(3, 256)\n"
        " socket.socket().connect_ex(('127.0.0.1', 1)); socket.getaddrinfo('localhost', 1); os._exit(0)\n"
        "os.wait()"
    )
    subprocess.run([sys.executable, "-c", program], env={**os.environ, **audited(tmp_path)}, check=True)
    assert [line.split()[0] for line in calls(tmp_path)] == ["socket.connect", "socket.getaddrinfo"]


def test_promise_16_the_server_calls_nobody(own: Server, tmp_path: Path) -> None:
    """No connection, no datagram, no question to a name server, no other program: whatever happens.

    Mail with addresses, links and a List-Unsubscribe comes in, is read, searched and refused; logins fail;
    settings are reloaded; a worker dies. The configuration does not say what the machine is called.
    """
    own.environment |= audited(tmp_path)
    own.start_with(lambda text: text.replace('hostname = "localhost"\n', ""))
    link = "https://tracker.example.com/pixel.png"
    own.deliver(
        b"From: Ann <ann@example.com>\r\nSubject: look\r\n"
        b"Disposition-Notification-To: ann@example.com\r\nContent-Type: text/html\r\n"
        + f'List-Unsubscribe: <{link}>\r\n\r\n<img src="{link}">\r\n'.encode()
    )
    assert own.process is not None
    own.process.send_signal(signal.SIGHUP)
    with session(own) as wire:
        fetch = b"FETCH 1:* (ENVELOPE BODYSTRUCTURE PREVIEW BODY[])"
        for command in (fetch, b"SEARCH BODY pixel", b"NOTIFY NONE"):
            assert wire.command(command).status == b"OK", command
    maildrop = own.pop()
    maildrop.retr(1)
    maildrop.quit()
    client = own.imap()
    os.kill(own.workers()[0], signal.SIGKILL)
    client.shutdown()
    eventually(lambda: len(own.workers()) >= 1)
    own.imap().logout()
    assert own.stop() == 0
    # Twisted asks it where the C library is, to be told of changes of files.
    assert [line for line in calls(tmp_path) if not line.startswith("subprocess.Popen /sbin/ldconfig ")] == []
