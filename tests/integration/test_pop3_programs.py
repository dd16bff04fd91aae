"""Programs that fetch mail by POP3, with the settings of their account, on the running server."""

from __future__ import annotations

import os
import poplib
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from corpus import messages
from running import Server, eventually

pytestmark = pytest.mark.integration

COUNT = 12


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A quick start server that lists SCRAM."""
    folder: Path = tmp_path_factory.mktemp("server")
    running = Server(folder / "data", environment={"XDG_STATE_HOME": str(folder / "state")}).start()
    config = running.data / "sealbox.toml"
    config.write_text(config.read_text("utf-8") + "\n[login]\nlist_scram = true\n", "utf-8")
    assert running.process is not None
    running.process.send_signal(signal.SIGHUP)
    eventually(lambda: "SCRAM-SHA-256" in mechanisms(running))
    # One worker knows by now, so every new one will.
    replace_workers(running)
    yield running
    assert running.stop() == 0
    assert "Traceback" not in running.errors()


def mechanisms(server: Server) -> list[str]:
    """The SASL mechanisms that a connection is told of."""
    client = server.pop()
    try:
        return client.capa()["SASL"]
    finally:
        client.quit()


def replace_workers(server: Server) -> None:
    """Other workers, which read the configuration and everything else afresh."""
    before = server.workers()
    for worker in before:
        os.kill(worker, signal.SIGKILL)
    eventually(lambda: len(server.workers()) == len(before) and not set(server.workers()) & set(before))


def settle(server: Server, *options: str) -> None:
    """Give the account these settings, and the defaults for all others."""
    defaults = ("--pop3-maildrop", "INBOX", "--no-pop3-retr-seen", "--no-pop3-dele-trash")
    server.cli("account", "set", server.user, *defaults, "--pop3-login-delay", "default", *options)


def filled(server: Server, mailbox: str) -> list[bytes]:
    """A mailbox with new messages and an empty Trash; what is in it."""
    sent = list(messages(COUNT, seed=9))
    client = server.imap()
    for name in ("Trash", mailbox):
        client.create(name)
        client.select(name)
        client.store("1:*", "+FLAGS.SILENT", r"\Deleted")
        client.expunge()
    for data in sent:
        client.append(mailbox, "", "", data)
    client.logout()
    return sent


def counts(server: Server, mailbox: str) -> tuple[int, int]:
    """Messages of a mailbox, and how many of them are not read."""
    client = server.imap()
    words = client.status(mailbox, "(MESSAGES UNSEEN)")[1][0].decode().strip(")").split()
    client.logout()
    return int(words[-3]), int(words[-1])


def run(home: Path, *arguments: str, stdin: str = "", codes: tuple[int, ...] = (0,)) -> bytes:
    """Run a program; its output."""
    done = subprocess.run(
        arguments,
        input=stdin.encode(),
        capture_output=True,
        timeout=180,
        env={**os.environ, "HOME": str(home)},
        check=False,
    )
    assert done.returncode in codes, (arguments[0], done.returncode, done.stderr[-2000:])
    return done.stdout


class Fetchmail:
    """fetchmail with a folder that it delivers into; ``keep`` leaves mail on the server."""

    def __init__(self, server: Server, home: Path, keep: str) -> None:
        self._home = home
        self._target = home / "out"
        self._target.mkdir()
        script = home / "mda"
        script.write_text(f"#!/bin/sh\nexec cat > {self._target}/$$\n")
        script.chmod(0o700)
        self._config = home / "fetchmailrc"
        self._config.write_text(
            f"poll localhost service {server.info['pop3s']} protocol POP3 uidl\n"
            f'  user "{server.user}" password "{server.password}"\n'
            f'  ssl sslcertck sslcertfile "{server.info["cafile"]}"\n'
            f'  no rewrite {keep} mda "{script}"\n'
        )
        self._config.chmod(0o600)

    def fetch(self) -> int:
        """Fetch once; how many messages came. It ends with 1 when there was no new mail."""
        before = len(list(self._target.iterdir()))
        command = ("fetchmail", "-f", str(self._config), "--nodetach", "--pidfile", str(self._home / "pid"))
        run(self._home, *command, codes=(0, 1))
        return len(list(self._target.iterdir())) - before


def test_fetchmail_empties_the_maildrop_of_the_account_into_trash(server: Server, tmp_path: Path) -> None:
    """Not INBOX, and nothing is lost: it is all in Trash, marked as read."""
    sent = filled(server, "INBOX")
    filled(server, "Newsletters")
    settle(server, "--pop3-maildrop", "Newsletters", "--pop3-retr-seen", "--pop3-dele-trash")
    assert Fetchmail(server, tmp_path, "fetchall no keep").fetch() == COUNT
    assert counts(server, "Newsletters") == (0, 0)
    assert counts(server, "Trash") == (COUNT, 0)
    assert counts(server, "INBOX") == (len(sent), len(sent))


def test_fetchmail_that_leaves_mail_gets_each_message_once(server: Server, tmp_path: Path) -> None:
    """Its list of unique-ids is true for new mail, for other workers, and when other mail has gone."""
    filled(server, "INBOX")
    settle(server, "--pop3-retr-seen")
    fetchmail = Fetchmail(server, tmp_path, "keep")
    assert fetchmail.fetch() == COUNT
    # It asks by TOP where it leaves mail, so that servers do not take it for read.
    assert counts(server, "INBOX") == (COUNT, COUNT)
    assert fetchmail.fetch() == 0
    replace_workers(server)
    client = server.imap()
    client.select()
    client.store("2:3", "+FLAGS.SILENT", r"\Deleted")
    client.expunge()
    client.append("INBOX", "", "", b"Subject: new\r\n\r\nnew\r\n")
    client.logout()
    assert fetchmail.fetch() == 1
    assert counts(server, "INBOX")[0] == COUNT - 1


def test_curl_reads_marks_and_moves(server: Server, tmp_path: Path) -> None:
    """By every mechanism that it can be told; RETR marks, DELE moves."""
    filled(server, "INBOX")
    settle(server, "--pop3-retr-seen", "--pop3-dele-trash")
    secret = f'user = "{server.user}:{server.password}"\n'
    url = f"pop3s://localhost:{server.info['pop3s']}/"
    curl = ("curl", "-sS", "-K", "-", "--cacert", server.info["cafile"])
    for number, mechanism in enumerate(("PLAIN", "LOGIN"), 1):
        for more in ((), ("--sasl-ir",)):
            run(
                tmp_path, *curl, *more, "--login-options", f"AUTH={mechanism}", f"{url}{number}", stdin=secret
            )
    assert counts(server, "INBOX") == (COUNT, COUNT - 2)
    listed = run(tmp_path, *curl, "-X", "UIDL", url, stdin=secret).split()
    assert len(listed) == 2 * COUNT and len(set(listed[1::2])) == COUNT
    run(tmp_path, *curl, "--head", "-X", "DELE", f"{url}1", stdin=secret)
    assert counts(server, "INBOX") == (COUNT - 1, COUNT - 2)
    assert counts(server, "Trash") == (1, 0)


def refusal(server: Server) -> str:
    """What a client with the right secret is refused with."""
    client = poplib.POP3_SSL("127.0.0.1", server.info["pop3s"], context=server.tls(), timeout=30)
    try:
        client.user(server.user)
        with pytest.raises(poplib.error_proto) as refused:
            client.pass_(server.password)
    finally:
        client.close()
    return bytes(refused.value.args[0]).decode()


def test_poplib_hears_of_delay_and_missing_maildrop(server: Server) -> None:
    """With the response codes that RFC 2449 and RFC 3206 have for them."""
    settle(server, "--pop3-login-delay", "3600")
    client = server.pop()
    assert client.capa()["LOGIN-DELAY"] == ["3600"]
    client.quit()
    assert refusal(server).startswith("-ERR [LOGIN-DELAY] ")
    settle(server, "--pop3-maildrop", "Nowhere", "--pop3-login-delay", "0")
    assert refusal(server).startswith("-ERR [SYS/PERM] the mailbox set as maildrop ")
    assert "the mailbox that pop3_maildrop names is not there" in server.errors()
    assert "Nowhere" not in server.errors()
    settle(server)
    server.pop().quit()


@pytest.mark.skipif(shutil.which("mpop") is None, reason="mpop is not installed")
@pytest.mark.parametrize("mechanism", ["user", "plain", "login", "scram-sha-256"])
def test_mpop(server: Server, tmp_path: Path, mechanism: str) -> None:
    """mpop fetches with an app password by each of our mechanisms, and keeps its list of unique-ids."""
    filled(server, "INBOX")
    settle(server, "--pop3-retr-seen")
    made = server.cli(
        "app-password",
        "add",
        server.user,
        "--label",
        mechanism,
        "--password-stdin",
        stdin=f"{server.password}\n",
    )
    (tmp_path / "mail").mkdir()
    config = tmp_path / "mpoprc"
    config.write_text(
        f"account default\nhost localhost\nport {server.info['pop3s']}\ntls on\ntls_starttls off\n"
        f"tls_trust_file {server.info['cafile']}\nauth {mechanism}\nuser {server.user}\n"
        f"password {made['app_password']}\nkeep on\nuidls_file {tmp_path}/uidls\n"
        f"delivery mbox {tmp_path}/mail/box\n"
    )
    config.chmod(0o600)
    run(tmp_path, "mpop", "-C", str(config))
    assert counts(server, "INBOX") == (COUNT, 0)
    fetched = (tmp_path / "mail" / "box").read_bytes()
    run(tmp_path, "mpop", "-C", str(config))
    assert (tmp_path / "mail" / "box").read_bytes() == fetched
