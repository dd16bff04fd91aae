"""Mail moves in and out while the account's owner is logged in, and mail arrives."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from running import SEALBOX, Server, eventually

from mailstore.transfer.eml_format import LIST, parse_line

pytestmark = pytest.mark.integration


def put(folder: Path, name: str, subject: str) -> None:
    """A message in a Maildir."""
    (folder / "cur").mkdir(parents=True, exist_ok=True)
    (folder / "cur" / name).write_bytes(f"Subject: {subject}\n\nText\n".encode())


def test_sessions_hear_of_imported_mail(server: Server, tmp_path: Path) -> None:
    """As of a delivery; the messages can be read at once, and a second import adds nothing."""
    put(tmp_path / "Maildir", "1.a:2,S", "imported one")
    put(tmp_path / "Maildir", "2.b:2,FS", "imported two")
    client = server.imap()
    before = int(client.select("INBOX")[1][0])
    client.send(b"i1 IDLE\r\n")
    assert client.readline().startswith(b"+")
    place = f"maildir:{tmp_path / 'Maildir'}"
    arguments = ("import", server.user, "--from", place, "--password-stdin")
    assert server.cli(*arguments, stdin=server.password + "\n")["messages"] == 2
    while True:
        line = client.readline()
        assert line.startswith(b"*"), line
        if line.strip() == b"* %d EXISTS" % (before + 2):
            break
    client.send(b"DONE\r\n")
    while not client.readline().startswith(b"i1 OK"):
        pass
    assert len(client.search(None, "SUBJECT", "imported")[1][0].split()) == 2
    assert len(client.search(None, "SUBJECT", "imported", "FLAGGED")[1][0].split()) == 1
    assert server.cli(*arguments, stdin=server.password + "\n")["already_there"] == 2
    client.logout()


def test_an_export_has_mail_that_nobody_has_read_yet(server: Server, tmp_path: Path) -> None:
    """What waits is filed first, whether or not the server has the account open; it is not marked as read."""
    target = tmp_path / "out"
    arguments = ("export", server.user, "--to", f"eml:{target}", "--password-stdin")
    server.deliver(b"From: a@b\r\nSubject: waiting\r\n\r\nText\r\n")
    server.cli(*arguments, stdin=server.password + "\n")
    assert len(messages(target, b"waiting")) == 1
    client = server.imap()
    client.select("INBOX")
    server.deliver(b"From: a@b\r\nSubject: waiting\r\n\r\nText\r\n")
    server.cli(*arguments, "--update", stdin=server.password + "\n")
    found = messages(target, b"waiting")
    assert len(found) == 2
    assert all("\\Seen" not in one["flags"] for one in found)
    assert len(client.search(None, "SUBJECT", "waiting", "UNSEEN")[1][0].split()) == 2
    client.logout()


def test_an_account_is_checked_while_its_owner_is_in(server: Server) -> None:
    """Nothing is found, mail that arrives meanwhile included, and the session goes on."""
    client = server.imap()
    client.select("INBOX")
    server.deliver(b"From: a@b\r\nSubject: checked\r\n\r\nText\r\n")
    arguments = ("account", "check", server.user, "--password-stdin")
    for more in ((), ("--repair",)):
        said = server.cli(*arguments, *more, stdin=server.password + "\n")
        assert (said["sound"], said["flaws"], said["outdated"]) == (True, {}, 0)
    assert len(client.search(None, "SUBJECT", "checked")[1][0].split()) == 1
    client.logout()


def messages(folder: Path, subject: bytes) -> list[dict[str, object]]:
    """What is noted of messages in INBOX with that subject."""
    lines = map(parse_line, (folder / "INBOX" / LIST).read_bytes().splitlines()[1:])
    return [
        one for one in lines if b"Subject: " + subject in (folder / "INBOX" / str(one["file"])).read_bytes()
    ]


def test_an_import_that_is_killed_is_run_again(server: Server, tmp_path: Path) -> None:
    """kill -9 in the middle, beside a server that has the account open: what is committed stays, once."""
    for number in range(3_000):
        put(tmp_path / "Maildir" / ".Killed", f"{number}.x:2,S", f"message {number}")
    client = server.imap()
    command = [
        *SEALBOX,
        "import",
        server.user,
        "--from",
        f"maildir:{tmp_path / 'Maildir'}",
        "--password-stdin",
    ]
    running = subprocess.Popen(
        [*command, "--data", os.fspath(server.data)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    assert running.stdin is not None
    running.stdin.write(server.password.encode() + b"\n")
    running.stdin.close()

    def some() -> bool:
        answer = client.status("Killed", "(MESSAGES)")
        return answer[0] == "OK" and b"MESSAGES 0)" not in answer[1][0]

    eventually(some, 60)
    running.kill()
    running.wait()
    done = server.cli(*command[len(SEALBOX) :], stdin=server.password + "\n")
    assert done["messages"] + done["already_there"] == 3_000
    assert done["already_there"] > 0
    assert b"MESSAGES 3000)" in client.status("Killed", "(MESSAGES)")[1][0]
    client.logout()
