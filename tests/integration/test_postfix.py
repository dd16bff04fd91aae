"""Debian's Postfix with the recipe of deploy/postfix: users send with their password, and mail comes in."""

from __future__ import annotations

import base64
import json
import shutil
import smtplib
import ssl
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from running import SEALBOX, START_S, STOP_S, eventually, free_port_base

from deploy.first_run import make_certificate
from mailstore.sealed import pending
from tests import postfix
from tests.readiness import Readiness

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(postfix.missing() is not None, reason=str(postfix.missing())),
]

BOB, ANN = "bob@example.org", "ann@example.org"
PASSWORD = "correct horse battery staple"
MESSAGE = b"Subject: hello\r\n\r\nfrom a program beside Sealbox\r\n"


class Mail:
    """Sealbox and Postfix on one machine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        make_certificate(folder / "c.pem", folder / "k.pem")
        folder.chmod(0o755)
        self.config = folder / "sealbox.toml"
        sockets = folder / "run"
        sockets.mkdir(mode=0o755)
        self.config.write_text(
            f'data = "{folder}/data"\nhostname = "mail.test"\nworkers = 2\nallow_unencrypted_volume = true\n'
            f'socket_group = "{postfix.GROUP}"\n'
            f'[tls]\ncertificate = "{folder}/c.pem"\nprivate_key = "{folder}/k.pem"\n'
            f"[listen]\nimaps = []\npop3s = []\n"
            f'lmtp = ["unix:{sockets}/lmtp.sock"]\nauth = ["unix:{sockets}/auth.sock"]\n'
            f'recipients = ["unix:{sockets}/recipients.sock"]\n'
            "[argon2]\nmemory_kib = 64\n"
        )
        base = free_port_base()
        self.ports = postfix.Setup(
            base + 24, base + 43, base + 93, sockets, "example.org", folder / "c.pem", folder / "k.pem"
        )
        self.server: subprocess.Popen[bytes] | None = None
        self.postfix: subprocess.Popen[bytes] | None = None

    def cli(self, *arguments: str, stdin: str = "") -> dict[str, str]:
        """A command of the operator; its JSON answer."""
        done = subprocess.run(
            [*SEALBOX, *arguments, "--config", str(self.config), "--json"],
            input=stdin.encode(),
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        answer: dict[str, str] = json.loads(done.stdout)
        return answer

    def serve(self) -> None:
        """Start Sealbox."""
        ready = Readiness()
        with (self.folder / "err").open("ab") as errors:
            self.server = subprocess.Popen(
                [*SEALBOX, "serve", "--config", str(self.config)], stderr=errors, env=ready.environment
            )
        ready.wait(self.server, START_S, lambda: (self.folder / "err").read_text())

    def start_postfix(self) -> None:
        """Start Postfix, and wait until it listens."""
        self.postfix = postfix.start(self.folder / "postfix", self.ports)
        eventually(self.listens)

    def listens(self) -> bool:
        """Whether Postfix answers."""
        try:
            smtplib.SMTP("127.0.0.1", self.ports.smtp, "localhost", 10).quit()
        except OSError:
            return False
        return True

    def submit(self) -> smtplib.SMTP_SSL:
        """A connection for a user's mail."""
        return smtplib.SMTP_SSL(
            "127.0.0.1", self.ports.submissions, "localhost", timeout=60, context=self.trusting()
        )

    def trusting(self) -> ssl.SSLContext:
        """A client's settings for TLS; the certificate is for another name."""
        context = ssl.create_default_context(cafile=str(self.folder / "c.pem"))
        context.check_hostname = False
        return context

    def flush(self) -> None:
        """Have Postfix try again what waits in its queue."""
        subprocess.run(["postqueue", "-c", str(self.folder / "postfix" / "config"), "-f"], check=True)

    def stop_server(self) -> None:
        """Stop Sealbox."""
        assert self.server is not None
        self.server.terminate()
        assert self.server.wait(STOP_S) == 0
        self.server = None

    def stop(self) -> None:
        """Stop both."""
        if self.postfix is not None:
            self.postfix.terminate()
            self.postfix.wait(STOP_S)
        if self.server is not None:
            self.stop_server()

    def waiting(self) -> int:
        """Messages in all inboxes."""
        return sum(len(pending(one)) for one in (self.folder / "data" / "accounts").glob("*/*/inbox"))


