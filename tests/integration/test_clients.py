"""Mail programs that nobody here wrote, over real TLS: what arrives is what was sent."""

from __future__ import annotations

import hashlib
import imaplib
import os
import re
import subprocess
from pathlib import Path

import pytest
from corpus import messages
from imapclient import IMAPClient
from running import Server, eventually

pytestmark = pytest.mark.integration


def digest(data: bytes) -> str:
    """What failure output may show of a message."""
    return hashlib.sha256(data).hexdigest()[:16]


def run(
    arguments: list[str], stdin: bytes = b"", home: Path | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Run a client; its standard error is shown when it fails."""
    done = subprocess.run(
        arguments,
        input=stdin,
        capture_output=True,
        timeout=180,
        env={**os.environ, **({"HOME": str(home)} if home else {})},
        check=False,
    )
    assert done.returncode == 0, (arguments[0], done.returncode, done.stderr[-2000:])
    return done


def crlf(data: bytes) -> bytes:
    """A Maildir file as it travels, without the one field that mbsync adds to what it uploads."""
    travelled = data.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    return re.sub(rb"(?m)^X-TUID: .{12}\r\n", b"", travelled, count=1)


def empty(server: Server) -> imaplib.IMAP4_SSL:
    """A connection with an empty INBOX selected."""
    client = server.imap()
    client.select()
    client.store("1:*", "+FLAGS.SILENT", r"\Deleted")
    client.expunge()
    return client


def test_delivered_while_away(server: Server) -> None:
    """Mail over LMTP with nobody logged in is read by imaplib, byte for byte behind its trace header."""
    empty(server).logout()
    sent = list(messages(20, seed=2))
    server.deliver(*sent)
    client = server.imap()
    # The account is open for a while after its last session: then mail is filed beside the login.
    eventually(lambda: client.select()[1] == [b"20"])
    _, answer = client.fetch("1:*", "(BODY.PEEK[])")
    got = [part[1] for part in answer if isinstance(part, tuple)]
    assert [digest(one[-len(two) :]) for one, two in zip(got, sent, strict=True)] == [
        digest(one) for one in sent
    ]
    assert all(one.startswith(b"Return-Path: <sender@example.org>\r\n") for one in got)
    client.logout()


def test_imapclient(server: Server) -> None:
    """IMAPClient parses ENVELOPE and BODYSTRUCTURE of everything and moves, searches, idles."""
    empty(server).logout()
    sent = list(messages(40, seed=3))
    with IMAPClient("localhost", server.info["imaps"], ssl_context=server.tls(), timeout=30) as client:
        client.login(server.user, server.password)
        client.select_folder("INBOX")
        for message in sent:
            client.append("INBOX", message, [b"\\Flagged", b"$Label1"])
        found = client.fetch(
            client.search("ALL"), ["ENVELOPE", "BODYSTRUCTURE", "RFC822.SIZE", "FLAGS", "BODY.PEEK[]"]
        )
        assert [one[b"RFC822.SIZE"] for one in found.values()] == [len(one) for one in sent]
        assert [digest(one[b"BODY[]"]) for one in found.values()] == [digest(one) for one in sent]
        assert all({b"\\Flagged", b"$Label1"} <= set(one[b"FLAGS"]) for one in found.values())
        assert len(client.search(["KEYWORD", "$Label1"])) == 40
        client.create_folder("Projekte/Größe")
        uids = client.search("ALL")
        client.move(uids[:10], "Projekte/Größe")
        client.copy(uids[10:12], "Archive")
        assert client.folder_status("Projekte/Größe", "MESSAGES") == {b"MESSAGES": 10}
        assert client.folder_status("INBOX", "MESSAGES") == {b"MESSAGES": 30}
        client.rename_folder("Projekte", "Projects")
        assert client.folder_exists("Projects/Größe")
        with IMAPClient("localhost", server.info["imap"], ssl=False, timeout=30) as idle:
            idle.starttls(server.tls())
            idle.login(server.user, server.password)
            idle.select_folder("INBOX")
            idle.idle()
            client.append("INBOX", sent[0])
            assert (31, b"EXISTS") in idle.idle_check(timeout=20)
            idle.idle_done()
        client.delete_folder("Projects/Größe")


def mbsync_config(folder: Path, server: Server) -> Path:
    """A configuration that syncs everything both ways."""
    folder.mkdir()
    config = folder / "mbsyncrc"
    config.write_text(
        f"""IMAPAccount a
Host localhost
Port {server.info["imaps"]}
User {server.user}
Pass {server.password}
SSLType IMAPS
CertificateFile {server.info["cafile"]}

IMAPStore far
Account a

MaildirStore near
Path {folder}/mail/
Inbox {folder}/mail/INBOX
SubFolders Verbatim

Channel c
Far :far:
Near :near:
Patterns *
Create Both
Remove Both
Expunge Both
SyncState *
CopyArrivalDate yes
"""
    )
    (folder / "mail").mkdir()
    return config


def maildir(folder: Path) -> dict[str, str]:
    """Digest of every message in an INBOX Maildir with its flags."""
    found = {}
    for path in (folder / "mail" / "INBOX").glob("[cn]*/*"):
        if path.parent.name in ("cur", "new"):
            found[digest(crlf(path.read_bytes()))] = path.name.partition(":2,")[2]
    return found


def sync(config: Path) -> None:
    """One run of mbsync."""
    run(["mbsync", "-c", str(config), "c"], home=config.parent)


def everything(folder: Path) -> dict[str, int]:
    """Every file of a Maildir tree with its time of change."""
    return {
        str(path): path.stat().st_mtime_ns for path in (folder / "mail").glob("**/[cn]*/*") if path.is_file()
    }


def test_mbsync_round_trip(server: Server, tmp_path: Path) -> None:
    """500 messages up and down again: identical bytes, flags and expunges both ways, then nothing to do."""
    empty(server).logout()
    one, two = mbsync_config(tmp_path / "one", server), mbsync_config(tmp_path / "two", server)
    inbox = tmp_path / "one" / "mail" / "INBOX"
    for name in ("cur", "new", "tmp"):
        (inbox / name).mkdir(parents=True)
    # The oddities that Maildir itself cannot hold apart (bare CR, bare LF) are tested elsewhere.
    sent = {digest(crlf(data)): data for data in messages(500, seed=4)}
    for number, data in enumerate(sent.values()):
        (inbox / "cur" / f"{number}.test:2,{'S' if number % 2 else ''}").write_bytes(
            data.replace(b"\r\n", b"\n")
        )
    sync(one)
    sync(two)
    assert set(maildir(tmp_path / "two")) == set(sent)
    assert maildir(tmp_path / "one") == maildir(tmp_path / "two")

    client = server.imap()
    client.select()
    client.store("1:100", "+FLAGS.SILENT", r"(\Flagged \Answered)")
    client.store("101:150", "+FLAGS.SILENT", r"\Deleted")
    client.expunge()
    for path in list((inbox / "cur").iterdir())[400:450]:
        path.unlink()
    sync(one)
    sync(two)
    sync(one)
    assert maildir(tmp_path / "one") == maildir(tmp_path / "two")
    _, answer = client.select()
    assert int(answer[0] or 0) == len(maildir(tmp_path / "one")) < 500
    counters = client.status("INBOX", "(UIDNEXT MESSAGES HIGHESTMODSEQ)")
    before = everything(tmp_path / "one")
    sync(one)
    assert everything(tmp_path / "one") == before
    assert client.status("INBOX", "(UIDNEXT MESSAGES HIGHESTMODSEQ)") == counters
    client.logout()


@pytest.mark.parametrize("protocol", ["IMAP", "POP3"])
def test_fetchmail(server: Server, tmp_path: Path, protocol: str) -> None:
    """fetchmail empties the inbox over TLS and delivers what was there."""
    client = empty(server)
    sent = list(messages(30, seed=5))
    for data in sent:
        client.append("INBOX", "", "", data)
    client.logout()
    target = tmp_path / "out"
    target.mkdir()
    script = tmp_path / "mda"
    script.write_text(f"#!/bin/sh\nexec cat > {target}/$$\n")
    script.chmod(0o700)
    config = tmp_path / "fetchmailrc"
    config.write_text(
        f"poll localhost service {server.info[protocol.lower() + 's']} protocol {protocol}\n"
        f'  user "{server.user}" password "{server.password}"\n'
        f'  ssl sslcertck sslcertfile "{server.info["cafile"]}"\n'
        f'  fetchall no rewrite no keep mda "{script}"\n'
    )
    config.chmod(0o600)
    run(["fetchmail", "-f", str(config), "--nodetach", "--pidfile", str(tmp_path / "pid")], home=tmp_path)
    assert len(list(target.iterdir())) == len(sent)
    client = server.imap()
    assert client.select()[1] == [b"0"]
    client.logout()


def test_curl(server: Server, tmp_path: Path) -> None:
    """curl lists and fetches over IMAPS, POP3S and both STARTTLS ports."""
    client = empty(server)
    message = next(messages(1, seed=6))
    client.append("INBOX", "", "", message)
    client.logout()
    secret = f'user = "{server.user}:{server.password}"\n'.encode()
    ca = ["curl", "-sS", "-K", "-", "--cacert", server.info["cafile"]]
    for url in (
        f"imaps://localhost:{server.info['imaps']}/INBOX;MAILINDEX=1",
        f"imap://localhost:{server.info['imap']}/INBOX;MAILINDEX=1",
        f"pop3s://localhost:{server.info['pop3s']}/1",
        f"pop3://localhost:{server.info['pop3']}/1",
    ):
        extra = ["--ssl-reqd"] if url.startswith(("imap:", "pop3:")) else []
        assert digest(run([*ca, *extra, url], secret).stdout) == digest(message), url
    listing = run([*ca, f"imaps://localhost:{server.info['imaps']}/"], secret).stdout
    assert b"\\Sent" in listing


def test_poplib(server: Server) -> None:
    """poplib: UIDL is stable, DELE counts at QUIT only, TOP cuts."""
    client = empty(server)
    sent = list(messages(5, seed=7))
    for data in sent:
        client.append("INBOX", "", "", data)
    client.logout()
    pop = server.pop()
    assert pop.stat() == (5, sum(map(len, sent)))
    uidl = pop.uidl()[1]
    lines = pop.retr(1)[1]
    assert digest(b"\r\n".join(lines) + b"\r\n") == digest(sent[0])
    assert len(pop.top(1, 0)[1]) < len(lines)
    pop.dele(2)
    pop.rset()
    pop.dele(1)
    pop.close()
    pop = server.pop()
    assert pop.uidl()[1] == uidl
    pop.dele(1)
    pop.quit()
    pop = server.pop()
    assert [line.split()[1] for line in pop.uidl()[1]] == [line.split()[1] for line in uidl[1:]]
    pop.quit()
