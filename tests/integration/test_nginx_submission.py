"""Debian's nginx in front of Debian's Postfix, with the recipes of both: users send mail."""

from __future__ import annotations

import shutil
import smtplib
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from beside import ANN, BOB, MESSAGE, PASSWORD, MailServer
from running import STOP_S, eventually, runs_and_logins

from tests import nginx, postfix
from tests.nginx import Nginx
from tests.ports import free_port

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(postfix.missing() is not None, reason=str(postfix.missing())),
]


class Proxied:
    """All three, on one machine. The server is a node, because nginx has to be sent to one."""

    def __init__(self, folder: Path) -> None:
        self.mail = MailServer(folder, postfix.GROUP)
        self.door, self.metrics, asking = free_port(), free_port(), free_port()
        config, sockets = self.mail.config, self.mail.sockets
        text = config.read_text()
        config.write_text(
            text.replace(
                "[listen]\n",
                f'[listen]\nauth_http = ["127.0.0.1:{asking}"]\n'
                f'auth_proxied = ["unix:{sockets}/auth-proxied.sock"]\n',
            )
            + f'[node]\nname = "a"\n[metrics]\nlisten = ["127.0.0.1:{self.metrics}"]\n'
        )
        self.mail.cli("node", "add", "a", "127.0.0.1:24", "--submission", f"127.0.0.1:{self.door}")
        self.mail.cli("node", "claim")
        self.nginx = Nginx(
            folder / "nginx", self.mail.certificate, self.mail.private_key, f"http://127.0.0.1:{asking}/"
        )

    def start(self) -> None:
        """Start one after the other, and wait for all."""
        mail, ports = self.mail, self.mail.ports
        mail.serve()
        setup = postfix.Setup(
            *(ports.smtp, ports.submissions, ports.submission, mail.sockets, "example.org"),
            *(mail.certificate, mail.private_key, self.door),
        )
        mail.beside = postfix.start(mail.folder / "postfix", setup)
        mail.wait_for_smtp()
        self.nginx.start()
        eventually(self.nginx.listens)

    def stop(self) -> None:
        """End all of it."""
        self.nginx.stop()
        if self.mail.beside is not None:
            postfix.stop(self.mail.folder / "postfix")
            self.mail.beside.wait(STOP_S)
        self.mail.stop()

    def submit(self, source: str = "127.0.0.1") -> smtplib.SMTP_SSL:
        """A connection for a user's mail, from this address."""
        return smtplib.SMTP_SSL(
            *("127.0.0.1", self.nginx.ports[465], "localhost"),
            timeout=60,
            context=self.mail.trusting(),
            source_address=(source, 0),
        )

    def runs_and_logins(self) -> tuple[float, float]:
        """How often Argon2 has run, and how many attempts to log in have ended."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics}/metrics", timeout=60) as answer:
            return runs_and_logins(answer.read())


@pytest.fixture(scope="module")
def proxied() -> Iterator[Proxied]:
    """All of it, running."""
    nginx.require()
    folder = Path(tempfile.mkdtemp(prefix="sealbox-proxied-"))
    found = Proxied(folder)
    try:
        found.start()
        yield found
    finally:
        found.stop()
        shutil.rmtree(folder)


@pytest.mark.parametrize(("method", "at_once"), [("plain", True), ("plain", False), ("login", True)])
def test_a_user_sends_by_way_of_the_proxy(proxied: Proxied, method: str, at_once: bool) -> None:
    """By PLAIN and LOGIN; the mail is for another account."""
    mail = proxied.mail
    waiting = mail.waiting()
    with proxied.submit() as smtp:
        smtp.ehlo()
        smtp.user, smtp.password = BOB, PASSWORD
        respond = getattr(smtp, f"auth_{method}")
        assert smtp.auth(method, respond, initial_response_ok=at_once)[0] == 235
        smtp.sendmail(BOB, [ANN], MESSAGE)
    eventually(lambda: mail.waiting() == waiting + 1)


def test_starttls_comes_before_a_login(proxied: Proxied) -> None:
    """On port 587, as without a proxy."""
    with smtplib.SMTP("127.0.0.1", proxied.nginx.ports[587], "localhost", 60) as smtp:
        smtp.ehlo()
        assert not smtp.has_extn("auth")
        smtp.starttls(context=proxied.mail.trusting())
        smtp.login(BOB, PASSWORD)
        assert smtp.mail(BOB)[0] == 250


@pytest.mark.parametrize(("name", "number"), [(BOB, 2), ("nobody@example.org", 3)])
def test_a_wrong_password_is_refused(proxied: Proxied, name: str, number: int) -> None:
    """For good, so that mail programs ask for another one; and counted for the client, not for the proxy."""
    source = f"127.0.9.{number}"
    with proxied.submit(source) as smtp:
        smtp.ehlo()
        smtp.user, smtp.password = name, "wrong"
        with pytest.raises(smtplib.SMTPAuthenticationError) as refused:
            smtp.auth("plain", smtp.auth_plain)
        assert refused.value.smtp_code == 535
    eventually(lambda: source.encode() in proxied.mail.logged())


def test_others_may_send_from_their_own_addresses_alone(proxied: Proxied) -> None:
    """The rules of Postfix hold behind the proxy, too."""
    with proxied.submit() as smtp:
        smtp.login(BOB, PASSWORD)
        smtp.mail(ANN)
        assert smtp.rcpt(ANN)[0] == 553


def test_postfix_hears_nobody_without_a_proxy(proxied: Proxied) -> None:
    """It wants the header first."""
    with pytest.raises((smtplib.SMTPException, OSError)):
        smtplib.SMTP("127.0.0.1", proxied.door, "localhost", 60).ehlo()


def test_a_login_costs_one_run_of_argon2(proxied: Proxied) -> None:
    """That of Postfix's question: nobody has an account open, so each attempt that is counted is one run."""
    for number in range(5):
        with proxied.submit(f"127.0.10.{number + 1}") as smtp:
            smtp.login(BOB, PASSWORD)
    eventually(lambda: proxied.runs_and_logins()[1] >= 5)
    runs, logins = proxied.runs_and_logins()
    assert runs == logins