@pytest.fixture(scope="module")
def mail() -> Iterator[Mail]:
    """Both, running. In a folder with a short name: the user postfix has to reach it, and so has a socket."""
    folder = Path(tempfile.mkdtemp(prefix="sealbox-postfix-"))
    both = Mail(folder)
    try:
        for name in (BOB, ANN):
            both.cli("account", "add", name, "--password-stdin", stdin=f"{PASSWORD}\n")
        both.serve()
        both.start_postfix()
        yield both
    finally:
        both.stop()
        shutil.rmtree(folder)


def test_a_user_sends_with_the_password_of_the_account(mail: Mail) -> None:
    """By PLAIN and by LOGIN; the mail for another account here comes back by LMTP."""
    for method in ("plain", "login"):
        before = mail.waiting()
        with mail.submit() as smtp:
            smtp.ehlo()
            smtp.user, smtp.password = BOB, PASSWORD
            assert smtp.auth(method, getattr(smtp, f"auth_{method}"))[0] == 235
            smtp.sendmail(BOB, [ANN], MESSAGE)
        eventually(lambda: mail.waiting() == before + 1)  # noqa: B023  # called before the next round


def test_a_password_is_not_taken_in_clear(mail: Mail) -> None:
    """Port 587 offers AUTH after STARTTLS only; port 25 never does."""
    with smtplib.SMTP("127.0.0.1", mail.ports.submission, "localhost", 60) as smtp:
        smtp.ehlo()
        assert not smtp.has_extn("auth")
        assert smtp.docmd("AUTH", "PLAIN")[0] in (503, 530)
        smtp.starttls(context=mail.trusting())
        smtp.login(BOB, PASSWORD)
    with smtplib.SMTP("127.0.0.1", mail.ports.smtp, "localhost", 60) as smtp:
        smtp.starttls(context=mail.trusting())
        smtp.ehlo()
        assert not smtp.has_extn("auth")


def test_a_wrong_password_is_refused(mail: Mail) -> None:
    """535: not a temporary error, so that mail programs ask for another one."""
    for user, password in ((BOB, "wrong"), ("nobody@example.org", PASSWORD)):
        with mail.submit() as smtp, pytest.raises(smtplib.SMTPAuthenticationError) as refused:
            smtp.login(user, password)
        assert refused.value.smtp_code == 535


def test_an_app_password_sends_if_its_scope_says_so(mail: Mail) -> None:
    """One for reading mail alone is refused like a wrong one."""

    def made(protocol: str) -> str:
        words = ["app-password", "add", ANN, "--label", protocol, "--protocol", protocol, "--password-stdin"]
        return mail.cli(*words, stdin=f"{PASSWORD}\n")["app_password"]

    with mail.submit() as smtp:
        smtp.login(ANN, made("smtp"))
    with mail.submit() as smtp, pytest.raises(smtplib.SMTPAuthenticationError) as refused:
        smtp.login(ANN, made("imap"))
    assert refused.value.smtp_code == 535


def test_nobody_sends_from_the_address_of_somebody_else(mail: Mail) -> None:
    """Only from those for which the account gets mail: its name with any detail, and its aliases."""
    mail.cli("alias", "add", "info@example.org", BOB)
    with mail.submit() as smtp:
        smtp.login(BOB, PASSWORD)
        for sender, code in (
            (BOB, 250),
            ("bob+list@example.org", 250),
            ("info@example.org", 250),
            (ANN, 553),
        ):
            smtp.mail(sender)
            assert smtp.rcpt(ANN)[0] == code
            smtp.rset()


def rcpt(mail: Mail, address: str) -> tuple[int, bytes]:
    """What another mail server hears that has mail for an address."""
    with smtplib.SMTP("127.0.0.1", mail.ports.smtp, "localhost", 60) as smtp:
        smtp.ehlo()
        assert smtp.mail("sender@example.net")[0] == 250
        return smtp.rcpt(address)


