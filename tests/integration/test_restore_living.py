"""Restores while the server runs: sessions end, delivery goes on, nothing that is there now is lost."""

from __future__ import annotations

import imaplib
import os
import signal
import smtplib
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from running import SEALBOX, eventually
from snapshot_server import ADA, PASSWORDS, SnapshotServer, make_site, sealbox

pytestmark = pytest.mark.integration

EXIT_REFUSED = 3
SECRET = PASSWORDS[ADA]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SnapshotServer]:
    """A server that takes snapshots into a folder."""
    place = tmp_path_factory.mktemp("living")
    (place / "objects").mkdir()
    made = SnapshotServer(make_site(place, f"file://{place}/objects", "http://127.0.0.1:9"), place / "data")
    made.config.write_text(
        made.config.read_text().replace(
            "[snapshots]",
            f'drill_account = "{ADA}"\ndrill_password = "{place}/drill-password"\n[snapshots]',
        )
    )
    (place / "drill-password").write_text(SECRET + "\n")
    made.add_accounts()
    made.start()
    yield made
    made.end()


def message(subject: str) -> bytes:
    """A small message."""
    return f"Subject: {subject}\r\n\r\n{subject} has a body\r\n".encode()


def subjects(server: SnapshotServer, mailbox: str = "INBOX") -> list[str]:
    """The subjects in a mailbox, sorted."""
    client = server.imap()
    assert client.select(f'"{mailbox}"', readonly=True)[0] == "OK"
    _, found = client.fetch("1:*", "(BODY.PEEK[HEADER.FIELDS (SUBJECT)])")
    client.logout()
    return sorted(
        one[1].decode().strip().removeprefix("Subject: ") for one in found if isinstance(one, tuple)
    )


def validity(server: SnapshotServer) -> int:
    """UIDVALIDITY of INBOX."""
    client = server.imap()
    answer = client.status("INBOX", "(UIDVALIDITY)")[1][0]
    client.logout()
    return int(answer.split()[-1].rstrip(b")"))


def stored_now(server: SnapshotServer) -> str:
    """Have everything stored; the time of the newest snapshot, as it is listed and as --at takes it."""
    assert sealbox("backup", "run", "--config", server.config)["stored"]
    points = sealbox("backup", "list", ADA, "--config", server.config)["points"]
    return str(points[-1]["time"])


def refusal(*arguments: object, stdin: str) -> str:
    """What a command says that ends with the exit code for a wrong secret."""
    done = subprocess.run(
        [*SEALBOX, *map(str, arguments)], input=stdin.encode(), capture_output=True, check=False
    )
    assert done.returncode == 4
    return done.stderr.decode()


class Deliveries(threading.Thread):
    """Delivers a message every few ms until it is stopped; every reply has to be 250."""

    def __init__(self, server: SnapshotServer) -> None:
        super().__init__()
        self._server = server
        self._ended = threading.Event()
        self.accepted: list[tuple[float, str]] = []
        self.refused: list[int] = []

    def run(self) -> None:
        """See the class."""
        number = 0
        while not self._ended.wait(0.02):
            number += 1
            subject = f"delivered {number}"
            with smtplib.LMTP("127.0.0.1", self._server.info["lmtp"], local_hostname="localhost") as lmtp:
                try:
                    lmtp.sendmail("sender@example.org", [ADA], message(subject))
                except smtplib.SMTPResponseException as error:
                    self.refused.append(error.smtp_code)
                except smtplib.SMTPRecipientsRefused as error:
                    self.refused += [code for code, _ in error.recipients.values()]
                else:
                    self.accepted.append((time.time(), subject))

    def stop(self) -> None:
        """End it."""
        self._ended.set()
        self.join()