def test_nothing_is_taken_for_somebody_who_is_not_here(mail: Mail) -> None:
    """Refused at RCPT: there is nothing that would have to be sent back."""
    assert rcpt(mail, BOB)[0] == 250
    assert rcpt(mail, "bob+folder@example.org")[0] == 250
    assert rcpt(mail, "nobody@example.org")[0] == 550
    assert rcpt(mail, "nobody+bob@example.org")[0] == 550
    assert rcpt(mail, "bob@example.net")[0] == 554  # of no domain that is here


def test_a_full_account_is_told_at_rcpt(mail: Mail) -> None:
    """452, so that the sender's server keeps the mail; the other accounts go on, and the owner may send."""
    full = "full@example.org"
    mail.cli("account", "add", full, "--password-stdin", "--quota", "2K", stdin=f"{PASSWORD}\n")
    with smtplib.LMTP(str(mail.ports.sockets / "lmtp.sock"), local_hostname="mta.test") as lmtp:
        # Sealed it takes more than that.
        lmtp.sendmail("a@example.net", [full], MESSAGE.ljust(1900, b"x"))
        lmtp.mail("a@example.net")
        said_by_lmtp = lmtp.rcpt(full)
    code, text = rcpt(mail, full)
    assert (code, said_by_lmtp[0]) == (452, 452)
    assert text.startswith(b"4.2.2 ")
    assert text.endswith(b"mailbox full")
    assert rcpt(mail, BOB)[0] == 250
    with mail.submit() as smtp:
        smtp.login(full, PASSWORD)
        smtp.mail(full)
        assert smtp.rcpt(BOB)[0] == 250


def test_a_disabled_account_gets_and_sends_nothing(mail: Mail) -> None:
    """From then on; Postfix remembers nothing."""
    name = "locked@example.org"
    mail.cli("account", "add", name, "--password-stdin", stdin=f"{PASSWORD}\n")
    assert rcpt(mail, name)[0] == 250
    mail.cli("account", "disable", name)
    assert rcpt(mail, name) == (
        550,
        b"5.2.1 <locked@example.org>: Recipient address rejected: mailbox disabled",
    )
    with mail.submit() as smtp, pytest.raises(smtplib.SMTPAuthenticationError) as refused:
        smtp.login(name, PASSWORD)
    assert refused.value.smtp_code == 535


def test_nothing_is_lost_while_sealbox_is_away(mail: Mail) -> None:
    """What Postfix has taken waits in its queue; what it is asked meanwhile is "try again later"."""
    before = mail.waiting()
    with mail.submit() as known, smtplib.SMTP("127.0.0.1", mail.ports.smtp, "localhost", 60) as smtp:
        known.ehlo()
        smtp.ehlo()
        smtp.mail("sender@example.net")
        assert smtp.rcpt(BOB)[0] == 250
        mail.stop_server()
        try:
            assert smtp.data(MESSAGE)[0] == 250
            smtp.mail("sender@example.net")
            assert smtp.rcpt(BOB)[0] == 451
            with pytest.raises(smtplib.SMTPAuthenticationError) as refused:
                known.login(BOB, PASSWORD)
            assert refused.value.smtp_code == 454
        finally:
            mail.serve()
        known.login(BOB, PASSWORD)

    def delivered() -> bool:
        mail.flush()
        return mail.waiting() == before + 1

    eventually(delivered, 60)


def test_no_password_is_in_a_log(mail: Mail) -> None:
    """Neither in ours nor in Postfix's; ours have no name either."""
    written = [path.read_bytes() for path in (mail.folder / "err", *(mail.folder / "data" / "log").iterdir())]
    everything = b"".join((*written, (mail.folder / "postfix" / "log").read_bytes()))
    assert b"sasl_username=bob@example.org" in everything
    assert PASSWORD.encode() not in everything
    assert base64.b64encode(f"\0{BOB}\0{PASSWORD}".encode()) not in everything
    assert b'"command":"SASL AUTH"' in b"".join(written)
    for name in (b"bob", b"ann", b"nobody", b"example.org"):
        assert name not in b"".join(written)