def test_an_account_is_put_back_under_its_sessions(server: SnapshotServer) -> None:
    """The session ends with BYE, no delivery is refused, what came later is there, UIDVALIDITY is new."""
    client = server.imap()
    for subject in ("old one", "old two"):
        assert client.append("INBOX", None, None, message(subject))[0] == "OK"
    client.logout()
    at = stored_now(server)
    before = validity(server)
    client = server.imap()
    client.select("INBOX")
    assert client.append("INBOX", None, None, message("of the lost future"))[0] == "OK"
    client.store("1", "+FLAGS", "\\Deleted")
    client.expunge()
    deliveries = Deliveries(server)
    deliveries.start()
    eventually(lambda: len(deliveries.accepted) > 3)
    answer = sealbox("restore", ADA, "--at", at, "--replace", "--config", server.config)
    done_s = time.time()
    (restored,) = answer["restored"]
    assert restored["trouble"] is None and restored["pages"] > 0
    with pytest.raises((imaplib.IMAP4.abort, OSError)):
        client.noop()
    client.shutdown()
    eventually(lambda: deliveries.accepted[-1][0] > done_s + 0.2)
    deliveries.stop()
    assert deliveries.refused == []
    found = subjects(server)
    assert found[-2:] == ["old one", "old two"]
    assert "of the lost future" not in found
    assert {subject for accepted_s, subject in deliveries.accepted if accepted_s > done_s} <= set(found)
    assert validity(server) > before
    kept = Path(restored["kept"])
    assert {path.name for path in kept.iterdir()} >= {"mail.db", "keys"}


def test_without_replace_an_account_is_left_alone(server: SnapshotServer) -> None:
    """It is said to be there already, and is what it was."""
    stored_now(server)
    before = subjects(server), validity(server)
    (restored,) = sealbox("restore", ADA, "--config", server.config, codes=(EXIT_REFUSED,))["restored"]
    assert restored["skipped"]
    assert (subjects(server), validity(server)) == before


def test_one_mailbox_comes_back_beside_what_is_there(server: SnapshotServer) -> None:
    """For the one who has the secret; flags and dates come along; nothing else changes."""
    client = server.imap()
    client.create("Projects")
    client.append("Projects", "(\\Flagged)", '"01-Feb-2024 10:00:00 +0000"', message("plan"))
    client.append("Projects", None, None, message("notes"))
    client.logout()
    at = stored_now(server)
    client = server.imap()
    client.delete("Projects")
    client.logout()
    inbox = subjects(server)
    arguments = ("restore", ADA, "--at", at, "--messages", "Projects", "--password-stdin")
    where = ("--config", server.config)
    assert "wrong" in refusal(*arguments, *where, stdin="not the secret\n")
    done = sealbox(*arguments, *where, stdin=SECRET + "\n")
    assert done["messages"] == 2 and done["mailbox"].startswith("Restored Projects ")
    assert subjects(server, done["mailbox"]) == ["notes", "plan"]
    client = server.imap()
    client.select(f'"{done["mailbox"]}"', readonly=True)
    facts = b" ".join(line for line in client.fetch("1:*", "(FLAGS INTERNALDATE)")[1] if line)
    client.logout()
    assert b"\\Flagged" in facts and b" 1-Feb-2024 10:00:00 +0000" in facts
    assert subjects(server) == inbox


def test_a_drill_proves_restores_and_opens_the_test_account(server: SnapshotServer) -> None:
    """Pages are the living database's, and the password opens what was restored."""
    assert sealbox("backup", "run", "--config", server.config)["stored"]
    drilled = {one["name"]: one for one in sealbox("backup", "drill", "--config", server.config)["drilled"]}
    assert drilled[ADA]["trouble"] is None and drilled[ADA]["opened"]
    assert drilled[ADA]["pages_compared"] == drilled[ADA]["pages"] > 0
    status = sealbox("backup", "status", "--config", server.config)
    assert all(one["proven"] for one in status["accounts"])
    assert status["running"] and status["trouble"] is None
    metrics = server.data / "backup" / "metrics.prom"
    text = eventually(lambda: metrics.exists() and metrics.read_text())
    assert "sealbox_backup_oldest_proof_timestamp_seconds" in text
    assert ADA not in text and "example.org" not in text


def test_a_killed_snapshot_process_comes_again(server: SnapshotServer) -> None:
    """kill -9; the supervisor starts another, which goes on; mail is not affected."""

    def snapshot_pids() -> list[int]:
        found = []
        for pid in server.children():
            try:
                name = Path(f"/proc/{pid}/comm").read_text()
            except FileNotFoundError:
                continue
            if name == "snapshots\n":
                found.append(pid)
        return found

    (before,) = snapshot_pids()
    os.kill(before, signal.SIGKILL)
    client = server.imap()
    assert client.append("INBOX", None, None, message("meanwhile"))[0] == "OK"
    client.logout()
    eventually(lambda: snapshot_pids() not in ([], [before]))
    assert sealbox("backup", "run", "--config", server.config)["stored"]
    assert sealbox("backup", "verify", "--config", server.config)["findings"] == []
